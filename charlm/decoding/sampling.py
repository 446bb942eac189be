"""Temperature, top-k, top-p and min-p, and drawing from the result.

Shapes: B rows, V vocabulary, K ids that may be drawn.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from charlm.config import BOUNDARY, Settings, setting
from charlm.decoding.continuation import Floats, Indices, broken
from charlm.inference import LogProbs

Numbers = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Sampling(Settings):
    """How the next token is drawn. Filters apply in this order: temperature, top-k, top-p, min-p."""

    temperature: float = setting(
        1.0, "below 1 keeps to the likely, above 1 dares more; 0 always takes the likeliest", min=0.0
    )
    top_k: int = setting(0, "draw from the k likeliest tokens only; 0: from all", min=0)
    top_p: float = setting(
        1.0, "draw from the fewest tokens that have this much probability together", above=0.0, max=1.0
    )
    min_p: float = setting(0.0, "leave out tokens less likely than this share of the likeliest one", min=0.0, below=1.0)


def draw(log_probs: LogProbs, settings: Sampling, uniforms: Floats, allowed: Indices | None = None) -> Indices:
    """Draw one id for each row of log_probs (B, V), by uniforms (B,) in [0, 1).

    It is one of the ids `allowed` (K,), ascending; by default any but the boundary. Raises TrainingFault for rows
    with NaN.
    """
    if allowed is None:
        return _drawn_columns(log_probs[:, BOUNDARY + 1 :], settings, uniforms) + BOUNDARY + 1
    return allowed.take(_drawn_columns(log_probs.take(allowed, 1), settings, uniforms))


def _drawn_columns(scores: Numbers, settings: Sampling, uniforms: Floats) -> Indices:
    """Draw a column of each row of (B, K)."""
    plain = (settings.top_k, settings.top_p, settings.min_p) == (0, 1, 0)
    if not plain:
        scores = _filtered(scores, settings)
    if settings.temperature == 0:
        best: Indices = scores.argmax(1)
        if not (scores[np.arange(len(scores)), best] > -np.inf).all():
            raise broken()
        return best
    if plain and settings.temperature != 1:
        scores = _tempered(scores, scores.max(1, keepdims=True), settings.temperature)
    weights = np.exp(scores)
    if len(weights) == 1:
        return np.array([_drawn(weights[0], uniforms.item())])
    sums = torch.from_numpy(weights).cumsum(1, dtype=torch.float64).numpy()  # a fifth of numpy's time
    totals = sums[:, -1]
    if not (totals > 0).all():
        raise broken()
    targets = np.minimum(uniforms * totals, np.nextafter(totals, 0))  # below the total, which rounding may reach
    columns: Indices = (sums > targets[:, None]).argmax(1)
    return columns


def _drawn(weights: Numbers, uniform: float) -> int:
    """`_drawn_columns` for the weights (K,) of a single row, three times as fast."""
    sums = np.add.accumulate(weights, dtype=np.float64)
    total = sums.item(-1)
    if not total > 0:
        raise broken()
    return int(sums.searchsorted(min(uniform * total, math.nextafter(total, 0)), "right"))


def filter_log_probs(log_probs: LogProbs, settings: Sampling) -> LogProbs:
    """(B, V) -> (B, V): ln of the normalised distribution to draw from, -inf for the boundary and ids filtered out.

    Temperature divides the log-probabilities (0: only the most probable id remains); top-k keeps the k most probable
    ids (Fan et al. 2018); top-p the fewest whose sum reaches p (Holtzman et al. 2020); min-p those with at least p
    times the highest probability (Nguyen et al. 2024). Of equal ids the lower comes first.
    """
    filtered = np.full_like(log_probs, -np.inf)
    filtered[:, BOUNDARY + 1 :] = _filtered(log_probs[:, BOUNDARY + 1 :], settings)
    return filtered


def _filtered(log_probs: Numbers, settings: Sampling) -> Numbers:
    """`filter_log_probs` for all columns of (B, K)."""
    order = np.argsort(-log_probs, axis=1, kind="stable")
    ranked: Numbers = np.take_along_axis(log_probs, order, 1)
    if settings.temperature == 0:
        ranked[:, 1:] = -np.inf
    else:
        ranked = _tempered(ranked, ranked[:, :1], settings.temperature)
    if settings.top_k:
        ranked[:, settings.top_k :] = -np.inf
    probabilities = _normalised(np.exp(ranked - ranked[:, :1]))
    dropped = probabilities < settings.min_p * probabilities[:, :1]
    if settings.top_p < 1:
        dropped |= probabilities.cumsum(1) - probabilities >= settings.top_p
    filtered = np.zeros_like(log_probs)
    np.put_along_axis(filtered, order, _normalised(np.where(dropped, 0, probabilities)), 1)
    with np.errstate(divide="ignore"):
        filtered_log_probs: Numbers = np.log(filtered)
    return filtered_log_probs


def _tempered(scores: Numbers, best: Numbers, temperature: float) -> Floats:
    """Log-probabilities (B, V) minus their row's largest, `best`, divided by the temperature."""
    with np.errstate(over="ignore", invalid="ignore"):
        tempered: Floats = (scores - best).astype(np.float64) / temperature
    return tempered


def _normalised(weights: Floats) -> Floats:
    probabilities: Floats = weights / weights.sum(1, keepdims=True)
    return probabilities


def likeliest(log_probs: LogProbs, count: int) -> list[tuple[int, float]]:
    """The `count` most probable ids of log_probs (V,) without the boundary; of equal ones the lower first."""
    pieces = log_probs[BOUNDARY + 1 :]
    count = min(count, len(pieces))
    if not count:
        return []
    if count == 1:
        best: Indices = np.array([pieces.argmax()])
    else:
        threshold = np.partition(pieces, -count)[-count]
        candidates = np.flatnonzero(pieces >= threshold)
        best = candidates[np.argsort(-pieces[candidates], kind="stable")][:count]
    return list(zip((best + BOUNDARY + 1).tolist(), pieces[best].tolist(), strict=True))
