"""What reads a text by the tables of a model, and learns from it.

Shapes: A symbols that training has shown, B streams, T time steps, V vocabulary.
"""

from copy import copy
from typing import Any, NamedTuple

import numpy as np

from charlm.config import BOUNDARY
from charlm.errors import UsageError
from charlm.models.contexts.carried import CARRIED, HISTORY
from charlm.models.contexts.spelling import LOWER, NEWLINE
from charlm.models.contexts.tables import (
    ALL,
    NO_COUNTS,
    NOTHING,
    REACH,
    TRUST_ONLY,
    Array,
    Counts,
    Model,
    Trust,
    new_counts,
    new_place,
    set_offsets,
)
from charlm.models.contexts.tree import huffman
from charlm.progress import Listener

PIECES = 32  # of a text, after each of which the mixers' steps become smaller
MIXERS_RATE, FINAL_RATE, MAPS_RATE, ADJUSTED_RATE = 6e-3, 2e-3, 5e-3, 1e-2
MAX_UPDATES = 1000  # of a slot that are told apart: its rate falls to 1 / 1000
LESSENED = 8.0  # the mixers' steps are divided by 1 at the beginning of the text, by 9 at its end
TRUST_SHARE = 0.2  # of the mixers' rates, where only they learn
MAX_KEPT_BYTES = 1 << 30  # of what is counted in texts that may be read on
FIRST_CAPACITY, GROWTH = 2048, 8  # symbols that there is room to count at first; how many times as many then
ROOM = 4  # times the entries of a training text, since what the model has counted is copied when it changes


class Vocabulary(NamedTuple):
    """What a model knows of its symbols: the ids that training has shown, then all others, then the boundary."""

    ids: Array  # (A,) int64
    codes: Array  # (V,) int32: the symbol of each id
    kinds: Array  # (A + 2,) uint8
    folded: Array  # (A + 2,) int32
    tree: Any  # Tree; the boundary, which is never predicted, has no path

    @classmethod
    def of(cls, ids: Array, counts: Array, kinds: Array, folded: Array) -> "Vocabulary":
        """From the ids and how often each was counted, (A + 1,), and from the kinds and lower case of all V ids."""
        unknown = len(ids)
        codes = np.full(len(kinds), unknown, np.int32)
        codes[ids], codes[BOUNDARY] = np.arange(unknown), unknown + 1
        lower = codes[folded[ids]]
        lower = np.where(lower < unknown, lower, np.arange(unknown))
        tree = huffman(counts)
        paths = {name: getattr(tree, name) for name in ("nodes", "bits", "depth")}
        return cls(
            ids,
            codes,
            np.append(kinds[ids], [LOWER, NEWLINE]).astype(np.uint8),
            np.append(lower, [unknown, unknown + 1]).astype(np.int32),
            tree._replace(**{name: np.concatenate((part, np.zeros_like(part[:1]))) for name, part in paths.items()}),
        )


