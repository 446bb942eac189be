"""The smoothers by name, and the tuning of those that have parameters, on the validation slice."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from charlm.models.ngram.cache import Cache, ObservedMatches, TableFeatures
from charlm.models.ngram.counting import Level
from charlm.models.ngram.gate import gated_estimates, train_gate
from charlm.models.ngram.smoothing import (
    FALLBACK_DISCOUNTS,
    Discounts,
    Estimate,
    Numbers,
    absolute,
    add_k,
    adjusted_counts,
    closed_form_discounts,
    kenlm,
    modified_kneser_ney,
    stupid_backoff,
    witten_bell,
)
from charlm.models.ngram.windows import Integers
from charlm.progress import Tell
from charlm.threads import Workers, workers

Estimator = Callable[[Sequence[Level], Numbers], list[Estimate]]
"""(levels, base) -> the estimates of each level."""


class ValidationSlice(NamedTuple):
    """The P places of the validation slice, as `matching.look_up` gives them: rows in the counts of the text before."""

    levels: Sequence[Level]
    base: Numbers  # (A,) the distribution that unigrams are interpolated with
    contexts: Integers  # (P, K)
    ngrams: Integers  # (P, K)

    def looked_up(self, estimates: Sequence[Estimate]) -> tuple[Numbers, Numbers]:
        """Mass of the n-grams and back-off of the contexts, both (P, K)."""
        mass, backoff = np.zeros(self.ngrams.shape), np.ones(self.contexts.shape)
        for k, estimate in enumerate(estimates):
            mass[:, k] = np.where(self.ngrams[:, k] >= 0, estimate.mass[self.ngrams[:, k]], 0.0)
            backoff[:, k] = np.where(self.contexts[:, k] >= 0, estimate.backoff[self.contexts[:, k]], 1.0)
        return mass, backoff

    def probability(self, mass: Numbers, backoff: Numbers) -> Numbers:
        """(P,): P of the symbol at each place."""
        seen = self.ngrams[:, 0] >= 0
        result = np.where(seen, self.base[self.ngrams[:, 0] * seen], max(1 - self.base.sum(), 1e-9))
        for own, left in zip(mass.T, backoff.T, strict=True):
            result = own + left * result
        return result

    def nats(self, estimates: Sequence[Estimate]) -> float:
        """Cross-entropy, nats per place."""
        return nats_per_place(self.probability(*self.looked_up(estimates)))

    def shortened(self, order: int) -> "ValidationSlice":
        """The same places, with n-grams of at most `order` symbols."""
        return ValidationSlice(self.levels[:order], self.base, self.contexts[:, :order], self.ngrams[:, :order])


Tuner = Callable[[ValidationSlice, Workers, Tell], tuple[Estimator, tuple[Numbers, Numbers] | None]]
"""The estimator tuned on the slice and, if it is known already, `ValidationSlice.looked_up` of its estimates."""


def nats_per_place(probability: Numbers) -> float:
    """Cross-entropy of symbols whose probabilities are (P,)."""
    return -float(np.log(probability, dtype=np.float64).sum()) / max(1, len(probability))


def tune_gate(held_out: ValidationSlice, pool: Workers, tell: Tell) -> tuple[Estimator, tuple[Numbers, Numbers]]:
    """Discounts that a small network computes for each context, see `gate`; mass and back-off (P, K) of the slice."""
    gate, *interpolation = train_gate(held_out.levels, held_out.contexts, held_out.ngrams, held_out.base, pool, tell)

    def estimate(levels: Sequence[Level], _base: Numbers) -> list[Estimate]:
        with workers() as pool:
            return gated_estimates(levels, gate, pool)

    return estimate, (interpolation[0], interpolation[1])


def tune_discounts(held_out: ValidationSlice, _pool: Workers, tell: Tell) -> tuple[Estimator, None]:
    """Modified Kneser-Ney; where the closed form is undefined, the discounts with the lowest cross-entropy."""
    closed_forms = [closed_form_discounts(counts) for counts in adjusted_counts(held_out.levels)]
    discounts = [d or FALLBACK_DISCOUNTS for d in closed_forms]
    for k, closed in enumerate(closed_forms):
        if closed is None:
            discounts[k] = _search_discounts(held_out, discounts, k)
        tell((k + 1) / len(closed_forms))

    def estimate(levels: Sequence[Level], _base: Numbers) -> list[Estimate]:
        closed = [closed_form_discounts(counts) for counts in adjusted_counts(levels)]
        tuned = [*discounts, *[FALLBACK_DISCOUNTS] * len(levels)]  # the whole text may have longer n-grams
        return modified_kneser_ney(levels, [c or t for c, t in zip(closed, tuned, strict=False)])

    return estimate, None


def _search_discounts(held_out: ValidationSlice, discounts: Sequence[Discounts], k: int) -> Discounts:
    """Coordinate descent with a smaller step each round: the likelihood has a single maximum."""
    best = list(discounts[k])

    def nats(candidate: Sequence[float]) -> float:
        trial = [*discounts[:k], (candidate[0], candidate[1], candidate[2]), *discounts[k + 1 :]]
        return held_out.nats(modified_kneser_ney(held_out.levels, trial))

    best_nats = nats(best)
    for step in (0.5, 0.25, 0.1):
        for j in range(3):
            for move in (-step, step):
                candidate = best.copy()
                candidate[j] = min(max(best[j] + move * (j + 1) / 2, 0.01), j + 0.99)
                if (now := nats(candidate)) < best_nats:
                    best, best_nats = candidate, now
    return best[0], best[1], best[2]


TUNED_SMOOTHERS: dict[str, Tuner] = {
    "gated": tune_gate,
    "kneser-ney": tune_discounts,
}
FIXED_SMOOTHERS: dict[str, Estimator] = {
    "kenlm": kenlm,
    "absolute": absolute,
    "witten-bell": witten_bell,
    "add-k": add_k,
    "stupid-backoff": stupid_backoff,
}
SMOOTHERS = (*TUNED_SMOOTHERS, *FIXED_SMOOTHERS)


def tune_cache(
    window: int,
    observed: Iterable[ObservedMatches],
    held_out: ValidationSlice,
    mass: Numbers,
    backoff: Numbers,
    tell: Tell,
) -> tuple[Cache, float]:
    """Train a cache of `window` tokens on the slice; the second value is then the cross-entropy in nats per token.

    `observed` are the cache matches at the places of the slice; `mass` and `backoff` (P, K) are the table's there.
    """
    context_length = (held_out.contexts >= 0).sum(1) - 1
    table = TableFeatures(context_length, backoff[np.arange(len(context_length)), context_length])
    probability = held_out.probability(mass, backoff)
    cache, probability = Cache.trained(window, observed, probability, table, tell)
    return cache, nats_per_place(probability)


def best_order(held_out: ValidationSlice, estimator: Estimator) -> int:
    """The order, from 1 to K, with the lowest cross-entropy on the slice."""
    nats = []
    for order in range(1, len(held_out.levels) + 1):
        shorter = held_out.shortened(order)
        nats.append(shorter.nats(estimator(shorter.levels, shorter.base)))
    return 1 + int(np.argmin(nats))
