"""The distribution that a token is drawn from, and one draw.

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
    """How the next token is drawn. Applied in this order: temperature, then top-k, top-p, min-p."""

    temperature: float = setting(
        1.0, "below 1 keeps to the likely, above 1 dares more; 0 always takes the likeliest", min=0.0
    )
    top_k: int = setting(0, "draw from the k likeliest tokens only; 0: from all", min=0)
    top_p: float = setting(
        1.0, "draw from the fewest tokens that have this much probability together", above=0.0, max=1.0
    )
    min_p: float = setting(0.0, "leave out tokens less likely than this share of the likeliest one", min=0.0, below=1.0)


def draw(log_probs: LogProbs, settings: Sampling, uniforms: Floats, allowed: Indices | None = None) -> Indices:
    """One id for each row of log_probs (B, V); uniforms (B,) in [0, 1) decide which.

    It is one of the ids `allowed` (K,), which ascend; by default any but the boundary. Raises TrainingFault for rows
    that are not numbers.
    """
    if allowed is None:
        return _drawn_columns(log_probs[:, BOUNDARY + 1 :], settings, uniforms) + BOUNDARY + 1
    return allowed.take(_drawn_columns(log_probs.take(allowed, 1), settings, uniforms))


def _drawn_columns(scores: Numbers, settings: Sampling, uniforms: Floats) -> Indices:
    """As `draw`, from all columns of (B, K)."""
    plain = (settings.top_k, settings.top_p, settings.min_p) == (0, 1, 0)
    if not plain:
        scores = _filtered(scores, settings)
    if settings.temperature == 0:
        best: Indices = scores.argmax(1)
        if not (scores[np.arange(len(scores)), best] > -np.inf).all():
            raise broken()
        return best
    if plain and settings.temperature != 1:
        scores = _cooled(scores, scores.max(1, keepdims=True), settings.temperature)
    weights = np.exp(scores)
    if len(weights) == 1:
        return np.array([_drawn(weights[0], uniforms.item())])
    sums = torch.from_numpy(weights).cumsum(1, dtype=torch.float64).numpy()  # a fifth of numpy's time
    totals = sums[:, -1]
    if not (totals > 0).all():
        raise broken()
    targets = np.minimum(uniforms * totals, np.nextafter(totals, 0))  # below the total, which rounding may reach
    found: Indices = (sums > targets[:, None]).argmax(1)
    return found


def _drawn(weights: Numbers, uniform: float) -> int:
    """As `_drawn_columns` does it for a single row, which takes a third of the time."""
    sums = np.add.accumulate(weights, dtype=np.float64)
    total = sums.item(-1)
    if not total > 0:
        raise broken()
    return int(sums.searchsorted(min(uniform * total, math.nextafter(total, 0)), "right"))


def filter_log_probs(log_probs: LogProbs, settings: Sampling) -> LogProbs:
    """(B, V) -> (B, V): the normalised distribution that is drawn from, -inf for the boundary and all that is left out.

    Temperature divides the log-probabilities (0: the likeliest has them all); top-k keeps the k likeliest (Fan et al.
    2018); top-p the fewest whose sum reaches p (Holtzman et al. 2020); min-p those of at least p times the likeliest
    (Nguyen et al. 2024). Of equals the lower id goes first.
    """
    found = np.full_like(log_probs, -np.inf)
    found[:, BOUNDARY + 1 :] = _filtered(log_probs[:, BOUNDARY + 1 :], settings)
    return found


def _filtered(log_probs: Numbers, settings: Sampling) -> Numbers:
    """As `filter_log_probs`, all columns of (B, K)."""
    order = np.argsort(-log_probs, axis=1, kind="stable")
    ranked: Numbers = np.take_along_axis(log_probs, order, 1)
    if settings.temperature == 0:
        ranked[:, 1:] = -np.inf
    else:
        ranked = _cooled(ranked, ranked[:, :1], settings.temperature)
    if settings.top_k:
        ranked[:, settings.top_k :] = -np.inf
    probabilities = _normalised(np.exp(ranked - ranked[:, :1]))
    dropped = probabilities < settings.min_p * probabilities[:, :1]
    if settings.top_p < 1:
        dropped |= probabilities.cumsum(1) - probabilities >= settings.top_p
    kept = np.zeros_like(log_probs)
    np.put_along_axis(kept, order, _normalised(np.where(dropped, 0, probabilities)), 1)
    with np.errstate(divide="ignore"):
        found: Numbers = np.log(kept)
    return found


def _cooled(scores: Numbers, best: Numbers, temperature: float) -> Floats:
    """What is left of log-probabilities (B, V), the greatest of each row being `best`, at a temperature."""
    with np.errstate(over="ignore", invalid="ignore"):
        cooled: Floats = (scores - best).astype(np.float64) / temperature
    return cooled


def _normalised(weights: Floats) -> Floats:
    sums: Floats = weights / weights.sum(1, keepdims=True)
    return sums


def likeliest(log_probs: LogProbs, count: int) -> list[tuple[int, float]]:
    """The ids with the highest log-probabilities (V,) but the boundary, which is never read; the lower of equals."""
    pieces = log_probs[BOUNDARY + 1 :]
    count = min(count, len(pieces))
    if not count:
        return []
    if count == 1:
        best: Indices = np.array([pieces.argmax()])
    else:
        least = np.partition(pieces, -count)[-count]
        above = np.flatnonzero(pieces >= least)
        best = above[np.argsort(-pieces[above], kind="stable")][:count]
    return list(zip((best + BOUNDARY + 1).tolist(), pieces[best].tolist(), strict=True))
