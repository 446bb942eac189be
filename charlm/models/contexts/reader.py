"""What reads a text by the tables of a model, and learns from it.

Shapes: A symbols that training has shown, B streams, T time steps, V vocabulary.
"""

from typing import Any, NamedTuple

import numpy as np

from charlm.config import BOUNDARY
from charlm.errors import UsageError
from charlm.models.contexts.spelling import LOWER, NEWLINE
from charlm.models.contexts.tables import ALL, CARRIED, NOTHING, REACH, TRUST, WEIGHTS, Array, Tables, set_offsets
from charlm.models.contexts.tree import huffman
from charlm.progress import Listener

PIECES = 32  # of a text, after each of which the mixers' steps become smaller
MIXERS_RATE, FINAL_RATE, MAPS_RATE, ADJUSTED_RATE, UPDATES = 6e-3, 2e-3, 5e-3, 1e-2, 1000
LESSENED = 8.0  # the mixers' steps are divided by 1 at the beginning of the text, by 9 at its end
TRUST_SHARE = 0.2  # of the mixers' rates, where only they learn
KEPT_BYTES, MOST_KEPT = 1 << 30, 8  # of tables that learn from texts which may be read on


class Vocabulary(NamedTuple):
    """What a model knows of its symbols: the ids that training has shown, then all others, then the boundary."""

    ids: Array  # (A,) int64
    codes: Array  # (V,) int32: the symbol of each id
    kinds: Array  # (A + 2,) uint8
    folded: Array  # (A + 2,) int32
    tree: Any  # Tree; the boundary, which is never predicted, has no path
    levels: Array  # (A,) int32: how deep each node is

    @classmethod
    def of(cls, ids: Array, counts: Array, kinds: Array, folded: Array) -> "Vocabulary":
        """From the ids and how often each was counted, (A + 1,), and from the kinds and lower case of all V ids."""
        unknown = len(ids)
        codes = np.full(len(kinds), unknown, np.int32)
        codes[ids], codes[BOUNDARY] = np.arange(unknown), unknown + 1
        lower = codes[folded[ids]]
        lower = np.where(lower < unknown, lower, np.arange(unknown))
        tree = huffman(counts)
        levels = np.zeros(unknown, np.int32)
        for nodes, depth in zip(tree.nodes, tree.depth, strict=True):
            levels[nodes[:depth]] = np.arange(depth)
        return cls(
            ids,
            codes,
            np.append(kinds[ids], [LOWER, NEWLINE]).astype(np.uint8),
            np.append(lower, [unknown, unknown + 1]).astype(np.int32),
            type(tree)(*(np.concatenate((part, np.zeros_like(part[:1]))) for part in tree)),
            levels,
        )


