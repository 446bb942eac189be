"""The architectures, one file each, and the table that everything else iterates."""

from charlm.models.base import CountingModel, LanguageModel, Network, State, detach, device_of, select
from charlm.models.feedforward import FeedForward
from charlm.models.ngram import NGram
from charlm.models.recurrent import GRU, LSTM, RNN
from charlm.models.transformer import Transformer

ARCHITECTURES: dict[str, type[LanguageModel]] = {
    "ngram": NGram,
    "feedforward": FeedForward,
    "rnn": RNN,
    "gru": GRU,
    "lstm": LSTM,
    "transformer": Transformer,
}

__all__ = [
    "ARCHITECTURES",
    "CountingModel",
    "LanguageModel",
    "Network",
    "State",
    "detach",
    "device_of",
    "select",
]
