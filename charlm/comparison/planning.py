"""What each architecture is to be trained with, so that what should be equal is equal."""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median_low
from typing import Any

import torch

from charlm.config import Settings
from charlm.errors import UsageError
from charlm.models import ARCHITECTURES, SINGLE
from charlm.training import Budget, TrainingConfig, complete, model_config

MATCHES: dict[str, tuple[str, tuple[str, ...]]] = {
    "seconds": ("30s", ("seconds",)),
    "tokens": ("1Mtokens", ("tokens", "epochs")),
    "parameters": ("30s", ("seconds", "tokens", "epochs", "steps")),
}
"""What can be made equal: the budget that is taken if none is given, and the units that it may have."""

WIDTH = "width"
"""The setting that makes a model larger or smaller, where it has one of that name."""

WIDTH_STEP = 8  # widths are multiples of it, which processors like
MAX_WIDTH = 2**16

Size = Callable[[Settings], int]
"""How many parameters a model of these settings has."""


@dataclass(frozen=True)
class Plan:
    """What one architecture is to be trained with; `scaled` is the setting that was chosen to match the parameters."""

    config: Settings
    training: TrainingConfig
    scaled: str | None = None


def budget_for(match: str | None, budget: str | None) -> str:
    """The budget of each contender. Raises UsageError for one that does not make equal what is to be equal."""
    default, units = MATCHES[match or "seconds"]
    budget = budget or default
    if match and (unit := Budget.parse(budget).unit) not in units:
        raise UsageError(f"{match} wants a `budget` in {' or '.join(units)}, such as {default}, not in {unit}", "match")
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
    middle one of them; one without a width see `_scaling`. Raises UsageError for an option that none of them has, or a
    value that one of them cannot have.
    """
    if vocab_size is not None and WIDTH in options:
        raise UsageError("parameters chooses the widths: leave `width` out", "match")
    names = list(dict.fromkeys(architectures))
    owned = {name: ARCHITECTURES[name].Config.names() for name in names}
    for option in options:
        if not any(option in own for own in owned.values()):
            raise UsageError(f"is not an option of {_listed(names)}{_others(option)}", option)
    plans = {}
    for name in names:
        own = {option: value for option, value in options.items() if option in owned[name]}
        try:
            config = model_config(name, size, own, characters, Budget.parse(training.budget), speed)
        except UsageError as problem:
            raise UsageError(f"{problem.problem} (for {name})", problem.setting) from None
        plans[name] = Plan(config, complete(training, name))
    return plans if vocab_size is None else _equally_large(plans, options, vocab_size)


def _listed(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _others(option: str) -> str:
    owners = [name for name in SINGLE if option in ARCHITECTURES[name].Config.names()]
    return f"; {', '.join(owners)} {'have' if len(owners) > 1 else 'has'} it" if owners else ""


def _equally_large(plans: Mapping[str, Plan], fixed: Collection[str], vocab_size: int) -> dict[str, Plan]:
    """The plans with other widths. What is counted has as many numbers as its text has n-grams, and stays."""
    sizes = {name: _parameters(name, vocab_size) for name in plans if ARCHITECTURES[name].by_gradient}
    if not sizes:
        return dict(plans)
    target = median_low(size(plans[name].config) for name, size in sizes.items())
    scaled = {name: _scaled(plans[name], fixed, size, target) for name, size in sizes.items()}
    return {**plans, **scaled}


def _parameters(name: str, vocab_size: int) -> Size:
    def count(config: Settings) -> int:
        with torch.device("meta"):  # shapes alone
            return ARCHITECTURES[name](config, vocab_size).parameters_count

    return count


def _scaled(plan: Plan, fixed: Collection[str], size: Size, target: int) -> Plan:
    """The plan with the size nearest to the target, by one setting; as it is where no setting scales the model."""
    name = _scaling(plan.config, fixed, size)
    if name is None:
        return plan
    highest = step = WIDTH_STEP if name == WIDTH else 1
    while highest < MAX_WIDTH and not ((config := _changed(plan.config, name, highest)) and size(config) >= target):
        highest *= 2
    values = range(step, highest + 1, step)
    possible = [config for value in values if (config := _changed(plan.config, name, value))] or [plan.config]
    place = bisect_left(possible, target, key=size)  # the size grows with the setting
    near = possible[max(0, place - 1) : place + 1]
    return replace(plan, config=min(near, key=lambda config: abs(size(config) - target)), scaled=name)


def _scaling(config: Settings, fixed: Collection[str], size: Size) -> str | None:
    """The setting that makes a model larger: the width, or the whole number whose double adds most parameters.

    None where there is none besides those that are `fixed`.
    """
    if WIDTH in config.names():
        return WIDTH
    whole = {name: value for name in config.names() if type(value := getattr(config, name)) is int}
    doubled = {name: _changed(config, name, 2 * value) for name, value in whole.items() if name not in fixed}
    added = {name: size(larger) - size(config) for name, larger in doubled.items() if larger}
    name = max(added, key=lambda name: added[name], default="")
    return name if added.get(name, 0) > 0 else None


def _changed(config: Settings, name: str, value: int) -> Settings | None:
    """The settings with another value of one of them; None where it cannot have that beside the others."""
    try:
        return replace(config, **{name: value})
    except UsageError:
        return None
