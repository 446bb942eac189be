"""What each architecture is to be trained with, so that what should be equal is equal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median_low
from typing import Any

import torch

from charlm.config import Settings, option_name
from charlm.errors import UsageError
from charlm.models import ARCHITECTURES, SINGLE, Network
from charlm.training import Budget, TrainingConfig, complete, model_config

MATCHES: dict[str, tuple[str, tuple[str, ...]]] = {
    "seconds": ("30s", ("seconds",)),
    "tokens": ("1Mtokens", ("tokens", "epochs")),
    "parameters": ("30s", ("seconds", "tokens", "epochs", "steps")),
}
"""What can be made equal: the budget that is taken if none is given, and the units that it may have."""

STEP = 8  # widths are multiples of it, which processors like
WIDEST = 2**16


@dataclass(frozen=True)
class Plan:
    """What one architecture is to be trained with."""

    config: Settings
    training: TrainingConfig


def budget_for(match: str | None, budget: str | None) -> str:
    """The budget of each contender. Raises UsageError for one that does not make equal what is to be equal."""
    default, units = MATCHES[match or "seconds"]
    budget = budget or default
    if match and (unit := Budget.parse(budget).unit) not in units:
        raise UsageError(f"--match {match} wants a --budget in {' or '.join(units)}, such as {default}, not in {unit}")
    return budget


def plan(
    architectures: Iterable[str],
    size: str,
    options: Mapping[str, Any],
    training: TrainingConfig,
    characters: int,
    *,
    vocab_size: int | None = None,
    speed: float = 1.0,
) -> dict[str, Plan]:
    """A plan for each architecture: the one budget, and of the options those that it has.

    `characters` is the size of the training text, `speed` what `charlm.training.speed` says of the machine. With
    `vocab_size` the networks get widths that give them equally many parameters, as near as it goes: those of the
    middle one of them. Raises UsageError for an option that none of them has, or a value that one of them cannot have.
    """
    if vocab_size is not None and "width" in options:
        raise UsageError("--match parameters chooses the widths: leave --width out")
    names = list(dict.fromkeys(architectures))
    owned = {name: ARCHITECTURES[name].Config.names() for name in names}
    for option in options:
        if not any(option in own for own in owned.values()):
            raise UsageError(f"{option_name(option)} is not an option of {_listed(names)}{_others(option)}")
    plans = {}
    for name in names:
        own = {option: value for option, value in options.items() if option in owned[name]}
        try:
            config = model_config(name, size, own, characters, Budget.parse(training.budget), speed)
        except UsageError as problem:
            raise UsageError(f"{name}: {problem}") from None
        plans[name] = Plan(config, complete(training, name))
    return plans if vocab_size is None else _equally_large(plans, vocab_size)


def _listed(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _others(option: str) -> str:
    owners = [name for name in SINGLE if option in ARCHITECTURES[name].Config.names()]
    return f"; {', '.join(owners)} {'have' if len(owners) > 1 else 'has'} it" if owners else ""


def _equally_large(plans: Mapping[str, Plan], vocab_size: int) -> dict[str, Plan]:
    """The plans with other widths. What is counted has as many numbers as its text has n-grams, and stays."""
    sizes = {name: _parameters(name, vocab_size) for name in plans if issubclass(ARCHITECTURES[name], Network)}
    if not sizes:
        return dict(plans)
    wanted = median_low(size(plans[name].config) for name, size in sizes.items())
    widths = {
        name: replace(plans[name], config=_fitted(plans[name].config, size, wanted)) for name, size in sizes.items()
    }
    return {**plans, **widths}


def _parameters(name: str, vocab_size: int) -> Callable[[Settings], int]:
    def count(config: Settings) -> int:
        with torch.device("meta"):  # shapes alone
            return ARCHITECTURES[name](config, vocab_size).parameters_count

    return count


def _fitted(config: Settings, size: Callable[[Settings], int], wanted: int) -> Settings:
    """The settings with the width that brings the size nearest to the one wanted; the size grows with the width."""
    step = next(width for width in range(STEP, WIDEST, STEP) if _with_width(config, width))
    low, high = 1, WIDEST // step  # in steps: the least one that is large enough lies between
    while low < high:
        middle = (low + high) // 2
        if size(replace(config, **{"width": middle * step})) < wanted:
            low = middle + 1
        else:
            high = middle
    near = [replace(config, **{"width": width * step}) for width in (low - 1, low) if width]
    return min(near, key=lambda settings: abs(size(settings) - wanted))


def _with_width(config: Settings, width: int) -> bool:
    try:
        replace(config, **{"width": width})
        return True
    except UsageError:
        return False
