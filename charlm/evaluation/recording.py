"""An evaluation, noted in the card of the run that it is about."""

import math
from pathlib import Path

from charlm import checkpoint
from charlm.evaluation.result import Evaluation


def record(path: Path, weights: str, evaluation: Evaluation) -> None:
    """Note what the run's `weights` (their digest) cost if this is the figure by which runs are compared.

    That is: of the whole text that the run held out, with all context, and by a model that learned nothing meanwhile.
    """
    if evaluation.context is None and evaluation.dynamic is None:
        low, high = evaluation.interval
        interval = (low, high) if math.isfinite(low) and math.isfinite(high) else None
        checkpoint.record_held_out(path, weights, evaluation.text_sha256, evaluation.bits_per_character, interval)
