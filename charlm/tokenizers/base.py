"""Text <-> ids. The law: `decode(encode(text)) == text` for every str whatsoever.

Ids, for every tokenizer: `charlm.config.BOUNDARY` (0) is the boundary (before the first token of a text; never encoded,
decodes to nothing); 1..256 are the 256 byte values; from 257 on come the learned pieces. Whatever the pieces cannot
spell is spelled in UTF-8 bytes, so nothing is ever unknown and nothing is ever dropped. A lone surrogate has bytes too:
those that UTF-8 would give its code point ("surrogatepass").
"""

import codecs
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from charlm.config import Settings
from charlm.errors import CheckpointError

FIRST_BYTE = 1
FIRST_PIECE = FIRST_BYTE + 256
CODE_POINTS = 0x110000

Ids = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]

TOKENIZER_FILE = "tokenizer.json"
_IDS_PER_BLOCK = 1 << 20  # ids looked at together


class Tokenizer(ABC):
    """One way of cutting text into ids. Frozen once trained; two with equal `files()` are the same tokenizer."""

    Config: ClassVar[type[Settings]]
    kind: ClassVar[str]  # its name in TOKENIZERS, on the command line and in the checkpoint
    unit: ClassVar[str] = "pieces"  # what it learns

    seen: Integers
    """The code points of the training part, ascending: its alphabet, with or without an id of their own."""

    def __init__(self, learned: Iterable[bytes], seen: Integers) -> None:
        """The learned pieces in the order of their ids, and every code point of the training part, ascending."""
        self.seen = seen
        self._seen = np.zeros(CODE_POINTS, dtype=np.bool_)
        self._seen[seen] = True
        self._pieces = [b"", *(bytes([value]) for value in range(256)), *learned]

    @classmethod
    @abstractmethod
    def train(cls, chunks: Iterable[str], config: Any) -> "Tokenizer":
        """Learn the vocabulary from the training part of a text, given in order as chunks of any size.

        How the text is cut into chunks makes no difference.
        """

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """The ids of a text, (N,) int32; never the boundary."""

    @abstractmethod
    def vocabulary(self) -> dict[str, Any]:
        """What, together with the kind, decides every id: JSON values by name."""

    @classmethod
    @abstractmethod
    def from_vocabulary(cls, vocabulary: Mapping[str, Any], seen: Integers) -> "Tokenizer":
        """Rebuild from `vocabulary()`. Raises ValueError, KeyError or TypeError for what cannot be one."""

    def files(self) -> dict[str, bytes]:
        """What a checkpoint stores: file name -> content; deterministic, and all that `from_files` needs."""
        return {TOKENIZER_FILE: _json({"kind": self.kind, **self.vocabulary(), "seen": self.seen.tolist()})}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "Tokenizer":
        """Rebuild from `files()`. Raises CheckpointError that names the file for anything malformed."""
        if TOKENIZER_FILE not in files:
            raise CheckpointError(
                f"{TOKENIZER_FILE} is missing: the run is incomplete; take a whole copy of it or train again"
            )
        try:
            data = json.loads(files[TOKENIZER_FILE])
            tokenizer = cls.from_vocabulary(data, code_points_from_json(data["seen"]))
            sound = tokenizer.files()[TOKENIZER_FILE] == files[TOKENIZER_FILE] and tokenizer._learned_only_from_seen()
        except (ValueError, KeyError, TypeError, OverflowError, RuntimeError):
            sound = False
        if not sound:
            raise CheckpointError(
                f"{TOKENIZER_FILE}: not what charlm writes for a tokenizer of kind {cls.kind!r}: damaged, edited or "
                "from another version; take an intact copy of the run or train again"
            )
        return tokenizer

    def also_seeing(self, seen: Integers) -> "Tokenizer":
        """The same tokenizer, every id as it is, for a model that has learned from these code points as well."""
        return type(self).from_vocabulary(self.vocabulary(), np.union1d(self.seen, seen))

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of all that decides an id: equal for two that encode every text alike."""
        return hashlib.sha256(_json({"kind": self.kind, **self.vocabulary()})).hexdigest()

    @property
    def vocab_size(self) -> int:
        """V: the number of ids, boundary and bytes included."""
        return len(self._pieces)

    @classmethod
    def ids_in_words(cls, vocab_size: int) -> str:
        """What so many ids are: those that were learned, and those that every tokenizer of ours has."""
        learned = vocab_size - FIRST_PIECE
        bytes_ = "256 bytes for all others" if learned else "256 bytes"
        return f"{vocab_size:,} ids: " + (f"{learned:,} {cls.unit}, " if learned else "") + f"{bytes_}, 1 boundary"

    def pieces(self) -> list[bytes]:
        """The UTF-8 bytes that each id stands for, (V,): b"" for the boundary, one byte for a byte id."""
        return list(self._pieces)

    @cached_property
    def characters_begun(self) -> Integers:
        """The number of characters that begin in the bytes of each id, (V,)."""
        return np.array([sum(not _continues(byte) for byte in piece) for piece in self._pieces], np.int64)

    @cached_property
    def begins_within(self) -> Integers:
        """1 for each id whose first byte continues a character, 0 for the others; (V,)."""
        return np.array([_continues(piece[0]) if piece else 0 for piece in self._pieces], np.int64)

    @cached_property
    def whole_texts(self) -> list[str]:
        """The text of each id that stands for whole characters, (V,); "" for the others."""
        return [_whole(piece) for piece in self._pieces]

    def byte_lengths(self) -> Integers:
        """How many bytes each id stands for, (V,) int64."""
        return np.fromiter(map(len, self._pieces), dtype=np.int64, count=self.vocab_size)

    def spelled(self) -> list[str]:
        """The characters of the training part that have no id of their own: those that are spelled in bytes."""
        own = set(self._pieces[FIRST_PIECE:])
        return [c for c in map(chr, self.seen.tolist()) if c.encode("utf-8", "surrogatepass") not in own]

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of some ids, (N,) of any integer type; bytes that are no UTF-8 become U+FFFD."""
        numbers = np.asarray(ids, dtype=np.int64).tolist()
        assert not numbers or min(numbers) >= 0, "ids count from 0"
        return b"".join([self._pieces[number] for number in numbers]).decode("utf-8", _DECODE_ERRORS)

    def unseen(self, ids: npt.NDArray[np.integer[Any]]) -> Integers:
        """Where the characters are that training never saw: (K, 2) int64, first token and one past the last of each.

        ids: whole characters as `encode` gave them, (N,) of any integer type. No piece holds such a character, so each
        is spelled in bytes and costs the sum of `bits[first:last]`. Raises ValueError for bytes that are no UTF-8.
        """
        spans = [np.empty((0, 2), dtype=np.int64)]
        first = 0
        while first < len(ids):
            last = first + _IDS_PER_BLOCK
            while last < len(ids) and FIRST_BYTE + 0x80 <= ids[last] < FIRST_BYTE + 0xC0:
                last += 1  # never between the bytes of one character
            spans.append(first + self._unseen_in_block(ids[first:last]))
            first = last
        return np.concatenate(spans)

    def _unseen_in_block(self, ids: npt.NDArray[np.integer[Any]]) -> Integers:
        places = np.flatnonzero((ids >= FIRST_BYTE) & (ids < FIRST_PIECE))
        spelled = (ids[places] - FIRST_BYTE).astype(np.uint8)
        starts = np.flatnonzero(spelled & 0xC0 != 0x80)
        unseen = ~self._seen[code_points(spelled.tobytes().decode("utf-8", "surrogatepass"))]
        firsts = places[starts[unseen]]
        return np.stack([firsts, firsts + np.diff(starts, append=len(spelled))[unseen]], axis=1)

    def _learned_only_from_seen(self) -> bool:
        learned = b"".join(self._pieces[FIRST_PIECE:]).decode("utf-8", "surrogatepass")
        return bool(self._seen[code_points(learned)].all())


