"""How sure a measured figure is: bootstrap over blocks of the held-out text.

The blocks of a text are drawn again with replacement, many times; how the figure moves shows how much it owes to this
text.
"""

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

FEWEST_BLOCKS = 5
"""Fewer blocks than this say nothing about how blocks differ."""

CONFIDENCE = 0.95


def ratio_interval(bits: Floats, characters: Indices, *, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of sum(bits) / sum(characters), both (N,) per block; infinite for too few blocks to tell.

    The expanded percentile interval of Hesterberg (2015, "What Teachers Should Know About the Bootstrap", section 5):
    plain percentiles of N blocks are too narrow by about sqrt((N-1)/N) z/t, so that they cover 93 % at N = 20.
    """
    low, high = ratio_intervals(bits[None], characters, resamples=resamples, seed=seed)[0].tolist()
    return low, high


def ratio_intervals(bits: Floats, characters: Indices, *, resamples: int = 2000, seed: int = 0) -> Floats:
    """The same of many texts in the same blocks: bits (D, N), characters (N,) -> (D, 2), low and high."""
    D, N = bits.shape
    if N < FEWEST_BLOCKS:
        return np.tile([-np.inf, np.inf], (D, 1))
    weights = np.random.default_rng(seed).multinomial(N, np.full(N, 1 / N), resamples)  # (resamples, N)
    ratios = (bits @ weights.T) / (weights @ characters)  # (D, resamples)
    normal = NormalDist()
    tail = normal.cdf(-((N / (N - 1)) ** 0.5) * student_quantile(0.5 + CONFIDENCE / 2, N - 1))
    ends: Floats = np.quantile(ratios, [tail, 1 - tail], axis=1).T
    return ends


def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t to 0.3 % for 4 or more degrees (Abramowitz & Stegun 1964, 26.7.5)."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / degrees**power for power, term in enumerate(terms))
