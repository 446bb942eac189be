"""From what the user said to what the run needs: the size of the model, the architecture's own training settings."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from charlm.config import Settings, option_name
from charlm.errors import UsageError
from charlm.models import ARCHITECTURES
from charlm.training.budget import Budget
from charlm.training.optimizers import DECAYS
from charlm.training.settings import TrainingConfig

SIZES = ("auto", "tiny", "small", "medium", "large")


def model_config(architecture: str, size: str, options: Mapping[str, Any], characters: int, budget: Budget) -> Settings:
    """The architecture's Config for a size, with the options that were given on top of it.

    Raises UsageError for an option that the architecture does not have, listing those it has.
    """
    kind = ARCHITECTURES[architecture]
    known = kind.Config.names()
    for name in options:
        if name not in known:
            raise UsageError(
                f"{option_name(name)} is not an option of {architecture}; it has {', '.join(map(option_name, known))}"
            )
    chosen = kind.sizes.get(auto_size(characters, budget) if size == "auto" else size, {})
    return kind.Config(**chosen).changed(options)


def auto_size(characters: int, budget: Budget) -> str:
    """The size for a text of so many characters and a budget: what can be learned from the one within the other."""
    minutes = (budget.seconds or 120.0) / 60
    if characters < 50_000 or minutes < 0.2:
        return "tiny"
    if minutes < 3:
        return "small"
    return "medium" if minutes < 60 or characters < 20_000_000 else "large"


def complete(training: TrainingConfig, architecture: str) -> TrainingConfig:
    """The training settings with what the user left open taken from the architecture's recipe."""
    kind = ARCHITECTURES[architecture]
    optimizer = training.optimizer or kind.recipe.get("optimizer")
    recipe = {**kind.recipe, "learning_rate": kind.rates.get(optimizer), "weight_decay": DECAYS.get(optimizer)}
    open_ones = {f.name for f in dataclasses.fields(training) if getattr(training, f.name) is None}
    return dataclasses.replace(training, **{name: recipe[name] for name in open_ones if name in recipe})
