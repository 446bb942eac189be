"""Conversion between the table of a model and the probabilities of n-grams in ARPA files.

The model stores the interpolated form, P(w | h) = mass(h w) + backoff(h) P(w | h'), where h' is h without its first
symbol. An ARPA file stores P(w | h) of the n-grams in it; all others have backoff(h) P(w | h').
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from charlm.models.ngram.counting import Level
from charlm.models.ngram.model import NGram
from charlm.models.ngram.smoothing import Estimate, Numbers
from charlm.models.ngram.windows import Integers

TOLERANCE = 1e-3  # |sum of probabilities - 1| after a context; files with few digits come close to it
MIN_PROBABILITY = 1e-12  # of a unigram: with 0 the token would be impossible in every context
MIN_BACKOFF = 1e-6  # with 0, a token that never follows the context would be impossible after it
MIN_LOWER_SHARE = 1e-6  # of backoff(h) P(w | h'): a smaller probability could become 0 in float32


class Entries(NamedTuple):
    """The M n-grams of one length, in lexicographic order."""

    parent: Integers  # (M,) ascending: row of the n-gram without its last symbol, one length down
    symbol: Integers  # (M,) the last symbol, ascending within a parent
    suffix: Integers  # (M,) row of the n-gram without its first symbol, one length down
    probability: Numbers  # (M,) P(last symbol | the others); NaN: backed off to the shorter context
    backoff: Numbers  # (M,) of the n-gram as a context

    def __len__(self) -> int:
        return len(self.parent)


class Deviation(NamedTuple):
    """The number of contexts whose probabilities do not sum to 1, and the worst of them."""

    contexts: int = 0
    length: int = 0  # of the context
    row: int = 0
    total: float = 1.0

    def and_of(self, length: int, totals: Numbers) -> "Deviation":
        """With the contexts of this length included, whose probabilities sum to `totals`."""
        if not len(totals):
            return self
        off = np.abs(totals - 1)
        row = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
        worst = (length, row, float(totals[row])) if not off[row] <= abs(self.total - 1) else self[1:]
        return Deviation(self.contexts + int((~(off <= TOLERANCE)).sum()), *worst)


def entries(model: NGram) -> Iterator[Entries]:
    """The n-grams of each length, from 1 on; at length 1, row s is symbol s."""
    nodes = [0, *model.levels.tolist()]
    symbols, mass, backoff = model.symbol.numpy(), model.mass.double().numpy(), model.backoff.double().numpy()
    parents = np.repeat(np.arange(len(backoff)), model.first.diff().numpy())  # of each n-gram, its parent's node
    probability = model.unigram.double().numpy()[model.ids.numpy()]
    alphabet = len(model.ids)
    keys = suffix = np.zeros(0, np.int64)
    for context, (begin, end) in zip(nodes, pairwise(nodes[1:]), strict=False):
        rows = slice(begin - 1, end - 1)
        parent, symbol = parents[rows] - context, symbols[rows].astype(np.int64)
        if context:
            suffix = np.searchsorted(keys, suffix[parent] * alphabet + symbol)
            probability = mass[rows] + backoff[parents[rows]] * probability[suffix]
        else:
            suffix = np.zeros(alphabet, np.int64)
        keys = parent * alphabet + symbol
        longest = end > len(backoff)
        yield Entries(parent, symbol, suffix, probability, np.ones(end - begin) if longest else backoff[begin:end])


def normalised(levels: Sequence[Entries], raised: int | None = None) -> tuple[list[Estimate], Deviation]:
    """The n-grams in the form that the model stores, each context scaled to sum to 1; and how far they were off.

    The symbol `raised`, if there is one, gets at least its backed-off probability after every context.
    """
    lower = np.maximum(levels[0].probability, MIN_PROBABILITY)
    total = lower.sum(keepdims=True)
    deviation = Deviation().and_of(0, total)
    lower = lower / total
    estimates = [Estimate(lower, np.array([MIN_PROBABILITY]))]
    for length, (context, level) in enumerate(pairwise(levels), 1):
        backoff = np.maximum(context.backoff, MIN_BACKOFF)
        share = backoff[level.parent] * lower[level.suffix]
        lowest = MIN_LOWER_SHARE * share
        probability = np.where(np.isnan(level.probability), share, np.maximum(level.probability, lowest))
        if raised is not None:
            probability = np.where(level.symbol == raised, np.maximum(probability, share), probability)
        total = backoff + np.bincount(level.parent, probability - share, len(context))
        deviation = deviation.and_of(length, total)
        lower = probability / total[level.parent]
        estimates.append(Estimate(lower - share / total[level.parent], backoff / total))
    return estimates, deviation


def relabelled(
    levels: Sequence[Entries], estimates: Sequence[Estimate], new_symbols: Integers, newline: int | None
) -> tuple[list[Level], list[Estimate]]:
    """The n-grams with symbol new_symbols[s] in place of s; masses of n-grams that become equal are added.

    All that follows symbol 0, with which a text begins, is copied to follow symbol `newline` as well, if there is one.
    """
    alphabet = int(new_symbols.max()) + 1
    row_of, copy_of = new_symbols, np.array([] if newline is None else [newline], np.int64)  # rows one level down
    mass = np.bincount(new_symbols, estimates[0].mass, alphabet).astype(np.float64)
    nothing = np.zeros(alphabet, np.int64)
    new_levels = [Level(nothing, np.arange(alphabet), nothing, nothing)]
    new_estimates = [Estimate(mass, np.maximum(1 - mass.sum(keepdims=True), MIN_PROBABILITY))]
    for level, estimate in zip(levels[1:], estimates[1:], strict=True):
        backoff = np.ones(len(new_levels[-1]))
        backoff[row_of[::-1]] = estimate.backoff[::-1]  # of several that become equal, the first counts
        backoff[copy_of] = estimate.backoff[: len(copy_of)]
        begin = np.searchsorted(level.parent, len(copy_of))  # n-grams that begin with symbol 0 come first
        copied = slice(0, begin if newline is not None else 0)
        parent = np.concatenate((row_of[level.parent], copy_of[level.parent[copied]]))
        symbol = np.concatenate((new_symbols[level.symbol], new_symbols[level.symbol[copied]]))
        suffix = np.concatenate((row_of[level.suffix], row_of[level.suffix[copied]]))
        _, first, row = np.unique(parent * alphabet + symbol, return_index=True, return_inverse=True)
        mass = np.bincount(row, np.append(estimate.mass, estimate.mass[copied]), len(first)).astype(np.float64)
        new_levels.append(Level(parent[first], symbol[first], np.zeros(0, np.int64), suffix[first]))
        new_estimates.append(Estimate(mass, backoff))
        row_of, copy_of = row[: len(level)], row[len(level) :]
    return new_levels, new_estimates