class Reader:
    """A vocabulary and what was learned, read by the kernel; it stays as it is unless `run` is told to learn."""

    def __init__(self, vocabulary: Vocabulary, trust: Trust, base: Counts = NO_COUNTS, own: Counts = NO_COUNTS) -> None:
        """Raises UsageError where numba is missing."""
        try:
            from charlm.models.contexts import reading
        except ImportError as problem:
            raise UsageError(f"models of contexts need numba, which cannot be imported here: {problem}") from None
        self.vocabulary = vocabulary
        self._kernel, self._learners = reading.read, dict[int, Learner]()
        self.base = base
        self._know(own, trust)

    def _know(self, own: Counts, trust: Trust) -> None:
        v = self.vocabulary
        self.own, self.trust = own, trust
        known = v.kinds, v.folded, *v.tree, set_offsets(len(v.kinds))
        self._model = Model._make((*known, *self.base, *own, *trust))

    def run(
        self,
        h: Array,
        places: tuple[int, int, int],
        carried: Array,
        outputs: "Outputs",
        learn: int = NOTHING,
        share: float = 0.0,
    ) -> None:
        """Read h from the first to the last of the places, the text having begun at the third; `carried` changes.

        learn: NOTHING, TRUST_ONLY or ALL, h then being the text of this reader's own counts. share: of the mixers'
        rates.
        """
        rates = np.array([share * MIXERS_RATE, share * FINAL_RATE, MAPS_RATE, ADJUSTED_RATE], np.float32)
        first, last, start = places
        links = np.empty(last - max(start, first - REACH), np.int32)
        place = new_place(len(self.vocabulary.kinds))  # not kept: several threads may read
        self._kernel(h, *places, carried, self._model, rates, MAX_UPDATES, learn, *outputs, links, place)

    def read(self, history: Array, carried: Array, tokens: Array, outputs: "Outputs") -> tuple[Array, Array]:
        """Read tokens (B, T) after the last symbols read, (B, up to REACH); returns these and what is carried anew."""
        before, carried = history.shape[1], carried.copy()
        h = np.concatenate((history, self.vocabulary.codes[tokens]), 1, dtype=np.int32)
        for b in range(len(h)):
            self.run(h[b], (before, h.shape[1], 0), carried[b], outputs.of(b, 0, h.shape[1] - before))
        return np.ascontiguousarray(h[:, max(0, h.shape[1] - REACH) :]), carried

    def adapt(
        self, history: Array, carried: Array, tokens: Array, outputs: "Outputs", delay: int
    ) -> tuple[Array, Array]:
        """The same with all that was read so far as history, from which each stream learns in counts of its own.

        It begins when so many symbols as `delay` have been read, which the model itself predicts.
        """
        before, carried = history.shape[1], carried.copy()
        h = np.concatenate((history, self.vocabulary.codes[tokens]), 1, dtype=np.int32)
        end = h.shape[1]
        early = min(max(before, delay), end)
        for b in range(len(h) if before < early else 0):
            self.run(h[b], (before, early, 0), carried[b], outputs.of(b, 0, early - before))
        texts = carried[:, HISTORY].tolist()
        for b in range(len(h) if early < end else 0):
            learner = self._learner(texts[b], h[b, :early])
            if texts[b] in texts[b + 1 :]:  # another stream goes on from here, too
                self._learners[texts[b]] = learner.copied()
            learner.read_on(h[b, early:], outputs.of(b, early - before, end - before))
            carried[b] = learner.carried
            self._learners[int(learner.carried[HISTORY])] = learner
        self._drop_oldest(keep=len(h))
        return h, carried

    def _learner(self, text: int, history: Array) -> "Learner":
        """One that has read just this, whose hash is `text`; an earlier one if it is still there."""
        learner = self._learners.pop(text, None)
        if learner is None or not np.array_equal(learner.history, history):
            learner = Learner(self, len(history))
            learner.read_on(history, Outputs.nothing(self.vocabulary))
        return learner

    def _drop_oldest(self, keep: int) -> None:
        """Keep what the next calls may go on with, within MAX_KEPT_BYTES, but as many as streams were read together."""
        size = sum(learner.size for learner in self._learners.values())
        while size > MAX_KEPT_BYTES and len(self._learners) > keep:
            size -= self._learners.pop(next(iter(self._learners))).size


