"""Bytes of any kind as ids: what is coded, and what proves that it came back.

Shapes: N tokens, V vocabulary.
"""

import codecs
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from charlm.corpus import Stream, Text, encode
from charlm.progress import Listener, silent
from charlm.tokenizers import FIRST_BYTE, Tokenizer

STRIP = 1 << 20  # bytes or tokens that are looked at together
_LEAD, _FIRST_ESCAPE = FIRST_BYTE + 0xED, 0xDC00  # U+DC80 .. U+DCFF begin with this byte in UTF-8


@dataclass(frozen=True)
class Content:
    """Some bytes as ids (N,), how many bytes, how many characters if they are UTF-8, and their SHA-256."""

    ids: Stream
    size: int
    characters: int | None
    sha256: str

    @classmethod
    def of_text(cls, ids: Stream, text: Text) -> "Content":
        """A text and its ids."""
        return cls(ids, text.bytes, text.characters, text.sha256)

    @classmethod
    def of_bytes(cls, data: bytes | memoryview, tokenizer: Tokenizer, progress: Listener = silent) -> "Content":
        """Text in UTF-8 as `evaluate` reads it; in anything else, each byte that is not UTF-8 by its own id.

        `progress` is told (what is being done, fraction done).
        """
        view = memoryview(data)
        if _is_utf8(view):
            text = Text.from_utf8(view, "")
            return cls.of_text(encode(text, tokenizer, progress=progress), text)
        ids, digest = _ids_of_binary(view, tokenizer), hashlib.sha256(view).hexdigest()
        if hashlib.sha256(spelled(ids, tokenizer.pieces())).hexdigest() != digest:
            ids = np.frombuffer(view, np.uint8).astype(np.uint32) + FIRST_BYTE  # a piece stands for a lone surrogate
        return cls(ids, len(view), None, digest)


def spelled(ids: npt.ArrayLike, pieces: Sequence[bytes]) -> bytes:
    """The bytes that ids (N,) stand for."""
    tokens = np.asarray(ids)
    strips = (tokens[begin : begin + STRIP].tolist() for begin in range(0, len(tokens), STRIP))
    return b"".join([b"".join([pieces[token] for token in strip]) for strip in strips])


def _strips(view: memoryview) -> Iterator[memoryview]:
    return (view[begin : begin + STRIP] for begin in range(0, len(view), STRIP))


def _is_utf8(view: memoryview) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for strip in _strips(view):
            decoder.decode(strip)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _ids_of_binary(view: memoryview, tokenizer: Tokenizer) -> Stream:
    """The ids of bytes that are not UTF-8, strip by strip, (N,).

    Python decodes each wrong byte to a lone surrogate (PEP 383), which tokenizers spell in three bytes; those become
    the one id of the byte that they stand for.
    """
    parts = [np.empty(0, np.uint32)]
    for strip in _strips(view):
        ids = tokenizer.encode(str(strip, "utf-8", "surrogateescape")).astype(np.uint32)
        first, second, third = ids[:-2], ids[1:-1], ids[2:]
        escaped = (first == _LEAD) & (second >= FIRST_BYTE + 0xB2) & (second <= FIRST_BYTE + 0xB3)
        places = np.flatnonzero(escaped)
        bits = (second[places] - FIRST_BYTE & 0x3F) << 6 | (third[places] - FIRST_BYTE & 0x3F)
        ids[places] = FIRST_BYTE + (0xD000 | bits) - _FIRST_ESCAPE
        parts.append(np.delete(ids, np.concatenate((places + 1, places + 2))))
    return np.concatenate(parts)
