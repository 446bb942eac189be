"""The smoothers by name, and what some of them learn from the validation slice."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from charlm.models.ngram.cache import Cache, Observed, Static
from charlm.models.ngram.counting import Level
from charlm.models.ngram.gate import gated, train
from charlm.models.ngram.smoothing import (
    FALLBACK,
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


class Slice(NamedTuple):
    """The validation slice as the counts of the text before it see it: what `matching.matches` says of P places."""

    levels: Sequence[Level]
    base: Numbers  # (A,) what single symbols are interpolated with
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
        """(P,): of what stands at each place."""
        seen = self.ngrams[:, 0] >= 0
        result = np.where(seen, self.base[self.ngrams[:, 0] * seen], max(1 - self.base.sum(), 1e-9))
        for own, left in zip(mass.T, backoff.T, strict=True):
            result = own + left * result
        return result

    def nats(self, estimates: Sequence[Estimate]) -> float:
        """Cross-entropy per place."""
        return nats_per_place(self.probability(*self.looked_up(estimates)))

    def shortened(self, order: int) -> "Slice":
        """The same places, seen by n-grams of up to `order` only."""
        return Slice(self.levels[:order], self.base, self.contexts[:, :order], self.ngrams[:, :order])


def nats_per_place(probability: Numbers) -> float:
    """Cross-entropy of what stands at the places, each of `probability` (P,)."""
    return -float(np.log(probability, dtype=np.float64).sum()) / max(1, len(probability))


def tune_gate(held: Slice, pool: Workers, tell: Tell) -> tuple[Estimator, tuple[Numbers, Numbers]]:
    """Discounts from a small network that looks at each context: see `gate`."""
    gate, *steps = train(held.levels, held.contexts, held.ngrams, held.base, pool, tell)

    def estimate(levels: Sequence[Level], _base: Numbers) -> list[Estimate]:
        with workers() as pool:
            return gated(levels, gate, pool)

    return estimate, (steps[0], steps[1])


def tune_discounts(held: Slice, _pool: Workers, tell: Tell) -> tuple[Estimator, None]:
    """Modified Kneser-Ney; where the closed form makes no sense, the discounts that predict the slice best."""
    found = [closed_form_discounts(counts) for counts in adjusted_counts(held.levels)]
    discounts = [d or FALLBACK for d in found]
    for k, closed in enumerate(found):
        if closed is None:
            discounts[k] = _searched(held, discounts, k)
        tell((k + 1) / len(found))

    def estimate(levels: Sequence[Level], _base: Numbers) -> list[Estimate]:
        closed = [closed_form_discounts(counts) for counts in adjusted_counts(levels)]
        tuned = [*discounts, *[FALLBACK] * len(levels)]  # the whole text may hold longer n-grams than its first part
        return modified_kneser_ney(levels, [c or t for c, t in zip(closed, tuned, strict=False)])

    return estimate, None


def _searched(held: Slice, discounts: Sequence[Discounts], k: int) -> Discounts:
    """Coordinate by coordinate, a finer step each round: the likelihood has one hill."""
    best = list(discounts[k])

    def nats(candidate: Sequence[float]) -> float:
        trial = [*discounts[:k], (candidate[0], candidate[1], candidate[2]), *discounts[k + 1 :]]
        return held.nats(modified_kneser_ney(held.levels, trial))

    least = nats(best)
    for step in (0.5, 0.25, 0.1):
        for j in range(3):
            for move in (-step, step):
                candidate = best.copy()
                candidate[j] = min(max(best[j] + move * (j + 1) / 2, 0.01), j + 0.99)
                if (now := nats(candidate)) < least:
                    best, least = candidate, now
    return best[0], best[1], best[2]


LEARNED: dict[str, Callable[[Slice, Workers, Tell], tuple[Estimator, tuple[Numbers, Numbers] | None]]] = {
    "gated": tune_gate,
    "kneser-ney": tune_discounts,
}
"""How to estimate, learned from the slice; and, where that is at hand, what `Slice.looked_up` says of the result."""
FIXED: dict[str, Estimator] = {
    "kenlm": kenlm,
    "absolute": absolute,
    "witten-bell": witten_bell,
    "add-k": add_k,
    "stupid-backoff": stupid_backoff,
}
SMOOTHERS = (*LEARNED, *FIXED)


def tune_cache(
    window: int, observed: Iterable[Observed], held: Slice, mass: Numbers, backoff: Numbers, tell: Tell
) -> tuple[Cache, float]:
    """A cache of `window` tokens for counts that say so much of the slice: mass and back-off (P, K) at its places.

    With the nats per token that the slice costs then. `observed` are the echoes at these places.
    """
    matched = (held.contexts >= 0).sum(1) - 1
    static = Static(matched, backoff[np.arange(len(matched)), matched])
    probability = held.probability(mass, backoff)
    cache, probability = Cache.trained(window, observed, probability, static, tell)
    return cache, nats_per_place(probability)


def best_order(held: Slice, estimator: Estimator) -> int:
    """The order that predicts the slice best, of 1 to K."""
    nats = []
    for order in range(1, len(held.levels) + 1):
        shorter = held.shortened(order)
        nats.append(shorter.nats(estimator(shorter.levels, shorter.base)))
    return 1 + int(np.argmin(nats))
