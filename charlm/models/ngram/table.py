"""From the table of a model to the probabilities of its n-grams, as ARPA files hold them, and back.

The model stores what a context adds to what the context one shorter says, P(w | h) = mass(h w) + backoff(h) P(w | h').
An ARPA file has P(w | h) itself for the n-grams there are, and backoff(h) P(w | h') for all others.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from charlm.models.ngram.counting import Integers, Level
from charlm.models.ngram.fitting import NGramConfig
from charlm.models.ngram.model import NGram
from charlm.models.ngram.smoothing import Estimate, Numbers

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


class Unnormalised(ValueError):  # noqa: N818 - says what the table is
    """The probabilities after a context, n-gram `row` of this `length`, add up to `total`."""

    def __init__(self, length: int, row: int, total: float) -> None:
        super().__init__(f"probabilities add up to {total:.4g}, not 1")
        self.length, self.row, self.total = length, row, total


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


def tabulate(config: NGramConfig, vocab_size: int, ids: Integers, unigram: Numbers, levels: Sequence[Entries]) -> NGram:
    """The model whose n-grams these are, symbol s being the token ids[s], and unigram (V,) the P of every token.

    What follows each context is made to add up to 1. Raises Unnormalised where that would change it by more than
    TOLERANCE, which is more than rounding.
    """
    unigram = np.maximum(unigram, LEAST)
    unigram = unigram / _checked(0, unigram.sum(keepdims=True))
    lower: Numbers = unigram[ids]
    rest = max(1 - float(lower.sum()), LEAST)
    estimates = [Estimate(lower, np.array([rest]))]
    for length, (context, level) in enumerate(pairwise(levels), 1):
        backoff = np.maximum(context.backoff, LEAST_BACKOFF)
        share = backoff[level.parent] * lower[level.suffix]
        probability = np.where(np.isnan(level.probability), share, np.maximum(level.probability, LEAST_SHARE * share))
        total = _checked(length, backoff + np.bincount(level.parent, probability - share, len(context)))
        lower = probability / total[level.parent]
        estimates.append(Estimate(lower - share / total[level.parent], backoff / total))
    counted = [Level(level.parent, level.symbol, np.zeros(0, np.int64), level.suffix) for level in levels]
    return NGram.from_levels(config, vocab_size, ids, counted, estimates, unigram)


def _checked(length: int, totals: Numbers) -> Numbers:
    """`totals` if all are nearly 1."""
    off = np.abs(totals - 1)
    if not (off <= TOLERANCE).all():
        row = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
        raise Unnormalised(length, row, float(totals[row]))
    return totals
