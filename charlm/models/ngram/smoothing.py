"""From counts to probabilities. Every smoother computes the same two numbers:

    P(w | h) = mass(h w) + backoff(h) P(w | h')        h' is h without its first symbol; mass is 0 for unseen h w

so the same table holds the result of any of them.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from charlm.models.ngram.counting import Level
from charlm.models.ngram.windows import Integers

Numbers = npt.NDArray[np.floating[Any]]
Discounts = tuple[float, float, float]  # subtracted from counts of 1, of 2, and of 3 or more
FALLBACK_DISCOUNTS: Discounts = (0.5, 1.0, 1.5)
ADD_K = 0.1  # the count added for each symbol
BACKOFF_FACTOR = 0.4  # of stupid backoff, for each shorter context


class Estimate(NamedTuple):
    """One level of the table: M n-grams, whose contexts are the C n-grams one shorter."""

    mass: Numbers  # (M,)
    backoff: Numbers  # (C,)
    discounts: Discounts | None = None  # if they are the same for all contexts


def with_contexts(levels: Sequence[Level]) -> Iterator[tuple[Level, int]]:
    """Each level with the number of contexts its n-grams may have."""
    sizes = (1, *map(len, levels))
    return zip(levels, sizes, strict=False)


def shares(values: Numbers | Integers, level: Level, counts: Integers, contexts: int) -> tuple[Numbers, Numbers]:
    """`values` (M,) divided by their context's total count, and 1 minus their sum (C,): 1 where nothing follows."""
    total = np.bincount(level.parent, counts, contexts)
    followed = total > 0
    total[~followed] = 1
    left = np.where(followed, np.bincount(level.parent, counts - values, contexts) / total, 1.0)
    return values / total.astype(np.float32)[level.parent], left.astype(np.float32)


def adjusted_counts(levels: Sequence[Level]) -> list[Integers]:
    """Counts of the longest n-grams; for shorter ones, the number of different symbols that precede them.

    An n-gram at the very beginning, which nothing can precede, keeps its count of 1 (Kneser & Ney 1995; Heafield 2013).
    """
    adjusted: list[Integers] = []
    for shorter, longer in pairwise(levels):
        count = np.bincount(longer.suffix, minlength=len(shorter))
        adjusted.append(count if not adjusted else np.maximum(count, 1))
    return [*adjusted, levels[-1].count]


def counts_of_counts(counts: Integers) -> Integers:
    """(6,): the numbers of n-grams with counts 0 to 4, and with more."""
    return np.bincount(counts.clip(0, 5), minlength=6)


def closed_form_discounts(counts: Integers) -> Discounts | None:
    """D1, D2, D3+ of n-grams with these counts; None if undefined."""
    return discounts_of(counts_of_counts(counts))


def discounts_of(n: Integers) -> Discounts | None:
    """D1, D2, D3+ from the numbers of n-grams with counts 1 to 4 (Chen & Goodman 1999, eq. 26); None if undefined."""
    n = n.astype(float)
    if not n[1:4].all():
        return None
    y = n[1] / (n[1] + 2 * n[2])
    one, two, three = (float(j - (j + 1) * y * n[j + 1] / n[j]) for j in (1, 2, 3))
    return (one, two, three) if 0 <= one <= 1 and 0 <= two <= 2 and 0 <= three <= 3 else None


def modified_kneser_ney(levels: Sequence[Level], discounts: Sequence[Discounts]) -> list[Estimate]:
    """Interpolated modified Kneser-Ney, the discounts given for each level (Chen & Goodman 1999, section 4.1.6)."""
    estimates = []
    for (level, contexts), counts, d in zip(with_contexts(levels), adjusted_counts(levels), discounts, strict=True):
        discounted = counts - np.array((0.0, *d), np.float32)[counts.clip(0, 3)]
        estimates.append(Estimate(*shares(discounted, level, counts, contexts), d))
    return estimates


def kenlm(levels: Sequence[Level], _base: Numbers) -> list[Estimate]:
    """Modified Kneser-Ney as `lmplz --discount_fallback` computes it (Heafield et al. 2013)."""
    return modified_kneser_ney(
        levels, [closed_form_discounts(counts) or FALLBACK_DISCOUNTS for counts in adjusted_counts(levels)]
    )


def absolute(levels: Sequence[Level], _base: Numbers) -> list[Estimate]:
    """One discount a level, n1 / (n1 + 2 n2), subtracted from the counts (Ney, Essen & Kneser 1994)."""
    estimates = []
    for level, contexts in with_contexts(levels):
        n1, n2 = np.bincount(level.count.clip(0, 3), minlength=4)[1:3]
        discount = n1 / (n1 + 2 * n2) if n1 and n2 else 0.5
        discounts = (float(discount),) * 3
        estimates.append(Estimate(*shares(level.count - discount, level, level.count, contexts), discounts))
    return estimates


def witten_bell(levels: Sequence[Level], _base: Numbers) -> list[Estimate]:
    """A context followed T ways out of C times meets a new one with probability T / (C + T) (Witten & Bell 1991)."""
    estimates = []
    for level, contexts in with_contexts(levels):
        total = np.bincount(level.parent, level.count, contexts)
        either = total + np.bincount(level.parent, minlength=contexts)
        backoff = 1 - total / np.maximum(either, 1)
        estimates.append(Estimate(level.count / either[level.parent], backoff))
    return estimates


def add_k(levels: Sequence[Level], base: Numbers) -> list[Estimate]:
    """Adds k to the count of every symbol in each of the longest contexts (Lidstone 1920; k = 1 is Laplace's rule)."""
    lower = [Estimate(np.zeros(len(level)), np.ones(contexts)) for level, contexts in with_contexts(levels[:-1])]
    level, contexts = list(with_contexts(levels))[-1]
    total = np.bincount(level.parent, level.count, contexts) + ADD_K / base[0]
    return [*lower, Estimate(level.count / total[level.parent], ADD_K / base[0] / total)]


def stupid_backoff(levels: Sequence[Level], base: Numbers) -> list[Estimate]:
    """Relative frequencies, or 0.4 times the shorter context's value where there are none (Brants et al. 2007).

    Each context is normalised to sum to 1. `mass` is P of a counted symbol minus its backed-off share: it may be
    negative.
    """
    estimates, lower = [], base
    for level, contexts in with_contexts(levels):
        total = np.bincount(level.parent, level.count, contexts)
        covered = np.bincount(level.parent, lower[level.suffix], contexts)
        scale = 1 / ((total > 0) + BACKOFF_FACTOR * np.maximum(1 - covered, 1e-6))
        backoff = np.where(total > 0, BACKOFF_FACTOR * scale, 1.0)
        lower_part = backoff[level.parent] * lower[level.suffix]
        own = level.count / total[level.parent] * scale[level.parent]
        lower = np.maximum(own, 1e-12)
        estimates.append(Estimate(lower - lower_part, backoff))
    return estimates
