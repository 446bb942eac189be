"""Discounts that a small network computes for each context. They predict better than those of Kneser-Ney.

Kneser-Ney uses the same D1, D2, D3+ for all contexts of a length, and either counts of occurrences or numbers of
predecessors. Here a network reads statistics of a context (its count, how many symbols follow it, how many of them
once, twice, ...; the same for the context without its first symbol; its last symbol; its length) and computes the
discounts of counts of 1, 2, 3, and 4 or more, for both kinds of counts, and the weights of the two kinds. It is trained
on the validation slice, which is then counted too. The discounts depend on the context only, so they are computed once
and the model stays a table. The network starts as Kneser-Ney and stays close to it if the slice is short.
Related: Jelinek & Mercer 1980 (weights by bucket of counts, from held-out text); Chen & Goodman 1999 (discounts by
count).
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding

from charlm.models.ngram.counting import Level
from charlm.models.ngram.descent import descend
from charlm.models.ngram.smoothing import (
    FALLBACK_DISCOUNTS,
    Estimate,
    Numbers,
    adjusted_counts,
    counts_of_counts,
    discounts_of,
    with_contexts,
)
from charlm.models.ngram.windows import Integers
from charlm.progress import Tell
from charlm.threads import Workers

COUNT_CLASSES = 4  # counts of 1, 2, 3, and 4 or more have discounts of their own
HIDDEN_UNITS = 16
ADAM_STEPS = 300
PLACES_PER_BATCH = 512
LEARNING_RATE = 1e-2
WEIGHT_DECAY_NATS = 5  # times the squared weights, over the whole slice
SYMBOL_DECAY_NATS = 20  # the same for the weights of a symbol, for which there is less data
CONTEXTS_PER_CHUNK = 1 << 15


class ContextStatistics:
    """What the gate reads of the C contexts of a level, computed from both kinds of counts of its M n-grams.

    The kinds are the occurrences of an n-gram and the number of different symbols that precede it.
    """

    def __init__(self, level: Level, occurring: Integers, preceding: Integers, contexts: int) -> None:
        self._level, self._kinds = level, (occurring, preceding)
        self.counts = np.stack(self._kinds).astype(np.float32)  # (2, M)
        self.total = np.zeros((2, contexts), np.float32)
        self.types = np.zeros((2, COUNT_CLASSES, contexts), np.float32)  # n-grams of each class
        self.features = np.zeros((2 * (COUNT_CLASSES + 5), contexts), np.float32).T  # (C, F)

    def fill(self, begin: int) -> None:
        """Compute the statistics of the CONTEXTS_PER_CHUNK contexts from `begin` on."""
        contexts = slice(begin, begin + CONTEXTS_PER_CHUNK)
        ngrams = slice(*np.searchsorted(self._level.parent, (begin, begin + CONTEXTS_PER_CHUNK)))
        total, types = self.total[:, contexts], self.types[:, :, contexts]  # views, filled below
        size = total.shape[1]
        top = np.zeros_like(total)
        parent = self._level.parent[ngrams].astype(np.int64) - begin
        first = np.flatnonzero(np.diff(parent, prepend=-1))  # the first n-gram of each context that has any
        for kind, counts in enumerate(part[ngrams] for part in self._kinds):
            total[kind] = np.bincount(parent, counts, size)
            class_of = parent * COUNT_CLASSES + counts.clip(1, COUNT_CLASSES) - 1
            types[kind] = np.bincount(class_of, counts > 0, size * COUNT_CLASSES).reshape(size, COUNT_CLASSES).T
            top[kind, parent[first]] = np.maximum.reduceat(self.counts[kind, ngrams], first) if len(first) else 0
        any_class = types.sum(1)  # (2, C')
        columns = (
            np.log1p(total) / 3,
            np.log1p(any_class) / 2,
            *(np.log1p(types) / 2).swapaxes(0, 1),
            any_class / (total + 1),
            types[:, 0] / (any_class + 1),
            top / np.maximum(total, 1),
        )
        self.features.T[:, contexts] = np.concatenate(columns)

    def observed(self, contexts: Integers, ngrams: Integers) -> tuple[Tensor, ...]:
        """What `_interpolation` needs, besides the inputs, of P places, given the rows of contexts and n-grams."""
        rows = np.maximum(contexts, 0)
        known = (contexts >= 0) & (self.total[1, rows] > 0)
        counts = np.where(ngrams >= 0, self.counts[:, np.maximum(ngrams, 0)], 0).T  # (P, 2)
        total = np.maximum(self.total[:, rows].T, 1)  # (P, 2)
        types = self.types[:, :, rows].transpose(2, 0, 1)  # (P, 2, COUNT_CLASSES)
        classes = counts.clip(1, COUNT_CLASSES).astype(np.int64) - 1
        return tuple(torch.from_numpy(np.ascontiguousarray(a)) for a in (known, counts, classes, total, types))

    def estimate(self, begin: int, end: int, estimate: Estimate, discounts: Numbers, share: Numbers) -> None:
        """Fill in mass and back-off of the contexts begin..end, given what a gate computes for them."""
        contexts, ngrams = slice(begin, end), slice(*np.searchsorted(self._level.parent, (begin, end)))
        total = np.maximum(self.total[:, contexts], 1)  # (2, C')
        discounted = (discounts * self.types[:, :, contexts].transpose(2, 0, 1)).sum(-1) / total.T  # (C', 2)
        estimate.backoff[contexts] = np.where(self.total[1, contexts] > 0, (discounted * share).sum(-1), 1.0)
        parent = self._level.parent[ngrams] - begin
        for kind, counts in enumerate(self.counts[:, ngrams]):
            discount = discounts[parent, kind, counts.clip(1, COUNT_CLASSES).astype(int) - 1]
            remaining = np.maximum(counts - discount, 0) / total[kind, parent]
            estimate.mass[ngrams] += share[parent, kind] * remaining


class Gate:
    """The network: two layers that read the F features of a context and of its suffix, its last symbol, its length."""

    def __init__(self, symbols: int, counts_of_counts: Sequence[Iterable[Integers]]) -> None:
        """For contexts of `symbols` symbols; `counts_of_counts` of both kinds of counts, for each level."""
        generator = torch.Generator().manual_seed(0)
        inputs = 4 * (COUNT_CLASSES + 5)
        self.inward = torch.randn(inputs, HIDDEN_UNITS, generator=generator) / inputs**0.5
        self.length = torch.zeros(len(counts_of_counts), HIDDEN_UNITS)
        self.symbol = torch.zeros(symbols + 1, HIDDEN_UNITS)
        self.outward = torch.zeros(HIDDEN_UNITS, 2 * COUNT_CLASSES + 1)
        initial = [_initial_outputs(*kinds) for kinds in counts_of_counts]
        self.bias = torch.logit(torch.tensor(initial))  # (K, 2 COUNT_CLASSES + 1)

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """The tensors that are trained."""
        return self.inward, self.length, self.symbol, self.outward, self.bias

    def __call__(self, features: Tensor, symbol: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """(.., 2 F), (..), (1) or (K) -> discounts (.., 2, COUNT_CLASSES), and the weights of the two kinds (.., 2)."""
        symbol = symbol.clamp(max=len(self.symbol) - 1)  # symbols that did not occur in training share the last row
        length = length.clamp(max=len(self.length) - 1)
        hidden = (features @ self.inward + embedding(symbol, self.symbol) + self.length[length]).tanh()
        outputs = torch.sigmoid(hidden @ self.outward + self.bias[length])
        discounts = outputs[..., :-1].reshape(*symbol.shape, 2, COUNT_CLASSES) * torch.arange(1, COUNT_CLASSES + 1)
        return discounts, torch.stack((1 - outputs[..., -1], outputs[..., -1]), -1)


def gated_estimates(levels: Sequence[Level], gate: Gate, pool: Workers) -> list[Estimate]:
    """The estimates of each level with the discounts of a trained gate."""
    statistics = statistics_of(levels, adjusted_counts(levels), pool)
    estimates = [empty_estimate(statistic) for statistic in statistics]
    chunks = [
        (k, begin)
        for k, estimate in enumerate(estimates)
        for begin in range(0, len(estimate.backoff), CONTEXTS_PER_CHUNK)
    ]
    list(pool.map(lambda chunk: _gate_chunk(levels, statistics, gate, estimates, *chunk), chunks))
    return estimates


def empty_estimate(statistic: ContextStatistics) -> Estimate:
    """No mass and no discounts, to be filled in by `ContextStatistics.estimate`."""
    return Estimate(np.zeros(statistic.counts.shape[1], np.float32), np.ones(len(statistic.features), np.float32))


def _gate_chunk(
    levels: Sequence[Level],
    statistics: Sequence[ContextStatistics],
    gate: Gate,
    estimates: Sequence[Estimate],
    k: int,
    begin: int,
) -> None:
    """Fill in the estimates of level k + 1 for the CONTEXTS_PER_CHUNK contexts from `begin` on."""
    end = min(len(estimates[k].backoff), begin + CONTEXTS_PER_CHUNK)
    outputs = gate(*context_inputs(levels, statistics, k, np.arange(begin, end)), torch.tensor([k]))
    statistics[k].estimate(begin, end, estimates[k], *(output.numpy() for output in outputs))


def train_gate(
    levels: Sequence[Level], contexts: Integers, ngrams: Integers, base: Numbers, pool: Workers, tell: Tell
) -> tuple[Gate, Numbers, Numbers]:
    """Train a gate on P places, whose rows of contexts and n-grams, both (P, K), are those of `matching.look_up`.

    Also returns the mass of these n-grams and the back-off of these contexts with its discounts, both (P, K).
    """
    adjusted = adjusted_counts(levels)
    counts = [(level.count, preceding) for level, preceding in zip(levels, adjusted, strict=True)]
    gate = Gate(int(levels[0].symbol[-1]) + 1, [[counts_of_counts(kind) for kind in kinds] for kinds in counts])
    statistics = statistics_of(levels, adjusted, pool)
    by_length = []
    for k, statistic in enumerate(statistics):
        inputs = context_inputs(levels, statistics, k, np.maximum(contexts[:, k], 0))
        by_length.append((*inputs, *statistic.observed(contexts[:, k], ngrams[:, k])))
    observed = [torch.stack(columns, 1) for columns in zip(*by_length, strict=True)]
    return gate, *fit_gate(gate, observed, ngrams[:, 0], base, tell)


def fit_gate(
    gate: Gate, observed: Sequence[Tensor], unigrams: Integers, base: Numbers, tell: Tell
) -> tuple[Numbers, Numbers]:
    """Train the gate on P places; returns mass and back-off there, see `train_gate`.

    `observed` are the inputs and `ContextStatistics.observed` of all levels, (P, K, ..) each; `unigrams` (P,) the rows
    of the symbols.
    """
    at = np.where(unigrams >= 0, unigrams, 0)
    lowest = torch.from_numpy(np.where(unigrams >= 0, base[at], 1 - base.sum() + 1e-9).astype(np.float32))

    def predicted(sample: Tensor) -> Tensor:
        return _interpolated(lowest[sample], *_interpolation(gate, [column[sample] for column in observed]))

    descend(
        gate.weights,
        (WEIGHT_DECAY_NATS, WEIGHT_DECAY_NATS, SYMBOL_DECAY_NATS, WEIGHT_DECAY_NATS, 0),
        predicted,
        len(lowest),
        steps=ADAM_STEPS,
        batch=PLACES_PER_BATCH,
        rate=LEARNING_RATE,
        tell=tell,
    )
    chunks = zip(*(torch.split(column, CONTEXTS_PER_CHUNK) for column in observed), strict=True)
    pairs = [_interpolation(gate, chunk) for chunk in chunks]
    mass, backoff = (torch.cat(columns).numpy() for columns in zip(*pairs, strict=True))
    return mass, backoff


def _initial_outputs(*kinds: Integers) -> list[float]:
    """The outputs of an untrained gate: the discounts of Kneser-Ney, and a weight of 0.9 for its kind of counts."""
    discounts = [discounts_of(n) or FALLBACK_DISCOUNTS for n in kinds]
    shares = [d / j for ds in discounts for j, d in enumerate((*ds, ds[2] + 0.3), 1)]
    return [min(max(share, 0.02), 0.98) for share in shares] + [0.9]


def statistics_of(levels: Sequence[Level], adjusted: Sequence[Integers], pool: Workers) -> list[ContextStatistics]:
    """The statistics of the contexts of each level, given the adjusted counts of their n-grams."""
    return [
        statistics_of_level(level, preceding, contexts, pool)
        for (level, contexts), preceding in zip(with_contexts(levels), adjusted, strict=True)
    ]


def statistics_of_level(level: Level, adjusted: Integers, contexts: int, pool: Workers) -> ContextStatistics:
    """The statistics of so many contexts of one level."""
    statistic = ContextStatistics(level, level.count, adjusted, contexts)
    list(pool.map(statistic.fill, range(0, contexts, CONTEXTS_PER_CHUNK)))
    return statistic


def context_inputs(
    levels: Sequence[Level], statistics: Sequence[ContextStatistics], k: int, rows: Integers
) -> tuple[Tensor, Tensor]:
    """The gate's inputs for contexts of length k: features of the contexts and their suffixes, last symbols."""
    own = statistics[k].features[rows]
    if k == 0:
        suffix, symbol = np.zeros_like(own), np.zeros_like(rows)
    else:
        level = levels[k - 1]
        suffix = statistics[k - 1].features[level.suffix[rows] if k > 1 else np.zeros_like(rows)]
        symbol = level.symbol[rows]
    features = torch.from_numpy(np.concatenate((own, suffix), 1))
    return features, torch.from_numpy(symbol.astype(np.int64))


def _interpolation(gate: Gate, observed: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mass and back-off (P, K) at P places, equal to those of `gated_estimates`."""
    features, symbol, known, counts, classes, total, types = observed
    discounts, share = gate(features, symbol, torch.arange(symbol.shape[1]))  # (P, K, 2, COUNT_CLASSES), (P, K, 2)
    discount = discounts.gather(-1, classes.unsqueeze(-1)).squeeze(-1)
    share = share / total
    mass = (share * (counts - discount) * (counts > 0)).sum(-1) * known
    return mass, torch.where(known, (share * (discounts * types).sum(-1)).sum(-1), 1.0)


def _interpolated(probability: Tensor, mass: Tensor, backoff: Tensor) -> Tensor:
    """P of the symbols at P places with all contexts, given their `probability` (P,) without any."""
    for level_mass, level_backoff in zip(mass.unbind(1), backoff.unbind(1), strict=True):
        probability = level_mass + level_backoff * probability
    return probability
