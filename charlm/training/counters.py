"""Where a training run stands: what it keeps for itself, and what it tells."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

from charlm.config import value_types
from charlm.training.budget import MEASURED_SHARES, Budget


@dataclass(frozen=True)
class Progress:
    """Where a training run stands. Losses are in bits per character; `validation` only right after one was made.

    `training` is a running mean, which lags behind; `loss` the mean over the steps since the last progress alone.
    """

    step: int
    steps: int | None  # None while the budget is still being measured
    seconds: float
    seconds_left: float | None
    characters_per_second: float
    learning_rate: float
    training: float
    validation: float | None
    best: float | None
    loss: float | None = None


@dataclass
class Counters:
    """The numbers of a run that change as it goes on; seconds of training, nats per token."""

    step: int = 0
    steps: int | None = None
    seconds: float = 0.0
    prepared: float = 0.0  # of these seconds, those before the first step
    measured: int = 0  # how often the speed has been
    measured_step: int = 0
    measured_from: float = 0.0
    validated: float = 1.0  # of the tokens that a validation usually looks at
    training: float = 0.0
    best: float | None = None  # on the validation slice
    best_step: int = 0
    since_best: int = 0  # validations
    joined: int | None = None  # the step at which the validation slice joined the training text

    @classmethod
    def from_json(cls, data: Mapping[str, Any], budget: Budget) -> "Counters":
        """The counters that a run of this budget was saved with. Raises TypeError or ValueError for impossible ones."""
        counters, hints = cls(**data), get_type_hints(cls)
        for name, value in asdict(counters).items():
            known = type(value) in value_types(hints[name])
            if not known or (value is not None and not (math.isfinite(value) and value >= 0)):
                raise ValueError(f"{name} cannot be {str(value)[:20]}")
        if counters.steps is None and budget.seconds is None:
            raise ValueError("the number of steps is missing")
        if counters.measured > len(MEASURED_SHARES) or max(counters.joined or 0, counters.best_step) > counters.step:
            raise ValueError("the counters contradict each other")
        return counters
