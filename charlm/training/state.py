"""What a training run needs to be resumed: its counters, and the tensors that change as it goes on."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, get_type_hints

import torch
from torch import Tensor

from charlm.config import value_types
from charlm.errors import UsageError
from charlm.models import State
from charlm.training.budget import MEASURED_SHARES, Budget
from charlm.training.optimizers import restore
from charlm.training.step import OptimizerStep


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
    begun: int = 0  # the step at which the schedule began: a later one than 0 after a finished run got a larger budget
    joined: int | None = None  # the step at which the validation slice joined the training text

    def replace_by(self, other: "Counters") -> None:
        """Take the values of other counters."""
        vars(self).update(vars(other))

    def extended(self, budget: str, steps: int | None, *, patience: int, finished: bool) -> "Counters":
        """The counters of the same run with another budget, of `steps` in all (None: of time, to be measured).

        A finished run begins its schedule anew. Raises UsageError for a budget that is used up, and for a run that
        over-fits already.
        """
        seconds = Budget.parse(budget).seconds
        if (steps is not None and self.step >= steps) or (seconds is not None and self.seconds >= seconds):
            had = f"{self.step:,} steps and {self.seconds:,.0f} s"
            raise UsageError(f"{budget} is for the whole run, which has had {had}: give a larger one", "budget")
        if self.since_best and (self.joined is not None or 0 < patience <= self.since_best):
            raise UsageError(
                "is used up, and a larger one is of no use: the run over-fits and went back to its best weights",
                "budget",
            )
        again = replace(self, steps=steps, measured=0, measured_step=self.step, measured_from=self.seconds)
        return replace(again, begun=self.step, prepared=self.seconds) if finished else again

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
        if (
            counters.measured > len(MEASURED_SHARES)
            or max(counters.joined or 0, counters.best_step, counters.begun) > counters.step
        ):
            raise ValueError("the counters contradict each other")
        return counters


NAMES_WITH_UNITS = {"training": "training_nats_per_token", "best": "best_validation_nats_per_token"}


def with_units(progress: Mapping[str, Any]) -> dict[str, Any]:
    """The counters as a card has them, under names that say what they count."""
    return {NAMES_WITH_UNITS.get(name, name): value for name, value in progress.items()}


def state_tensors(step: OptimizerStep, carried: State) -> dict[str, Tensor]:
    """All tensors that change as training goes on: weights, optimizers, carried state, random state.

    Not copies: what they hold is as it is now until the next step.
    """
    tensors = {f"model.{name}": tensor for name, tensor in step.model.state_dict().items()}
    for number, optimizer in enumerate(step.optimizers):
        for parameter, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{parameter}.{key}": value for key, value in values.items()}
    tensors |= {f"state.{number}": leaf for number, leaf in enumerate(carried)}
    tensors["random.cpu"] = torch.get_rng_state()
    if step.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(step.device)
    return tensors


def load_tensors(step: OptimizerStep, tensors: Mapping[str, Tensor], carried: State) -> State:
    """Restore weights and optimizers from `state_tensors`. Returns the carried state, which has leaves as `carried`.

    Raises one of many errors for tensors that no such step can have had.
    """
    step.load_weights({name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")})
    for number, optimizer in enumerate(step.optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            match name.split("."):
                case ["optimizer", which, parameter, key] if int(which) == number:
                    state.setdefault(int(parameter), {})[key] = tensor
        restore(optimizer, state)
    return tuple(tensors[f"state.{number}"].to(step.device) for number in range(len(carried)))


def load_random_state(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore torch's random state from `state_tensors`."""
    torch.set_rng_state(tensors["random.cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"], device)
