"""Byte-level byte-pair encoding as GPT-2 has it (Sennrich et al. 2016; Radford et al. 2019), for imported models.

A text is cut into words; the bytes of a word are merged, pair by pair, the pair that was learned first before others.
"""

import heapq
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from charlm.config import Settings
from charlm.tokenizers.base import CODE_POINTS, FIRST_PIECE, Ids, Integers, Tokenizer, spell

MAX_CACHED_WORDS = 1 << 16
"""Words whose ids are remembered, at most."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class BPEConfig(Settings):
    """Nothing to set: such a tokenizer is imported."""


class BPE(Tokenizer):
    """One id a piece of a word, in UTF-8: a piece may end within a character.

    What the tokenizer was trained on is not known, so no character counts as unseen.
    """

    Config: ClassVar[type[Settings]] = BPEConfig
    kind = "bpe"

    def __init__(self, pieces: Sequence[bytes], merges: Sequence[Pair], seen: Integers) -> None:
        """The pieces of two bytes and more, and the ids that are merged, in order. Raises ValueError for nonsense."""
        super().__init__(pieces, seen)
        known = {piece: token for token, piece in enumerate(self._pieces) if piece}
        if len(known) != self.vocab_size - 1 or len(set(merges)) != len(merges):
            raise ValueError("not a list of pieces and merges")
        self._merges = merges
        self._merged: dict[Pair, tuple[int, int]] = {}  # (rank, id) by what is merged
        for rank, (left, right) in enumerate(merges):
            if not (0 < left < self.vocab_size and 0 < right < self.vocab_size):
                raise ValueError("not a list of merges")
            self._merged[left, right] = rank, known[self._pieces[left] + self._pieces[right]]
        self._words: dict[str, list[int]] = {}

    @classmethod
    def train(cls, chunks: Iterable[str], config: Any) -> "BPE":
        """Raises NotImplementedError: charlm learns pieces with SentencePiece."""
        raise NotImplementedError

    def vocabulary(self) -> dict[str, Any]:
        """The pieces, a character for each byte, and the pairs of ids in the order in which they are merged."""
        pieces = [piece.decode("latin-1") for piece in self._pieces[FIRST_PIECE:]]
        return {"pieces": pieces, "merges": [list(pair) for pair in self._merges]}

    @classmethod
    @override
    def from_vocabulary(cls, vocabulary: Mapping[str, Any], seen: Integers) -> "BPE":
        pieces = [piece.encode("latin-1") for piece in vocabulary["pieces"]]
        return cls(pieces, [(int(left), int(right)) for left, right in vocabulary["merges"]], seen)

    @override
    def encode(self, text: str) -> Ids:
        ids: list[int] = []
        for word in words_pattern().findall(text):
            word_ids = self._words.get(word)
            if word_ids is None:
                word_ids = self._encode_word(word)
                if len(self._words) < MAX_CACHED_WORDS:
                    self._words[word] = word_ids
            ids += word_ids
        return np.array(ids, dtype=np.int32)

    @override
    def unseen(self, ids: Any) -> Integers:
        """No spans: which characters training saw is not known."""
        return np.empty((0, 2), dtype=np.int64)

    def _learned_only_from_seen(self) -> bool:
        return True

    def _encode_word(self, word: str) -> list[int]:
        """Merge the pair of the lowest rank, the leftmost of equal ones, until none is left."""
        ids: list[int] = spell(word).tolist()
        after = [*range(1, len(ids)), -1]
        before = [-1, *range(len(ids) - 1)]
        queue = [(*self._merged[pair], at, *pair) for at, pair in enumerate(_pairs(ids)) if pair in self._merged]
        heapq.heapify(queue)
        while queue:
            _, token, at, left, right = heapq.heappop(queue)
            other = after[at] if ids[at] == left else -1
            if other < 0 or ids[other] != right:
                continue  # one of the two was merged meanwhile
            ids[at], ids[other], after[at] = token, 0, after[other]
            if after[at] >= 0:
                before[after[at]] = at
            for first in (before[at], at):
                if first >= 0 and after[first] >= 0 and (pair := (ids[first], ids[after[first]])) in self._merged:
                    heapq.heappush(queue, (*self._merged[pair], first, *pair))
        return [token for token in ids if token]


def _pairs(ids: Sequence[int]) -> Iterator[Pair]:
    return pairwise(ids)


@cache
def words_pattern() -> "re.Pattern[str]":
    """GPT-2's: contractions, letters, numbers and others with a space before them, and white space."""
    letters, numbers = _category("L"), _category("N")
    space = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"
    return re.compile(
        f"'s|'t|'re|'ve|'m|'ll|'d| ?[{letters}]+| ?[{numbers}]+| ?[^{space}{letters}{numbers}]+"
        f"|[{space}]+(?![^{space}])|[{space}]+"
    )


def _category(first: str) -> str:
    """The ranges of the characters whose Unicode category begins with this letter, for a regular expression."""
    inside = np.array([unicodedata.category(chr(code))[0] == first for code in range(CODE_POINTS)])
    edges = np.flatnonzero(np.diff(inside, prepend=False, append=False))
    return "".join(f"\\U{begin:08x}-\\U{end - 1:08x}" for begin, end in edges.reshape(-1, 2).tolist())
