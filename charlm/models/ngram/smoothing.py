"""From counts to probabilities. Every smoother here fills the same two numbers, those of an ARPA file:

    P(w | h) = probability(h w)             if h w was counted
               backoff(h) P(w | h')         otherwise, h' being h without its first symbol

so one table describes any of them, and whoever reads it need not know which it was.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from charlm.models.ngram.counting import Integers, Level

Numbers = npt.NDArray[np.floating[Any]]
Discounts = tuple[float, float, float]
FALLBACK: Discounts = (0.5, 1.0, 1.5)


class Estimate(NamedTuple):
    """One level of the table: M n-grams, whose contexts are the C n-grams one shorter."""

    probability: Numbers  # (M,) P(last symbol | the rest)
    backoff: Numbers  # (C,) the weight of the shorter context's distribution
    discounts: tuple[float, ...] = ()  # what was taken off a count of 1, 2, 3 and more


def adjusted_counts(levels: Sequence[Level]) -> list[Integers]:
    """For the longest n-grams how often they occur; for shorter ones how many different symbols precede them.

    An n-gram at the very beginning, which nothing can precede, keeps its count of 1 (Kneser & Ney 1995; Heafield 2013).
    """
    adjusted: list[Integers] = []
    for shorter, longer in pairwise(levels):
        count = np.bincount(longer.suffix, minlength=len(shorter))
        adjusted.append(count if not adjusted else np.maximum(count, 1))
    return [*adjusted, levels[-1].count]


def closed_form_discounts(counts: Integers) -> Discounts | None:
    """D1, D2, D3+ from how many have count 1 to 4 (Chen & Goodman 1999, eq. 26); None where that makes no sense."""
    n = np.bincount(counts.clip(0, 5), minlength=6).astype(float)
    if not n[1:4].all():
        return None
    y = n[1] / (n[1] + 2 * n[2])
    discounts = tuple(j - (j + 1) * y * n[j + 1] / n[j] for j in (1, 2, 3))
    return discounts if all(0 <= d <= j for j, d in enumerate(discounts, 1)) else None


def interpolate(level: Level, mass: Numbers, backoff: Numbers, lower: Numbers) -> Numbers:
    """P(w | h) = mass(h w) + backoff(h) P(w | h'), for the n-grams of a level; `lower` holds P of the level below."""
    result: Numbers = mass + backoff[level.parent] * lower[level.suffix]
    return result


def modified_kneser_ney(levels: Sequence[Level], base: Numbers, discounts: Sequence[Discounts]) -> list[Estimate]:
    """Interpolated modified Kneser-Ney with the discounts given for each level (Chen & Goodman 1999, section 4.1.6).

    `base` (A,) is the distribution that the single symbols are interpolated with.
    """
    estimates, lower, contexts = [], base, 1
    for level, counts, less in zip(levels, adjusted_counts(levels), discounts, strict=True):
        off = np.array((0.0, *less))[counts.clip(0, 3)]
        total = np.bincount(level.parent, counts, contexts)
        backoff = np.divide(np.bincount(level.parent, off, contexts), total, out=np.ones(contexts), where=total > 0)
        lower = interpolate(level, (counts - off) / total[level.parent], backoff, lower)
        estimates.append(Estimate(lower, backoff, less))
        contexts = len(level)
    return estimates


def kneser_ney(levels: Sequence[Level], base: Numbers) -> list[Estimate]:
    """Modified Kneser-Ney, its discounts from the closed form."""
    return modified_kneser_ney(levels, base, [closed_form_discounts(c) or FALLBACK for c in adjusted_counts(levels)])


def kenlm(levels: Sequence[Level], base: Numbers) -> list[Estimate]:
    """Modified Kneser-Ney just as `lmplz --discount_fallback` computes it (Heafield et al. 2013).

    That includes its one slip: the word that the text introduces last is left out of the unigrams' counts of counts.
    """
    words, *longer = adjusted_counts(levels)
    return modified_kneser_ney(levels, base, [closed_form_discounts(c) or FALLBACK for c in (words[:-1], *longer)])


SMOOTHERS: dict[str, Callable[[Sequence[Level], Numbers], list[Estimate]]] = {
    "kneser-ney": kneser_ney,
    "kenlm": kenlm,
}
