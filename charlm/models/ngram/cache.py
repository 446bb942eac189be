"""A cache: what followed the last few tokens earlier in the text that is being read, mixed into the table's P.

Names, subjects and habits of a text recur in it even if no training text has them, so a model that also counts while it
reads predicts better (Kuhn & De Mori 1990; PPM, Cleary & Witten 1984, uses the same idea). Here the state holds the
last tokens. A place in them that follows the same 2, 3, ... 16 tokens as the current place is a match; the token there
is likely to come next. For each length a small network, trained on the validation slice, computes the weight of the
matches of at least that length:

    P(w) <- P(w) + weight (matches followed by w / matches - P(w))      from the shortest length to the longest

Shapes: B streams, T time steps, R = B T places, N matches, L lengths, F features, H hidden units.
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
from charlm.ranks import BY_ITSELF, Ranks
from charlm.threads import ALONE, Workers

DEFAULT_WINDOW = 4096  # tokens
MAX_WINDOW = 1 << 16  # tokens
MATCH_LENGTHS = (16, 11, 8, 6, 5, 4, 3, 2)
"""The numbers of matching tokens that have weights of their own."""
L = len(MATCH_LENGTHS)
MAX_MATCH = MATCH_LENGTHS[0]
"""The state also holds this many tokens before the window, to measure the matches at its beginning."""
OFFSETS_COMPARED = np.arange(3, MAX_MATCH + 1)  # tokens back, once three match; the last stands for "all match"
RANK_OF_LENGTH = np.array([1 + sum(length > matched for length in MATCH_LENGTHS) for matched in range(MAX_MATCH + 1)])
"""Of a match of 0, 1, ... MAX_MATCH tokens: 1 + the index of the first of MATCH_LENGTHS that it reaches."""
FEATURES_PER_LENGTH = 4
HIDDEN_UNITS = 8
MAX_CONTEXT = 16  # symbols; longer contexts of the table share a row of weights
MAX_TRUST = 0.999  # of the weight of the matches: a token that follows none of them keeps a positive probability
MAX_ABS_WEIGHT = 1e3  # of the weights in a file
ADAM_STEPS = 150
PLACES_PER_BATCH = 2048
LEARNING_RATE = 2e-2
WEIGHT_DECAY_NATS = 5  # times the squared weights, over the whole slice
MAX_COMPARISONS = 1 << 20  # places times window, in one call
PLACES_PER_CHUNK = 1 << 15


class CacheMatches(NamedTuple):
    """The N matches of R places, and how many of them reach each length.

    A match is a repetition if a longer or equally long one at the same place is followed by the same token; the others
    are counted as kinds. `counts` holds the repetitions, then the kinds.
    """

    place: Integers  # (N,) ascending
    follower: Integers  # (N,) the token that came next
    rank: Integers  # (N,) 1 + the index of the longest of MATCH_LENGTHS that it reaches
    counts: Integers  # (R, 1 + L, 2); column 0 is a length that no match reaches


ObservedMatches = tuple[Integers, Integers]
"""CacheMatches of some places: their counts (R, 1 + L, 2), and how many of each length are right (R, L)."""


class TableFeatures(NamedTuple):
    """Features of places in the table. The more certain the table is, the smaller the weight of the cache."""

    context_length: Integers  # symbols of the longest context that was counted
    backoff: Numbers  # its back-off weight

    @classmethod
    def of(cls, contexts: Tensor, backoff: Tensor) -> "TableFeatures":
        """(B, T) each, given the nodes (B, T, K) of the counted contexts and the back-off weights of all nodes."""
        nodes = contexts.cpu().numpy()
        longest = nodes.max(2, initial=0)  # nodes are numbered by length, so the longest context has the highest
        return cls((nodes >= 0).sum(2), backoff.cpu().numpy().take(longest))


def find_matches(stream: Integers, steps: int, window: int) -> CacheMatches:
    """The matches of the last `steps` places of each stream (B, MAX_MATCH + window + steps), padded with -1."""
    streams, width = stream.shape
    size = stream.itemsize
    shape, strides = (streams, steps, window), (width * size, size, size)
    equal = np.ndarray(shape, stream.dtype, stream, MAX_MATCH * size, strides) == stream[:, -steps:, None]
    equal &= (
        np.ndarray(shape, stream.dtype, stream, (MAX_MATCH - 1) * size, strides) == stream[:, -steps - 1 : -1, None]
    )
    place, start = np.divmod(equal.reshape(-1).nonzero()[0], window)
    symbols, now = stream.reshape(-1), place + (place // steps + 1) * (width - steps)
    then = now + (start - window)
    matched = np.full(len(place), 2)
    three = (symbols.take(then - 2) == symbols.take(now - 2)).nonzero()[0]
    differ = symbols.take(then.take(three)[:, None] - OFFSETS_COMPARED) != symbols.take(
        now.take(three)[:, None] - OFFSETS_COMPARED
    )
    differ[:, -1] = True
    matched[three] = OFFSETS_COMPARED.take(differ.argmax(1))
    return tally_matches(place, symbols.take(then + 1), matched, streams * steps)


def tally_matches(place: Integers, follower: Integers, matched: Integers, places: int) -> CacheMatches:
    """The matches given by their place, the token that follows and the number of matching tokens, all (N,)."""
    packed = place << 32
    packed |= follower
    packed <<= 4
    packed |= RANK_OF_LENGTH.take(matched)
    packed.sort()
    first = np.ones(len(packed), bool)  # the longest match of a place and a following token
    kind = packed >> 4
    np.not_equal(kind[1:], kind[:-1], first[1:])
    place, rank = kind >> 32, packed & 15
    return CacheMatches(place, kind & (1 << 32) - 1, rank, _count_by_length(place, rank, first, places))


def _count_by_length(place: Integers, rank: Integers, column: Integers, places: int) -> Integers:
    """(R, 1 + L, 2): how many matches reach each length, counted in column 0 or 1."""
    index = (place * (L + 1) + rank) * 2 + column
    return np.bincount(index, minlength=places * (L + 1) * 2).reshape(places, L + 1, 2).cumsum(1)


def _features(counts: Integers) -> Numbers:
    """(R, L, F): logarithms of repetitions and kinds, of the next longer length and of each length itself."""
    logs = np.log1p(counts, dtype=np.float32)
    view: Numbers = np.ndarray((len(logs), L, FEATURES_PER_LENGTH), np.float32, logs, 0, (8 * (L + 1), 8, 4))
    return view


@dataclass(frozen=True)
class Cache:
    """The network that computes the weights of the matches, and how they are mixed with the table."""

    window: Integers  # (1,)
    inward: Numbers  # (F, H)
    left: Numbers  # (H,)
    length: Numbers  # (L, H)
    matched: Numbers  # (MAX_CONTEXT + 1, H)
    outward: Numbers  # (H,)
    bias: Numbers  # (L,)

    @classmethod
    def untrained(cls, window: int) -> "Cache":
        """A cache with initial weights, which gives the matches of each length the same small weight."""
        inward = np.random.default_rng(0).normal(size=(FEATURES_PER_LENGTH, HIDDEN_UNITS)) / FEATURES_PER_LENGTH**0.5
        zeros = (
            np.zeros(shape)
            for shape in (HIDDEN_UNITS, (L, HIDDEN_UNITS), (MAX_CONTEXT + 1, HIDDEN_UNITS), HIDDEN_UNITS)
        )
        weights = (inward, *zeros, np.full(L, -2.0))
        return cls(np.array([window]), *(weight.astype(np.float32) for weight in weights))

    @classmethod
    def trained(
        cls,
        window: int,
        observed: Iterable[ObservedMatches],
        probability: Numbers,
        table: TableFeatures,
        tell: Tell,
    ) -> tuple["Cache", Numbers]:
        """Train a cache on R places, given their matches and the table's `probability` (R,) of the tokens there.

        The second value is the probability of these tokens with the cache, (R,).
        """
        cache = cls.untrained(window)
        if not len(probability):
            return cache, probability
        counts, hits = (np.concatenate(c) for c in zip(*observed, strict=True))
        totals = counts[:, 1:].sum(2)
        hit_share = torch.from_numpy(hits / np.maximum(totals, 1)).float()
        base = torch.from_numpy(probability).float()
        inputs = (
            torch.from_numpy(_features(counts)).float(),
            torch.from_numpy(totals),
            torch.from_numpy(table.context_length),
            torch.from_numpy(table.backoff).float(),
        )
        weights = [torch.from_numpy(weight) for weight in cache._weights()]  # views of the cache's arrays

        def predicted(sample: Tensor) -> Tensor:
            by_length, of_table = _mixing_weights(torch.tanh, weights, *(column[sample] for column in inputs))
            probability: Tensor = of_table * base[sample] + (by_length * hit_share[sample]).sum(1)
            return probability

        descend(
            weights,
            (*[WEIGHT_DECAY_NATS] * 5, 0),
            predicted,
            len(base),
            steps=ADAM_STEPS,
            batch=PLACES_PER_BATCH,
            rate=LEARNING_RATE,
            tell=tell,
        )
        chunks = torch.split(torch.arange(len(base)), PLACES_PER_CHUNK)
        return cache, np.concatenate([predicted(chunk).numpy() for chunk in chunks])

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Cache":
        """Inverse of `tensors`. Raises ValueError for tensors of other names, shapes or types, and absurd values."""
        expected, given = (
            {name: (tensor.shape, tensor.dtype) for name, tensor in some.items()}
            for some in (cls.untrained(DEFAULT_WINDOW).tensors(), tensors)
        )
        weights = [tensor for name, tensor in tensors.items() if name != "window"]
        if expected != given or not (
            1 <= int(tensors["window"][0]) <= MAX_WINDOW
            and all(bool((w.abs() <= MAX_ABS_WEIGHT).all()) for w in weights)
        ):
            raise ValueError("the weights are not those of an n-gram's cache")
        return cls(**{name: tensor.cpu().numpy() for name, tensor in tensors.items()})

    def tensors(self) -> dict[str, Tensor]:
        """The tensors to save."""
        return {field.name: torch.from_numpy(getattr(self, field.name)) for field in fields(self)}

    def initial_state(self, streams: int, vocab_size: int) -> Tensor:
        """(B, 0): no tokens yet. The state grows to (B, MAX_MATCH + window), the last tokens."""
        return torch.zeros(streams, 0, dtype=torch.int16 if vocab_size < 1 << 15 else torch.int32)

    def mix(self, probs: Tensor, table: TableFeatures, tokens: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the matches into the table's probabilities (B, T, V) after `tokens` (B, T); and the new state."""
        stream, new_history = self._joined(history, tokens)
        V, table_probs, parts = probs.shape[-1], probs.cpu().numpy(), []
        for begin, end, matches, weights, of_table in self._segments(table, stream, tokens.shape[1]):
            part = table_probs[:, begin:end].reshape(-1, V) * of_table[:, None]
            np.add.at(part.reshape(-1), matches.place * V + matches.follower, weights)
            parts.append(part.reshape(-1, end - begin, V))
        return _concatenated(parts, probs), new_history

    def mix_targets(
        self, probability: Tensor, targets: Tensor, table: TableFeatures, tokens: Tensor, history: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`mix` for the probabilities of the targets only, (B, T) -> (B, T)."""
        stream, new_history = self._joined(history, tokens)
        table_probs, target_ids, parts = probability.cpu().numpy(), targets.cpu().numpy(), []
        for begin, end, matches, weights, of_table in self._segments(table, stream, tokens.shape[1]):
            part = table_probs[:, begin:end].reshape(-1) * of_table
            hit = target_ids[:, begin:end].reshape(-1)[matches.place] == matches.follower
            np.add.at(part, matches.place[hit], weights[hit])
            parts.append(part.reshape(-1, end - begin))
        return _concatenated(parts, probability), new_history

    def _joined(self, history: Tensor, tokens: Tensor) -> tuple[Integers, Tensor]:
        """The history, padded with -1, and the tokens (B, MAX_MATCH + history in the window + T); the new state."""
        before, window = history.cpu().numpy(), int(self.window[0])
        length = before.shape[1] + tokens.shape[1]
        padding = np.full((len(before), max(0, MAX_MATCH + min(window, length) - before.shape[1])), -1, before.dtype)
        stream = np.concatenate((padding, before, tokens.cpu().numpy()), 1, dtype=before.dtype, casting="unsafe")
        new_history = stream[:, max(0, stream.shape[1] - min(length, MAX_MATCH + window)) :]
        return stream, torch.from_numpy(new_history).to(history.device)

    def _segments(
        self, table: TableFeatures, stream: Integers, steps: int
    ) -> Iterator[tuple[int, int, CacheMatches, Numbers, Numbers]]:
        """Segments of the time steps: begin, end, the matches, their weights (N,) and those of the table (R,)."""
        window = stream.shape[1] - steps - MAX_MATCH
        stride = max(1, MAX_COMPARISONS // (window * len(stream)))
        for begin in range(0, steps, stride):
            end = min(begin + stride, steps)
            segment = np.ascontiguousarray(stream[:, begin : MAX_MATCH + window + end])
            matches = find_matches(segment, end - begin, window)
            features = TableFeatures(
                table.context_length[:, begin:end].reshape(-1), table.backoff[:, begin:end].reshape(-1)
            )
            yield begin, end, matches, *self.weigh_matches(matches, features)

    def weigh_matches(self, matches: CacheMatches, table: TableFeatures) -> tuple[Numbers, Numbers]:
        """The weights of the matches (N,) and of the table (R,), which sum to 1 at each of R places."""
        totals = matches.counts[:, 1:, 0] + matches.counts[:, 1:, 1]
        by_length, of_table = _mixing_weights(np.tanh, self._weights(), _features(matches.counts), totals, *table)
        by_length /= np.maximum(totals, 1)
        cumulative = (
            by_length[:, ::-1].cumsum(1)[:, ::-1].reshape(-1)
        )  # (R L,): a match counts for all lengths it reaches
        return cumulative.take(matches.place * L + (matches.rank - 1)), of_table

    def _weights(self) -> tuple[Numbers, ...]:
        return self.inward, self.left, self.length, self.matched, self.outward, self.bias


def _mixing_weights(
    tanh: Callable[[Any], Any], weights: Iterable[Any], features: Any, totals: Any, context_length: Any, backoff: Any
) -> tuple[Any, Any]:
    """The weights of the matches of each length (R, L) and of the table (R,).

    Works on tensors, for training, and on arrays, which are several times faster for a single place.
    """
    inward, of_backoff, of_length, of_context, outward, bias = weights
    place = of_context[context_length.clip(max=MAX_CONTEXT)] + backoff[:, None] * of_backoff  # (R, H)
    matches = (features.reshape(-1, FEATURES_PER_LENGTH) @ inward).reshape(-1, L, HIDDEN_UNITS)  # (R, L, H)
    hidden = tanh(matches + of_length + place[:, None])
    trust = (1 + tanh(hidden @ outward + bias)) * (MAX_TRUST / 2) * (totals > 0)
    rest = (1 - trust).cumprod(1)  # the weight left by this length and all longer ones
    return trust * rest / (1 - trust), rest[:, -1]


def _concatenated(parts: list[Numbers], like: Tensor) -> Tensor:
    """The segments in one tensor, on the device of `like`; `like` itself if there are none."""
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts, 1) if parts else like.cpu().numpy()
    return torch.from_numpy(whole).to(like.device)


def observe_matches(
    symbols: Integers,
    window: int,
    places: Iterable[tuple[int, int]],
    pool: Workers = ALONE,
    ranks: Ranks = BY_ITSELF,
) -> Iterator[ObservedMatches]:
    """The matches at symbols[begin:end] for each of `places`, in a text (N,) that begins with the boundary.

    Several `ranks` share the work, and rank 0 gets what all have found.
    """
    padded = np.concatenate((np.full(MAX_MATCH + window, -1), symbols), dtype=np.int32)
    stride = max(1, MAX_COMPARISONS // window)

    def observed(piece: tuple[int, int]) -> ObservedMatches:
        begin, end = piece
        stream = padded[begin - 1 : MAX_MATCH + window + end]  # up to the last place, whose token is a target only
        place, follower, rank, counts = find_matches(stream[None, :-1], end - begin, window)
        hit = stream[place - (end - begin)] == follower
        return counts, _count_by_length(place, rank, hit, end - begin)[:, 1:, 1]

    pieces = [(at, min(at + stride, last)) for first, last in places for at in range(first, last, stride)]
    matches = pool.map(observed, pieces[ranks.rows(len(pieces))])
    return matches if ranks.size == 1 else _matches_on_main(list(matches), pieces, ranks)


def _matches_on_main(
    own: list[ObservedMatches], pieces: list[tuple[int, int]], ranks: Ranks
) -> Iterator[ObservedMatches]:
    """On rank 0 the matches of all pieces, of which each rank has some; empty ones elsewhere."""
    nothing = np.zeros((0, L + 1, 2), np.int64), np.zeros((0, L), np.int64)
    columns = [np.concatenate(ranks.to_main(np.concatenate(column))) for column in zip(nothing, *own, strict=True)]
    ends = np.cumsum([end - begin for begin, end in pieces])[:-1]
    return zip(*(np.split(column, ends) for column in columns), strict=True)
