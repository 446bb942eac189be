"""From the table of a model to the probabilities of its n-grams, as ARPA files hold them, and back.

The model stores what a context adds to what the context one shorter says, P(w | h) = mass(h w) + backoff(h) P(w | h').
An ARPA file has P(w | h) itself for the n-grams there are, and backoff(h) P(w | h') for all others.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from charlm.models.ngram.counting import Level
from charlm.models.ngram.model import NGram
from charlm.models.ngram.smoothing import Estimate, Numbers
from charlm.models.ngram.windows import Integers

TOLERANCE = 1e-3  # how far from 1 the probabilities after a context may add up, as files with few digits make them
LEAST = 1e-12  # probability of a token in no context: a zero would be a zero everywhere
LEAST_BACKOFF = 1e-6  # the same for what follows a context nowhere in the text
LEAST_SHARE = 1e-6  # of what the shorter context says: with less, float32 could not tell a probability from 0


class Entries(NamedTuple):
    """The M n-grams of one length in lexicographic order, each known by the n-gram without its last symbol."""

    parent: Integers  # (M,) ascending: row of the n-gram without its last symbol, one length down
    symbol: Integers  # (M,) the last symbol, ascending within a parent
    suffix: Integers  # (M,) row of the n-gram without its first symbol, one length down
    probability: Numbers  # (M,) P(last symbol | those before it); NaN: what the shorter context says
    backoff: Numbers  # (M,) of the n-gram as a context

    def __len__(self) -> int:
        return len(self.parent)


class Deviation(NamedTuple):
    """After how many contexts the probabilities do not add up to 1, and where they do least."""

    contexts: int = 0
    length: int = 0  # of the context
    row: int = 0
    total: float = 1.0

    def and_of(self, length: int, totals: Numbers) -> "Deviation":
        """With the contexts of this length, whose probabilities add up to `totals`."""
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
    """The n-grams as the model stores them, what follows each context scaled to add up to 1; and how far it was off.

    The symbol `raised`, if any, is made no less probable after a context than the shorter context says.
    """
    lower = np.maximum(levels[0].probability, LEAST)
    total = lower.sum(keepdims=True)
    deviation = Deviation().and_of(0, total)
    lower = lower / total
    estimates = [Estimate(lower, np.array([LEAST]))]
    for length, (context, level) in enumerate(pairwise(levels), 1):
        backoff = np.maximum(context.backoff, LEAST_BACKOFF)
        share = backoff[level.parent] * lower[level.suffix]
        probability = np.where(np.isnan(level.probability), share, np.maximum(level.probability, LEAST_SHARE * share))
        if raised is not None:
            probability = np.where(level.symbol == raised, np.maximum(probability, share), probability)
        total = backoff + np.bincount(level.parent, probability - share, len(context))
        deviation = deviation.and_of(length, total)
        lower = probability / total[level.parent]
        estimates.append(Estimate(lower - share / total[level.parent], backoff / total))
    return estimates, deviation


def relabelled(
    levels: Sequence[Entries], estimates: Sequence[Estimate], become: Integers, newline: int | None
) -> tuple[list[Level], list[Estimate]]:
    """The n-grams with symbol become[s] for s; of those that then are the same, the masses add up.

    What follows symbol 0, with which a text begins, follows symbol `newline` as well, if there is one.
    """
    alphabet = int(become.max()) + 1
    row_of, copy_of = become, np.array([] if newline is None else [newline], np.int64)  # of the n-grams one shorter
    mass = np.bincount(become, estimates[0].mass, alphabet).astype(np.float64)
    nothing = np.zeros(alphabet, np.int64)
    new = [Level(nothing, np.arange(alphabet), nothing, nothing)]
    found = [Estimate(mass, np.maximum(1 - mass.sum(keepdims=True), LEAST))]
    for level, estimate in zip(levels[1:], estimates[1:], strict=True):
        backoff = np.ones(len(new[-1]))
        backoff[row_of[::-1]] = estimate.backoff[::-1]  # of several that become one, the first is a context
        backoff[copy_of] = estimate.backoff[: len(copy_of)]
        begin = np.searchsorted(level.parent, len(copy_of))  # n-grams that begin with symbol 0 come first
        copied = slice(0, begin if newline is not None else 0)
        parent = np.concatenate((row_of[level.parent], copy_of[level.parent[copied]]))
        symbol = np.concatenate((become[level.symbol], become[level.symbol[copied]]))
        suffix = np.concatenate((row_of[level.suffix], row_of[level.suffix[copied]]))
        _, first, row = np.unique(parent * alphabet + symbol, return_index=True, return_inverse=True)
        mass = np.bincount(row, np.append(estimate.mass, estimate.mass[copied]), len(first)).astype(np.float64)
        new.append(Level(parent[first], symbol[first], np.zeros(0, np.int64), suffix[first]))
        found.append(Estimate(mass, backoff))
        row_of, copy_of = row[: len(level)], row[len(level) :]
    return new, found
