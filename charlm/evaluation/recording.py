"""Recording an evaluation in the card of its run."""

import math
from pathlib import Path

from charlm import checkpoint
from charlm.evaluation.result import Evaluation


def record(path: Path, weights: str, evaluation: Evaluation) -> None:
    """Record the figure of the run's `weights` (a digest) if it is comparable between runs.

    It is comparable if the text is the whole held-out text of the run, read with all context, without learning.
    """
    if evaluation.context is None and evaluation.dynamic is None:
        low, high = evaluation.interval
        interval = (low, high) if math.isfinite(low) and math.isfinite(high) else None
        checkpoint.record_held_out(path, weights, evaluation.text_sha256, evaluation.bits_per_character, interval)
