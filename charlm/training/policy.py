"""How each architecture is trained where the user leaves it open: a table, with a default for those not in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from charlm.models.mixture import usual_members
from charlm.models.recurrent import LSTM

Sizes = Mapping[str, Mapping[str, Any]]

BATCH, SEGMENT = 32, 64
"""Streams of a step, and tokens of each."""

LEARNING_RATES = MappingProxyType({"adamw": 5e-3, "adam": 5e-3, "muon": 8e-3, "rmsprop": 1e-3, "sgd": 0.2})

RECURRENT: Sizes = {
    "tiny": {"width": 128, "layers": 1},
    "small": {"width": 384, "layers": 1},
    "medium": {"width": 384, "layers": 2},
    "large": {"width": 768, "layers": 2},
}
FEEDFORWARD: Sizes = {
    "tiny": {"width": 128, "layers": 1, "embedding": 16, "window": 8},
    "small": {"width": 512, "layers": 2},
    "medium": {"width": 1024, "layers": 3},
    "large": {"width": 2048, "layers": 4, "embedding": 64},
}
TRANSFORMER: Sizes = {
    "tiny": {"width": 64, "layers": 2, "heads": 2, "kv_heads": 1, "window": 64, "previous": True},
    "small": {"width": 128, "layers": 4, "heads": 4, "kv_heads": 1, "previous": True},
    "medium": {"width": 192, "layers": 4, "heads": 4, "kv_heads": 1, "window": 128, "previous": True},
    "large": {"width": 384, "layers": 6, "heads": 6, "kv_heads": 1, "window": 256, "previous": True},
}


@dataclass(frozen=True)
class Policy:
    """Sizes and training settings of an architecture, as measured best."""

    sizes: Sizes = field(default_factory=dict)
    """What the sizes tiny, small, medium and large set in its Config; none: it has one size."""
    optimizer: str = "adamw"
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    """By optimizer, where not those of `LEARNING_RATES`."""
    dropout_share: float = 1.0
    """Of the usual dropout; less where it acts in more places."""
    medium_from_minutes: float = 1.5
    """Training time from which on size medium learns more than small."""

    def learning_rate(self, optimizer: str) -> float:
        """The rate with an optimizer."""
        return {**LEARNING_RATES, **self.learning_rates}[optimizer]


POLICIES: dict[str, Policy] = {
    "feedforward": Policy(FEEDFORWARD, learning_rates={"adamw": 2e-3, "adam": 2e-3, "muon": 4e-3}),
    "rnn": Policy(RECURRENT, "muon", {"adamw": 2.5e-3, "adam": 2.5e-3}),
    "gru": Policy(RECURRENT, "muon", {"adamw": 3e-3, "adam": 3e-3}),
    "lstm": Policy(RECURRENT),
    "transformer": Policy(TRANSFORMER, "muon", dropout_share=0.4, medium_from_minutes=3.0),
    "mixture": Policy({name: {"members": usual_members(LSTM.Config(**size))} for name, size in RECURRENT.items()}),
}


def policy_of(architecture: str) -> Policy:
    """That of the table, or the default."""
    return POLICIES.get(architecture, Policy())
