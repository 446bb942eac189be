"""Confidence intervals: a bootstrap over blocks of the held-out text, and the variance over training seeds.

Resampling the blocks of a text shows how much a figure depends on this text; several trainings show how much it depends
on the seed.
"""

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist, variance

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

MIN_BLOCKS = 5
"""With fewer blocks their variance is not known well enough."""

CONFIDENCE = 0.95

QUANTILE_STEPS = 1 << 12
"""Steps of the numerical integral in `student_quantile`."""


def ratio_interval(bits: Floats, characters: Indices, *, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of sum(bits) / sum(characters), both (N,) per block; infinite for too few blocks.

    The expanded percentile interval of Hesterberg (2015, "What Teachers Should Know About the Bootstrap", section 5):
    plain percentiles of N blocks are too narrow by about sqrt((N-1)/N) z/t, so that they cover 93 % at N = 20.
    """
    low, high = ratio_intervals(bits[None], characters, resamples=resamples, seed=seed)[0].tolist()
    return low, high


def ratio_intervals(bits: Floats, characters: Indices, *, resamples: int = 2000, seed: int = 0) -> Floats:
    """`ratio_interval` for D rows of bits over the same blocks: (D, N), characters (N,) -> (D, 2), low and high."""
    D, N = bits.shape
    if N < MIN_BLOCKS:
        return np.tile([-np.inf, np.inf], (D, 1))
    weights = np.random.default_rng(seed).multinomial(N, np.full(N, 1 / N), resamples)  # (resamples, N)
    ratios = (bits @ weights.T) / (weights @ characters)  # (D, resamples)
    normal = NormalDist()
    tail = normal.cdf(-((N / (N - 1)) ** 0.5) * student_quantile(0.5 + CONFIDENCE / 2, N - 1))
    ends: Floats = np.quantile(ratios, [tail, 1 - tail], axis=1).T
    return ends


def with_seeds(
    estimate: float, interval: tuple[float, float], blocks: int, *seeds: Sequence[float]
) -> tuple[float, float]:
    """The 95 % interval of an estimate that depends on the text and on the training seeds.

    `interval` is that of the text alone, from a bootstrap over `blocks` blocks; each of `seeds` holds the figures of
    one model's trainings, whose mean is part of the estimate. A single training has no variance and adds nothing.

    The two sources of error are independent, so their variances add up: the text's is recovered from its interval
    (Zou & Donner 2008, Statistics in Medicine 27, 1693), that of a mean over S seeds is s^2 / S. The sum has Student's
    t distribution with Satterthwaite's degrees of freedom (1946, Biometrics Bulletin 2, 110), computed from blocks - 1
    of the text and S - 1 of each model's seeds. Without text error this is Welch's interval, without seed error the
    bootstrap's. The interaction of seed and block counts in both variances, so the interval covers 95 % or slightly
    more (simulated in the tests; the bootstrap alone covers 50 to 90 % there).
    """
    spreads = [(variance(figures) / len(figures), len(figures) - 1) for figures in seeds if len(figures) > 1]
    if not spreads or not all(map(math.isfinite, interval)):
        return interval
    low, high = (
        _half_width(estimate - interval[0], blocks - 1, spreads),
        _half_width(interval[1] - estimate, blocks - 1, spreads),
    )
    return estimate - low, estimate + high


def _half_width(distance: float, degrees: int, spreads: Sequence[tuple[float, int]]) -> float:
    """The half-width of an interval whose half-width is `distance` for the text alone; (variance, degrees) of seeds."""
    probability = 0.5 + CONFIDENCE / 2
    parts = [((distance / student_quantile(probability, degrees)) ** 2, degrees), *spreads]
    total = math.fsum(part for part, _ in parts)
    if total == 0:
        return 0.0
    satterthwaite = total**2 / math.fsum(part**2 / freedom for part, freedom in parts)
    return student_quantile(probability, satterthwaite) * math.sqrt(total)


@cache
def student_quantile(probability: float, degrees: float) -> float:
    """The quantile of Student's t distribution for 1 to 1,000 degrees of freedom, to four digits.

    Substituting t = sqrt(degrees) tan(angle), the density is proportional to cos(angle)^(degrees - 1).
    """
    angles = (np.arange(QUANTILE_STEPS) + 0.5) * (math.pi / QUANTILE_STEPS) - math.pi / 2
    below = (np.cos(angles) ** (degrees - 1)).cumsum()  # up to the upper edge of each step
    edges = angles + math.pi / QUANTILE_STEPS / 2
    return math.sqrt(degrees) * math.tan(float(np.interp(probability, below / below[-1], edges)))
