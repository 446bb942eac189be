"""Baselines without a model, which a trained model should beat."""

import lzma
import math
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Protocol

from charlm.corpus import Text

UNICODE_CHARACTERS = 0x110000 - 0x800
"""All code points but the surrogates."""


class Compressor(Protocol):
    """The interface of the compressors of zlib and lzma."""

    def compress(self, data: bytes, /) -> bytes: ...  # noqa: D102
    def flush(self) -> bytes: ...  # noqa: D102


COMPRESSORS: dict[str, tuple[Callable[[], Compressor], int]] = {
    "gzip -9": (lambda: zlib.compressobj(9, zlib.DEFLATED, 31), 2**20),
    "xz -9": (lambda: lzma.LZMACompressor(preset=9), 2**26),
}
"""How to create each, and the bytes of the training text that it reads first: at least its window."""


def baselines(training: Text, held_out: Text) -> dict[str, float]:
    """Bits per character of the held-out text without a model, by the name in tables.

    For a compressor this is compressed(training + held out) - compressed(training); it reads only the end of a long
    training text. Both texts are read as streams.
    """
    bits = {"uniform": uniform_bits(training, held_out)}
    for name, (start, reach) in COMPRESSORS.items():
        before = _tail(training, reach)
        both = _compressed(start(), chain([before], _bytes(held_out)))
        bits[name] = 8.0 * (both - _compressed(start(), [before]))
    return {name: total / held_out.characters for name, total in bits.items()}


def uniform_bits(training: Text, held_out: Text) -> float:
    """Bits of the held-out text if all characters of the training text are equally likely.

    If the held-out text has other characters, an escape symbol is added, after which all others of Unicode are equally
    likely.
    """
    alphabet = _counts(training).keys()
    unseen = sum(count for character, count in _counts(held_out).items() if character not in alphabet)
    return held_out.characters * math.log2(len(alphabet) + (unseen > 0)) + unseen * math.log2(
        UNICODE_CHARACTERS - len(alphabet)
    )


def _counts(text: Text) -> Counter[str]:
    counts: Counter[str] = Counter()
    for chunk in text.chunks():
        counts.update(chunk)
    return counts


def _bytes(text: Text) -> Iterator[bytes]:
    return (chunk.encode() for chunk in text.chunks())


def _tail(text: Text, size: int) -> bytes:
    """The last `size` bytes of a text, or all of it."""
    chunks: deque[bytes] = deque()
    excess = -size  # bytes in `chunks` beyond the size
    for chunk in _bytes(text):
        chunks.append(chunk)
        excess += len(chunk)
        while excess >= len(chunks[0]):
            excess -= len(chunks.popleft())
    return b"".join(chunks)[-size:]


def _compressed(compressor: Compressor, chunks: Iterable[bytes]) -> int:
    return sum(len(compressor.compress(chunk)) for chunk in chunks) + len(compressor.flush())