class Trainer(Reader):
    """Learns a model from its training text."""

    def __init__(self, vocabulary: Vocabulary, trust: Trust, text: Array) -> None:
        super().__init__(vocabulary, trust, own=new_counts(len(text)))
        self.own.text[:] = text
        self._learned, self._carried = 0, np.zeros(CARRIED, np.int64)

    def learn(self, end: int, progress: Listener) -> None:
        """Learn the text up to symbol `end`, going on from where it stands, in ever smaller steps."""
        from charlm.jit import is_compiled

        text, nothing = self.own.text, Outputs.nothing(self.vocabulary)
        piece = max(1, len(text) // PIECES)
        if not is_compiled(self._kernel):
            progress("compiling, once on this machine", 0.0)
        while self._learned < end:
            progress("learning", self._learned / len(text))
            last = min(end, self._learned + piece)
            share = 1 / (1 + LESSENED * self._learned / len(text))
            self.run(text, (self._learned, last, 0), self._carried, nothing, ALL, share)
            self._learned = last
        progress("learning", end / len(text))

    def static_trust(self, end: int) -> Trust:
        """The trust that has learned the text from here to `end`, while the counts stay.

        While everything is learned, the counts always know the last pages; those of a model that no longer learns do
        not, and are to be trusted less.
        """
        counts, trust = self.own, self.trust.copied()
        other, nothing = Reader(self.vocabulary, trust, counts), Outputs.nothing(self.vocabulary)
        other.run(counts.text, (self._learned, end, 0), self._carried.copy(), nothing, TRUST_ONLY, TRUST_SHARE)
        return trust


class Learner(Reader):
    """Goes on learning from one text, in counts beside those of a model and in trust of its own.

    A text for which there is no room is read again into larger tables: what was learned of it depends on the text
    alone, not on how it was cut into calls.
    """

    def __init__(self, model: Reader, length: int) -> None:
        """Room for so many symbols, at least."""
        super().__init__(model.vocabulary, model.trust, model.base)
        self._taught = model.trust
        capacity = FIRST_CAPACITY
        while capacity < length:
            capacity *= GROWTH
        self._begin(capacity)

    def _begin(self, capacity: int) -> None:
        self._know(new_counts(capacity, ROOM), self._taught.copied())
        self._end, self.carried = 0, np.zeros(CARRIED, np.int64)

    @property
    def history(self) -> Array:
        """The symbols read so far."""
        return self.own.text[: self._end]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(array.nbytes for array in (*self.own, *self.trust))

    def copied(self) -> "Learner":
        """One that goes on by itself."""
        other = copy(self)
        other._know(Counts(*(array.copy() for array in self.own)), self.trust.copied())
        other.carried = self.carried.copy()
        return other

    def read_on(self, symbols: Array, outputs: "Outputs") -> None:
        """Read symbols (T,), predict as `outputs` say, and learn from them."""
        done = 0
        while done < len(symbols):
            capacity = len(self.own.text)
            if self._end == capacity:
                history = self.history
                self._begin(capacity * GROWTH)
                self._learn(history, Outputs.nothing(self.vocabulary))
                continue
            part = min(len(symbols), done + capacity - self._end)
            self._learn(symbols[done:part], outputs.part(done, part))
            done = part

    def _learn(self, symbols: Array, outputs: "Outputs") -> None:
        first, self._end = self._end, self._end + len(symbols)
        text = self.own.text
        text[first : self._end] = symbols
        self.run(text, (first, self._end, 0), self.carried, outputs, ALL, 1 / (1 + LESSENED))


class Outputs(NamedTuple):
    """What is predicted: ln P of targets into scores, or ln P of all symbols into rows; or neither, of length 0."""

    targets: Array  # (B, T) int32, or (T,) of one stream
    scores: Array  # (B, T) float32
    rows: Array  # (B, T, A + 1) float32

    @classmethod
    def nothing(cls, vocabulary: Vocabulary) -> "Outputs":
        """Of one stream."""
        return cls(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros((0, len(vocabulary.ids) + 1), np.float32))

    def of(self, stream: int, begin: int, end: int) -> "Outputs":
        """That of one stream, for some of the steps."""
        return Outputs(*(array[stream, begin:end] for array in self))

    def part(self, begin: int, end: int) -> "Outputs":
        """That for some of the steps of one stream."""
        return Outputs(*(array[begin:end] for array in self))