class Reader:
    """Tables and a vocabulary, read by the kernel; they stay as they are unless `learn` or `adapt` is asked for."""

    def __init__(self, vocabulary: Vocabulary, tables: Tables) -> None:
        """Raises UsageError where numba is missing."""
        try:
            from charlm.models.contexts import reading
        except ImportError as problem:
            raise UsageError(f"models of contexts need numba, which cannot be imported here: {problem}") from None
        self._kernel = reading.read
        self.vocabulary, self.tables = vocabulary, tables
        self._offsets = set_offsets(len(vocabulary.kinds))
        self._learned, self._carried = 0, np.zeros(CARRIED, np.int64)
        self._learners: list[Learner] = []

    def learn(self, end: int, progress: Listener) -> None:
        """Learn the text of the tables up to symbol `end`, going on from where it stands, in ever smaller steps."""
        text = self.tables.text
        piece = max(1, len(text) // PIECES)
        while self._learned < end:
            progress("learning", self._learned / len(text))
            last = min(end, self._learned + piece)
            share = 1 / (1 + LESSENED * self._learned / len(text))
            self.run(text, (self._learned, last, 0), self._carried, share, Wanted.nothing(self.vocabulary), ALL)
            self._learned = last
        progress("learning", end / len(text))

    def trust(self, end: int) -> Tables:
        """The tables with maps and weights that have learned the text from here to `end`, while the counts stay.

        While everything is learned, the counts always know the last pages; those of a model that no longer learns do
        not, and are to be trusted less.
        """
        tables = self.tables._replace(**{name: getattr(self.tables, name).copy() for name in TRUST})
        other, nothing = Reader(self.vocabulary, tables), Wanted.nothing(self.vocabulary)
        other.run(tables.text, (self._learned, end, 0), self._carried.copy(), TRUST_SHARE, nothing, WEIGHTS)
        return tables

    def run(
        self, h: Array, places: tuple[int, int, int], carried: Array, share: float, wanted: "Wanted", learn: int
    ) -> None:
        """Read h from the first to the last of the places, the text having begun at the third; `carried` changes.

        share: of the mixers' rates. learn: NOTHING, WEIGHTS or ALL, h then being the text of the tables.
        """
        v, rates = self.vocabulary, np.array([share * MIXERS_RATE, share * FINAL_RATE, MAPS_RATE, ADJUSTED_RATE])
        settings = rates.astype(np.float32), UPDATES, learn
        self._kernel(
            h, *places, carried, v.kinds, v.folded, self.tables, v.tree, v.levels, self._offsets, *settings, *wanted
        )

    def read(self, history: Array, carried: Array, tokens: Array, wanted: "Wanted") -> tuple[Array, Array]:
        """Read tokens (B, T) after the last symbols read, (B, up to REACH); returns these and what is carried anew."""
        before, carried = history.shape[1], carried.copy()
        h = np.concatenate((history, self.vocabulary.codes[tokens]), 1, dtype=np.int32)
        for b in range(len(h)):
            self.run(h[b], (before, h.shape[1], 0), carried[b], 0.0, wanted.of(b, 0, h.shape[1] - before), NOTHING)
        return np.ascontiguousarray(h[:, max(0, h.shape[1] - REACH) :]), carried

    def adapt(self, history: Array, carried: Array, tokens: Array, wanted: "Wanted", delay: int) -> tuple[Array, Array]:
        """The same with all that was read so far as history, from which copies of the tables have learned.

        They begin when so many symbols as `delay` have been read, which the tables themselves predict.
        """
        before, carried = history.shape[1], carried.copy()
        h = np.concatenate((history, self.vocabulary.codes[tokens]), 1, dtype=np.int32)
        end = h.shape[1]
        early = min(max(before, delay), end)
        for b in range(len(h)):
            if before < early:
                self.run(h[b], (before, early, 0), carried[b], 0.0, wanted.of(b, 0, early - before), NOTHING)
            if early < end:
                learner = self._learner(h[b, :early])
                learner.read(h[b, early:], wanted.of(b, early - before, end - before))
                carried[b] = learner.carried
        return h, carried

    @property
    def max_learners(self) -> int:
        """How many texts can be read by turns; more would be read again from their beginning at every turn."""
        size = sum(array.nbytes for array in self.tables)
        return max(1, min(MOST_KEPT, KEPT_BYTES // size))

    def _learner(self, history: Array) -> "Learner":
        """One that has read just this, an earlier one if it is still there; the others are kept for later calls."""
        for number, learner in enumerate(self._learners):
            if np.array_equal(learner.history, history):
                self._learners.append(self._learners.pop(number))
                return learner
        del self._learners[: max(0, len(self._learners) + 1 - self.max_learners)]
        learner = Learner(self.vocabulary, self.tables)
        learner.read(history, Wanted.nothing(self.vocabulary))
        self._learners.append(learner)
        return learner


class Learner(Reader):
    """A copy of the tables that goes on learning from one text."""

    def __init__(self, vocabulary: Vocabulary, tables: Tables) -> None:
        super().__init__(vocabulary, Tables(*(array.copy() for array in tables)))
        self._begin = self._end = len(tables.text)
        self.carried = np.zeros(CARRIED, np.int64)

    @property
    def history(self) -> Array:
        """The symbols read so far."""
        return self.tables.text[self._begin : self._end]

    def read(self, symbols: Array, wanted: "Wanted") -> None:  # type: ignore[override]
        """Read symbols (T,), predict as `wanted` says, and learn from them."""
        end = self._end + len(symbols)
        if end > len(self.tables.text):
            room = np.zeros(end + (end - self._begin), np.int32)
            room[: self._end] = self.tables.text[: self._end]
            self.tables = self.tables._replace(text=room)
        self.tables.text[self._end : end] = symbols
        self.run(self.tables.text, (self._end, end, self._begin), self.carried, 1 / (1 + LESSENED), wanted, ALL)
        self._end = end


class Wanted(NamedTuple):
    """What is predicted: ln P of targets into scores, or ln P of all symbols into rows; or neither, of length 0."""

    targets: Array  # (B, T) int32
    scores: Array  # (B, T) float32
    rows: Array  # (B, T, A + 1) float32

    @classmethod
    def nothing(cls, vocabulary: Vocabulary) -> "Wanted":
        """Of one stream."""
        return cls(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros((0, len(vocabulary.ids) + 1), np.float32))

    def of(self, stream: int, begin: int, end: int) -> "Wanted":
        """That of one stream, for some of the steps."""
        return Wanted(*(part[stream, begin:end] for part in self))
