"""The plan of a run: text, architecture, budget and machine -> the size of the model and the training settings."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from charlm.config import Settings
from charlm.errors import UsageError
from charlm.models import ALL_ARCHITECTURES, MixtureConfig
from charlm.models.contexts import SECONDS_PER_TOKEN, Contexts
from charlm.training.budget import Budget
from charlm.training.mixture import learner
from charlm.training.optimizers import DECAYS
from charlm.training.policy import BATCH, SEGMENT, policy_of
from charlm.training.settings import TrainingConfig

SIZES = ("auto", "tiny", "small", "medium", "large")


def model_config(
    architecture: str, size: str, options: Mapping[str, Any], characters: int, budget: Budget, speed: float = 1.0
) -> Settings:
    """The architecture's Config for a size, with the options that were given on top of it.

    Dropout goes by how long the text is and how often it will be read: `computing.speed` says how much is read in a
    budget of time. A mixture has a model of contexts where counting them leaves its network enough of the budget.
    Raises UsageError for an option that the architecture does not have, listing those it has.
    """
    kind = ALL_ARCHITECTURES[architecture]
    known = kind.Config.names()
    for name in options:
        if name not in known:
            raise UsageError(
                f"is not an option of {architecture}; it has {', '.join(f'`{own}`' for own in known) or 'none'}", name
            )
    if size == "auto":
        size = auto_size(architecture, characters, budget, speed)
    config = kind.Config(**policy_of(architecture).sizes.get(size, {}))
    if "dropout" in known:
        passes = _tokens(size, characters, budget, speed) / max(1, characters)
        dropout = usual_dropout(learner(architecture, config)[0], size, characters, passes)
        config = config.changed({"dropout": dropout})
    if isinstance(config, MixtureConfig) and _contexts_take_long(size, characters, budget):
        config = config.without("contexts")
        for name in set(options) & set(Contexts.Config.names()):
            raise UsageError("has no effect here: counting contexts would take too much of the budget", name)
    config = config.changed(options)
    for name, why in config.unheeded().items():
        if name in options:
            raise UsageError(f"has no effect {why}; leave it out", name)
    return config


def _contexts_take_long(size: str, characters: int, budget: Budget) -> bool:
    """Whether a mixture trains its network for longer, and holds more of the text, without a model of contexts."""
    available = budget.seconds or max(MIN_SECONDS, _tokens(size, characters, budget, 1.0) / TOKENS_PER_SECOND[size])
    return characters > MAX_CHARACTERS or SECONDS_PER_TOKEN * characters > CONTEXTS_SHARE * available


def assumptions(architecture: str, size: str, config: Settings, characters: int, budget: Budget, speed: float) -> str:
    """What was chosen for a network and by what, in a line: size, dropout, text, budget, and the assumed speed."""
    taken = auto_size(architecture, characters, budget, speed) if size == "auto" else size
    chosen = (
        "its only size"
        if not policy_of(architecture).sizes
        else f"size {taken} (auto)"
        if size == "auto"
        else f"size {size}"
    )
    dropout = getattr(learner(architecture, config)[1], "dropout", None)
    rate = speed * TOKENS_PER_SECOND[taken]
    shown = f"{chosen}, dropout {dropout:g}" if dropout is not None else chosen
    if isinstance(config, MixtureConfig):
        shown = f"{', '.join(member.architecture for member in config.members)}, {shown}"
    return f"{shown}; for {characters:,} characters at about {rate:,.0f} a second, as assumed of this processor"


CONTEXTS_SHARE = 0.5  # of the time, at most, that a mixture takes for counting contexts
MIN_SECONDS = 120  # that anybody has for a budget that is not one of time
MAX_CHARACTERS = 10_000_000  # that the tables of contexts hold

TOKENS_PER_SECOND = {"tiny": 250_000, "small": 70_000, "medium": 40_000, "large": 10_000}
"""Training speed of each size at `computing.speed` 1, in tokens per second, whatever the architecture."""


def auto_size(architecture: str, characters: int, budget: Budget, speed: float = 1.0) -> str:
    """The size that learns most of a text of so many characters within a budget, of minutes where `speed` is 1.

    A text that is not even read once gets medium only from twice the time on: until then, reading more of it is worth
    more than a larger network.
    """
    tokens = _tokens("small", characters, budget, speed)
    minutes = tokens / TOKENS_PER_SECOND["small"] / 60
    if minutes < 0.2:
        return "tiny"
    if (
        minutes < policy_of(architecture).medium_from_minutes * (1 if tokens > characters else 2)
        or characters < 100_000
    ):
        return "small"
    return "medium" if minutes < 60 or characters < 20_000_000 else "large"


OVERFIT_MULTIPLIERS = {"tiny": 0.17, "small": 0.5, "medium": 1.0, "large": 2.0}
"""How fast a network of each size over-fits with each pass over a text, relative to medium."""


def usual_dropout(architecture: str, size: str, characters: int, passes: float) -> float:
    """No dropout for a few passes over a text, then more with each pass and for shorter texts (40 KB to 15 MB)."""
    overfit = OVERFIT_MULTIPLIERS[size] * passes * (1e6 / max(1, characters)) ** 0.4
    dropout = min(0.6, max(0.0, 0.5 * math.log10(max(1.0, overfit) / 6)))
    return round(policy_of(architecture).dropout_share * dropout, 2)


def _tokens(size: str, characters: int, budget: Budget, speed: float) -> float:
    """About how many a network of a size will learn from, those of a text counted as often as it is read."""
    each = {"seconds": speed * TOKENS_PER_SECOND[size], "steps": BATCH * SEGMENT, "epochs": characters, "tokens": 1}
    return budget.amount * each[budget.unit]


def recipe_of(architecture: str, optimizer: str | None = None) -> dict[str, Any]:
    """What an architecture is trained with where the user leaves it open, with this optimizer or its own.

    A model that is not trained by gradient descent has none.
    """
    if not ALL_ARCHITECTURES[architecture].by_gradient:
        return {}
    policy = policy_of(architecture)
    optimizer = optimizer or policy.optimizer
    steps = {"optimizer": optimizer, "batch": BATCH, "segment": SEGMENT}
    return {**steps, "learning_rate": policy.learning_rate(optimizer), "weight_decay": DECAYS[optimizer]}


def complete(training: TrainingConfig, architecture: str) -> TrainingConfig:
    """The training settings with what the user left open taken from the architecture's policy."""
    recipe = recipe_of(architecture, training.optimizer)
    open_ones = {f.name for f in dataclasses.fields(training) if getattr(training, f.name) is None}
    return dataclasses.replace(training, **{name: recipe[name] for name in open_ones if name in recipe})