class StreamDecoder:
    """Ids to text as they come, whole characters only; what it returns, joined, is `Tokenizer.decode` of all ids.

    `copy.copy` gives one that goes on by itself from the same place, at no cost.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._pieces, self._texts = tokenizer.pieces(), tokenizer.whole_texts
        self._begun = b""  # the first bytes of a character that is not complete

    def push(self, token: int) -> str:
        """The characters that this id completes; "" while one is still incomplete."""
        if not self._begun and (whole := self._texts[token]):
            return whole
        self._begun += self._pieces[token]
        text, used = codecs.utf_8_decode(self._begun, _DECODE_ERRORS, False)
        self._begun = self._begun[used:]
        return text

    def finish(self) -> str:
        """What an unfinished character leaves, as U+FFFD; the decoder is then as new."""
        text, self._begun = self._begun.decode("utf-8", _DECODE_ERRORS), b""
        return text


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """The code points of a text, (N,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def spell(text: str) -> Ids:
    """The byte ids of a text, (N,) int32."""
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8).astype(np.int32) + FIRST_BYTE


def count(chunk: str, counts: Integers) -> None:
    """Add the occurrences of each code point to `counts`, (CODE_POINTS,)."""
    occurrences = np.bincount(code_points(chunk))
    counts[: len(occurrences)] += occurrences


def alphabet(chunks: Iterable[str]) -> Integers:
    """Every code point of a text, ascending, (N,)."""
    counts = np.zeros(CODE_POINTS, dtype=np.int64)
    for chunk in chunks:
        count(chunk, counts)
    return np.flatnonzero(counts)


def code_points_from_json(values: Sequence[int]) -> Integers:
    """A list of code points that ascend, (N,) int64. Raises ValueError for anything else."""
    array = np.array(values, dtype=np.int64)
    if array.ndim != 1 or (np.diff(array, prepend=-1, append=CODE_POINTS) <= 0).any():
        raise ValueError("not a list of ascending code points")
    return array


def _continues(byte: int) -> bool:
    """Whether a byte of UTF-8 continues a character."""
    return byte & 0xC0 == 0x80


def _whole(piece: bytes) -> str:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return ""


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"


def _mend(problem: UnicodeError) -> tuple[str | bytes, int]:
    """The three bytes of a surrogate stand for it, as `encode` wrote them; whatever else is no UTF-8 becomes U+FFFD."""
    assert isinstance(problem, UnicodeDecodeError)
    try:
        return _surrogate(problem)
    except UnicodeDecodeError:
        return "\ufffd", problem.end


_DECODE_ERRORS = "charlm-mend"
_surrogate = codecs.lookup_error("surrogatepass")
codecs.register_error(_DECODE_ERRORS, _mend)
