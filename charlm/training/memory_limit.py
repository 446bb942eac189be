"""Networks too large for this machine: refused before they take memory, or reported with the settings to change."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from charlm.config import Settings
from charlm.errors import CharlmError
from charlm.memory import physical_memory, ran_out
from charlm.models import ALL_ARCHITECTURES
from charlm.training.policy import policy_of
from charlm.training.settings import TrainingConfig

BYTES_PER_PARAMETER = 20  # float32: the weight, its gradient, two averages of it, and the best weight so far


@contextmanager
def enough_memory(architecture: str, config: Settings, training: TrainingConfig) -> Iterator[None]:
    """Say which settings to change when memory runs out: CharlmError instead of whatever the system raised."""
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
        if not ran_out(problem):
            raise
        less = f"`batch={max(1, (training.batch or 1) // 2)}`, or less of the others"
        raise CharlmError(
            f"out of memory with {_sizes(training, config)}\ntry {less}{_smaller(architecture)}"
        ) from None


def check_size(architecture: str, config: Settings, vocab_size: int, training: TrainingConfig) -> None:
    """Raises CharlmError for a network that cannot be trained in this machine's memory, before it takes any."""
    kind = ALL_ARCHITECTURES[architecture]
    if not kind.by_gradient:
        return
    try:
        with torch.device("meta"):
            needed: float = BYTES_PER_PARAMETER * kind(config, vocab_size).parameters_count
    except (RuntimeError, TypeError, OverflowError):  # beyond what a tensor can have
        needed = math.inf
    if needed > (available := physical_memory()):
        raise CharlmError(
            f"a network of {_sizes(training, config)} takes {needed / 1e9:,.1f} GB to train, "
            f"and this machine has {available / 1e9:,.1f} GB\ntry half of the largest of these{_smaller(architecture)}"
        )


def _smaller(architecture: str) -> str:
    """What else to try, for an architecture that comes in sizes."""
    return ", or `size='small'`" if policy_of(architecture).sizes else ""


def _sizes(training: TrainingConfig, config: Settings) -> str:
    """The settings that memory may depend on, those that are whole numbers, and their values."""
    settings = {"batch": training.batch, "segment": training.segment, **config.to_json()}
    return ", ".join(f"`{name}={value}`" for name, value in settings.items() if type(value) is int)
