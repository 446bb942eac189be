"""The architectures, one file each, and the table that everything else iterates."""

from collections import ChainMap
from collections.abc import Mapping

from charlm.models.adapting import Dynamic, adaptations, adapted, nearest
from charlm.models.base import CountingModel, LanguageModel, Network, State, detach, device_of, select
from charlm.models.contexts import Contexts
from charlm.models.decoder import Decoder
from charlm.models.feedforward import FeedForward
from charlm.models.mixture import COMBINATIONS, Member, Mixture, MixtureConfig
from charlm.models.ngram import NGram
from charlm.models.recurrent import GRU, LSTM, RNN
from charlm.models.transformer import Transformer

ARCHITECTURES: dict[str, type[LanguageModel]] = {
    "ngram": NGram,
    "contexts": Contexts,
    "feedforward": FeedForward,
    "rnn": RNN,
    "gru": GRU,
    "lstm": LSTM,
    "transformer": Transformer,
    "mixture": Mixture,
}
ALL_ARCHITECTURES: Mapping[str, type[LanguageModel]] = ChainMap(ARCHITECTURES, {"decoder": Decoder})
"""What a run may be: the architectures that charlm trains, and one that is imported only."""

SINGLE = tuple(name for name, kind in ARCHITECTURES.items() if kind is not Mixture)
"""The architectures that are made of no others."""


def architecture_of(model: LanguageModel) -> str:
    """The name by which `ALL_ARCHITECTURES` lists a model's class; the class's own where it lists none."""
    return next((name for name, kind in ALL_ARCHITECTURES.items() if type(model) is kind), type(model).__name__)


__all__ = [
    "ALL_ARCHITECTURES",
    "ARCHITECTURES",
    "COMBINATIONS",
    "SINGLE",
    "CountingModel",
    "Dynamic",
    "LanguageModel",
    "Member",
    "Mixture",
    "MixtureConfig",
    "Network",
    "State",
    "adaptations",
    "adapted",
    "architecture_of",
    "detach",
    "device_of",
    "nearest",
    "select",
]
