"""A cache: what followed the last few tokens earlier in the text that is being read, mixed into what the counts say.

Names, subjects and habits of a text recur in it long before any training text has shown them, so a model that counts
while it reads predicts better than one that has only counted before (Kuhn & De Mori 1990; the same idea drives PPM,
Cleary & Witten 1984). Here the state holds the last tokens themselves. Every place in them where the last 2, 3, ... 16
tokens stood as they stand now is an echo; what followed it is likely to follow again. For each length a small network,
trained on the validation slice, decides how far to trust the echoes that match at least so far:

    P(w) <- P(w) + trust (echoes followed by w / echoes - P(w))      from the shortest length to the longest

Shapes: B streams, T time steps, R = B T places, N echoes, L lengths, F features, H hidden units.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from charlm.models.ngram.descent import descend
from charlm.models.ngram.smoothing import Numbers
from charlm.models.ngram.windows import Integers
from charlm.progress import Tell
from charlm.threads import ALONE, Workers

RECENT = 4096
"""How far back echoes are looked for if nothing else is asked for."""
LARGEST_WINDOW = 1 << 16
LENGTHS = (16, 11, 8, 6, 5, 4, 3, 2)
"""How many tokens must match."""
L = len(LENGTHS)
BEFORE = LENGTHS[0]
"""Tokens before the window that its oldest echoes are compared with."""
FURTHER = np.arange(3, LENGTHS[0] + 1)  # how far back to compare once three tokens match, and one more
RANKS = np.array([1 + sum(length > matched for length in LENGTHS) for matched in range(LENGTHS[0] + 1)])
FEATURES = 4
HIDDEN = 8
LONGEST = 16  # context of the counts whose length makes a difference to the trust
MOST = 0.999  # trust: so a token that no echo speaks for keeps a positive probability
LARGEST = 1e3  # weight that a file may hold
STEPS = 150
BATCH = 2048
RATE = 2e-2
DECAY = 5  # on the squared weights: worth so many nats over the whole slice
CELLS = 1 << 20  # places times window compared at a time
CHUNK = 1 << 15  # places answered for at once


class Echoes(NamedTuple):
    """The echoes of R places, N in all, and how many of them reach each length.

    `counts` has the repetitions, then the kinds: the first echo of each token that follows, and those after it.
    """

    place: Integers  # (N,) ascending
    follower: Integers  # (N,) the token that came next
    rank: Integers  # (N,) 1 + which of LENGTHS is the longest that matches
    counts: Integers  # (R, 1 + L, 2); column 0 is a length that none reaches


Observed = tuple[Integers, Integers]
"""Echoes of some places: their counts (R, 1 + L, 2), and how many of each length are right (R, L)."""


class Static(NamedTuple):
    """What the counts know of places: the surer they are, the less the cache trusts itself."""

    matched: Integers  # length of the longest context they have seen
    left: Numbers  # what they leave to shorter contexts there


def echoes(stream: Integers, steps: int, window: int) -> Echoes:
    """Of the last `steps` places of each stream, (B, BEFORE + window + steps), -1 where nothing stands."""
    streams, width = stream.shape
    size = stream.itemsize
    shape, strides = (streams, steps, window), (width * size, size, size)
    equal = np.ndarray(shape, stream.dtype, stream, BEFORE * size, strides) == stream[:, -steps:, None]
    equal &= np.ndarray(shape, stream.dtype, stream, (BEFORE - 1) * size, strides) == stream[:, -steps - 1 : -1, None]
    place, start = np.divmod(equal.reshape(-1).nonzero()[0], window)
    symbols, now = stream.reshape(-1), place + (place // steps + 1) * (width - steps)
    then = now + (start - window)
    matched = np.full(len(place), 2)
    three = (symbols.take(then - 2) == symbols.take(now - 2)).nonzero()[0]
    differ = symbols.take(then.take(three)[:, None] - FURTHER) != symbols.take(now.take(three)[:, None] - FURTHER)
    differ[:, -1] = True
    matched[three] = FURTHER.take(differ.argmax(1))
    return tally(place, symbols.take(then + 1), matched, streams * steps)


def tally(place: Integers, follower: Integers, matched: Integers, places: int) -> Echoes:
    """The echoes at some of so many places, of what they are followed by and how many tokens match, all (N,)."""
    packed = place << 32
    packed |= follower
    packed <<= 4
    packed |= RANKS.take(matched)
    packed.sort()
    first = np.ones(len(packed), bool)  # of its kind, the one that reaches furthest
    kind = packed >> 4
    np.not_equal(kind[1:], kind[:-1], first[1:])
    place, rank = kind >> 32, packed & 15
    return Echoes(place, kind & (1 << 32) - 1, rank, _reaching(place, rank, first, places))


def _reaching(place: Integers, rank: Integers, column: Integers, places: int) -> Integers:
    """(R, 1 + L, 2): how many reach each length, in the columns 0 and 1."""
    cells = (place * (L + 1) + rank) * 2 + column
    return np.bincount(cells, minlength=places * (L + 1) * 2).reshape(places, L + 1, 2).cumsum(1)


def _features(counts: Integers) -> Numbers:
    """(R, L, F): repetitions and kinds of the echoes of the next longer length, then of each length itself."""
    logs = np.log1p(counts, dtype=np.float32)
    view: Numbers = np.ndarray((len(logs), L, FEATURES), np.float32, logs, 0, (8 * (L + 1), 8, 4))
    return view


@dataclass(frozen=True)
class Cache:
    """The network that says how far to trust echoes, and what comes of that."""

    window: Integers  # (1,)
    inward: Numbers  # (F, H)
    left: Numbers  # (H,)
    length: Numbers  # (L, H)
    matched: Numbers  # (LONGEST + 1, H)
    outward: Numbers  # (H,)
    bias: Numbers  # (L,)

    @classmethod
    def untrained(cls, window: int) -> "Cache":
        """Some trust in every echo."""
        inward = np.random.default_rng(0).normal(size=(FEATURES, HIDDEN)) / FEATURES**0.5
        zeros = (np.zeros(shape) for shape in (HIDDEN, (L, HIDDEN), (LONGEST + 1, HIDDEN), HIDDEN))
        weights = (inward, *zeros, np.full(L, -2.0))
        return cls(np.array([window]), *(weight.astype(np.float32) for weight in weights))

    @classmethod
    def trained(
        cls,
        window: int,
        observed: Iterable[Observed],
        probability: Numbers,
        static: Static,
        tell: Tell,
    ) -> tuple["Cache", Numbers]:
        """The cache that predicts best, with the counts, the R places `observed` in all.

        The counts say `probability` (R,) of what stands there; returned with the cache is what it makes of that.
        """
        cache = cls.untrained(window)
        if not len(probability):
            return cache, probability
        counts, right = (np.concatenate(c) for c in zip(*observed, strict=True))
        often = counts[:, 1:].sum(2)
        sizes = (torch.from_numpy(column) for column in (often, static.matched))
        numbers = (_features(counts), static.left, probability, right / np.maximum(often, 1))
        (often, matched), (features, left, base, shown) = sizes, (torch.from_numpy(c).float() for c in numbers)
        weights = [torch.from_numpy(weight) for weight in cache._weights()]  # they share their memory

        def predicted(at: Tensor) -> Tensor:
            given, rest = _shares(torch.tanh, weights, features[at], often[at], matched[at], left[at])
            probability: Tensor = rest * base[at] + (given * shown[at]).sum(1)
            return probability

        descend(weights, (*[DECAY] * 5, 0), predicted, len(base), steps=STEPS, batch=BATCH, rate=RATE, tell=tell)
        pieces = torch.split(torch.arange(len(base)), CHUNK)
        return cache, np.concatenate([predicted(piece).numpy() for piece in pieces])

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Cache":
        """What `tensors` gave. Raises ValueError for others."""
        expected, found = (
            {name: (tensor.shape, tensor.dtype) for name, tensor in some.items()}
            for some in (cls.untrained(RECENT).tensors(), tensors)
        )
        weights = [tensor for name, tensor in tensors.items() if name != "window"]
        if expected != found or not (
            1 <= int(tensors["window"][0]) <= LARGEST_WINDOW and all(bool((w.abs() <= LARGEST).all()) for w in weights)
        ):
            raise ValueError("the weights are not those of an n-gram's cache")
        return cls(**{name: tensor.cpu().numpy() for name, tensor in tensors.items()})

    def tensors(self) -> dict[str, Tensor]:
        """What to save."""
        return {field.name: torch.from_numpy(getattr(self, field.name)) for field in fields(self)}

    def initial_state(self, streams: int, vocab_size: int) -> Tensor:
        """(B, 0): nothing read yet. It grows to (B, BEFORE + window), the last tokens."""
        return torch.zeros(streams, 0, dtype=torch.int16 if vocab_size < 1 << 15 else torch.int32)

    def spread(self, probs: Tensor, static: Static, tokens: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (B, T, V) that the counts give after `tokens`, with the echoes; and the new state."""
        stream, last = self._joined(history, tokens)
        V, given, parts = probs.shape[-1], probs.cpu().numpy(), []
        for begin, end, found, amount, rest in self._heard(static, stream, tokens.shape[1]):
            part = given[:, begin:end].reshape(-1, V) * rest[:, None]
            np.add.at(part.reshape(-1), found.place * V + found.follower, amount)
            parts.append(part.reshape(-1, end - begin, V))
        return _tensor(parts, probs), last

    def credit(
        self, probability: Tensor, targets: Tensor, static: Static, tokens: Tensor, history: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same of the targets only: (B, T) -> (B, T)."""
        stream, last = self._joined(history, tokens)
        given, wanted, parts = probability.cpu().numpy(), targets.cpu().numpy(), []
        for begin, end, found, amount, rest in self._heard(static, stream, tokens.shape[1]):
            part = given[:, begin:end].reshape(-1) * rest
            hit = wanted[:, begin:end].reshape(-1)[found.place] == found.follower
            np.add.at(part, found.place[hit], amount[hit])
            parts.append(part.reshape(-1, end - begin))
        return _tensor(parts, probability), last

    def _joined(self, history: Tensor, tokens: Tensor) -> tuple[Integers, Tensor]:
        """What `_heard` wants, (B, BEFORE + all before that matters + T), and the new state."""
        before, window = history.cpu().numpy(), int(self.window[0])
        length = before.shape[1] + tokens.shape[1]
        nothing = np.full((len(before), max(0, BEFORE + min(window, length) - before.shape[1])), -1, before.dtype)
        stream = np.concatenate((nothing, before, tokens.cpu().numpy()), 1, dtype=before.dtype, casting="unsafe")
        last = stream[:, max(0, stream.shape[1] - min(length, BEFORE + window)) :]
        return stream, torch.from_numpy(last).to(history.device)

    def _heard(
        self, static: Static, stream: Integers, steps: int
    ) -> Iterator[tuple[int, int, Echoes, Numbers, Numbers]]:
        """One stretch of time after another: begin, end, its echoes, what each is given (N,), and the counts (R,)."""
        window = stream.shape[1] - steps - BEFORE
        stride = max(1, CELLS // (window * len(stream)))
        for begin in range(0, steps, stride):
            end = min(begin + stride, steps)
            found = echoes(np.ascontiguousarray(stream[:, begin : BEFORE + window + end]), end - begin, window)
            now = Static(static.matched[:, begin:end].reshape(-1), static.left[:, begin:end].reshape(-1))
            yield begin, end, found, *self.trusted(found, now)

    def trusted(self, found: Echoes, static: Static) -> tuple[Numbers, Numbers]:
        """Of the probability at R places, what each echo is given (N,), and what is left to the counts (R,)."""
        often = found.counts[:, 1:, 0] + found.counts[:, 1:, 1]
        given, rest = _shares(np.tanh, self._weights(), _features(found.counts), often, static.matched, static.left)
        given /= np.maximum(often, 1)
        each = given[:, ::-1].cumsum(1)[:, ::-1].reshape(-1)  # (R L,): an echo counts for all lengths it reaches
        return each.take(found.place * L + (found.rank - 1)), rest

    def _weights(self) -> tuple[Numbers, ...]:
        return self.inward, self.left, self.length, self.matched, self.outward, self.bias


def _shares(
    tanh: Callable[[Any], Any], weights: Iterable[Any], features: Any, often: Any, matched: Any, left: Any
) -> tuple[Any, Any]:
    """What the echoes of each length are given of the probability, (R, L), and what is left to the counts, (R,).

    Of arrays or of tensors: the second to learn, the first because they answer a single place several times faster.
    """
    inward, of_left, length, known, outward, bias = weights
    place = known[matched.clip(max=LONGEST)] + left[:, None] * of_left  # (R, H)
    hidden = tanh((features.reshape(-1, FEATURES) @ inward).reshape(-1, L, HIDDEN) + length + place[:, None])
    trust = (1 + tanh(hidden @ outward + bias)) * (MOST / 2) * (often > 0)
    rest = (1 - trust).cumprod(1)  # what this length and longer ones leave
    return trust * rest / (1 - trust), rest[:, -1]


def _tensor(parts: list[Numbers], like: Tensor) -> Tensor:
    """The stretches in one."""
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts, 1) if parts else like.cpu().numpy()
    return torch.from_numpy(whole).to(like.device)


def observe(
    symbols: Integers, window: int, places: Iterable[tuple[int, int]], pool: Workers = ALONE
) -> Iterator[Observed]:
    """The echoes at symbols[begin:end] for each of `places`, in a text (N,) that begins with the boundary."""
    padded = np.concatenate((np.full(BEFORE + window, -1), symbols), dtype=np.int32)
    stride = max(1, CELLS // window)

    def observed(piece: tuple[int, int]) -> Observed:
        begin, end = piece
        stream = padded[begin - 1 : BEFORE + window + end]  # read up to what stands before a place, then that
        place, follower, rank, counts = echoes(stream[None, :-1], end - begin, window)
        hit = stream[place - (end - begin)] == follower
        return counts, _reaching(place, rank, hit, end - begin)[:, 1:, 1]

    pieces = [(at, min(at + stride, last)) for first, last in places for at in range(first, last, stride)]
    return pool.map(observed, pieces)
