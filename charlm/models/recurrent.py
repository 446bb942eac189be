"""Recurrent networks: a hidden vector that is updated at every token.

Shapes: B streams, T time steps, V vocabulary, H hidden width (also the width of the embeddings).
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from charlm.config import Settings, setting
from charlm.models.base import Dropout, Network, State
from charlm.models.gru import Recurrence


@dataclass(frozen=True)
class RecurrentConfig(Settings):
    """The settings of every recurrent network."""

    width: int = setting(256, "units per layer, and the width of the embeddings", min=1)
    layers: int = setting(1, "layers, one above the other, with a residual connection around each", min=1, max=256)
    dropout: float = setting(0.1, "share of the activations dropped between layers while training", min=0.0, below=1.0)
    tie: bool = setting(False, "use the embedding matrix as the output layer too (Press & Wolf 2017)")


class Recurrent(Network):
    """Embedding -> recurrent layers with residual connections and dropout -> output layer.

    The state has one leaf (B, H) for each vector of each layer: h, and c in an LSTM.
    """

    Config = RecurrentConfig
    config: RecurrentConfig
    carried: ClassVar[int] = 1  # vectors in the state of a layer: (h,) or (h, c)

    def __init__(self, config: RecurrentConfig, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.config = config
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.layers = nn.ModuleList(self.layer() for _ in range(config.layers))
        self.dropout = Dropout(config.dropout)
        self.output = nn.Linear(config.width, vocab_size)
        if config.tie:
            self.output.weight = self.embedding.weight
            nn.init.normal_(self.embedding.weight, std=config.width**-0.5)

    @abstractmethod
    def layer(self) -> nn.RNNBase:
        """A new initialised layer."""

    def run(self, layer: nn.Module, x: Tensor, vectors: State) -> tuple[Tensor, State]:
        """All T steps of a layer: x (B, T, H) and its state, each (B, H) -> y (B, T, H) and the state after."""
        stacked = tuple(v.unsqueeze(0) for v in vectors)
        y, stacked = layer(x, stacked[0] if self.carried == 1 else stacked)
        return y, tuple(v.squeeze(0) for v in ((stacked,) if self.carried == 1 else stacked))

    @override
    def initial_state(self, streams: int) -> State:
        weight = self.embedding.weight
        return tuple(weight.new_zeros(streams, self.config.width) for _ in range(self.carried * len(self.layers)))

    @override
    def features(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        x = self.dropout(self.embedding(tokens))  # (B, T, H)
        after: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            vectors = state[number * self.carried : (number + 1) * self.carried]
            y, vectors = self.run(layer, x, vectors)
            after += vectors
            x = x + self.dropout(y)
        return x, tuple(after)


@dataclass(frozen=True)
class RNNConfig(RecurrentConfig):
    """The settings of an RNN."""

    activation: str = setting(
        "tanh", "relu starts from identity recurrent weights and zero bias (Le et al. 2015)", choices=("tanh", "relu")
    )


class RNN(Recurrent):
    """h' = tanh(W x + U h + b) (Elman 1990), or relu with U = I at the start (Le, Jaitly & Hinton 2015)."""

    Config = RNNConfig
    config: RNNConfig

    @override
    def layer(self) -> nn.RNNBase:
        width = self.config.width
        layer = nn.RNN(width, width, nonlinearity=self.config.activation, batch_first=True)
        if self.config.activation == "relu":
            input_weight, recurrent_weight, *biases = layer.parameters()
            nn.init.eye_(recurrent_weight)
            nn.init.normal_(input_weight, std=width**-0.5 / 4)
            for bias in biases:
                nn.init.zeros_(bias)
        return layer


class GRU(Recurrent):
    """An update gate and a reset gate (Cho et al. 2014); torch resets after the product with h, not before."""

    @override
    def layer(self) -> nn.RNNBase:
        return nn.GRU(self.config.width, self.config.width, batch_first=True)

    @override
    def run(self, layer: nn.Module, x: Tensor, vectors: State) -> tuple[Tensor, State]:
        """Training on a CPU uses `gru.Recurrence`, which is nearly twice as fast as torch's own gradient."""
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().run(layer, x, vectors)
        h = Recurrence.apply(x.transpose(0, 1), vectors[0], *layer.parameters())  # type: ignore[no-untyped-call]
        return h.transpose(0, 1), (h[-1],)


class LSTM(Recurrent):
    """A memory cell c with input, forget and output gates (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    The bias of the forget gate starts at 1, so that the cell keeps its content at first.
    """

    carried = 2

    @override
    def layer(self) -> nn.RNNBase:
        """The forget bias is 1; torch orders the gates input, forget, cell, output."""
        width = self.config.width
        layer = nn.LSTM(width, width, batch_first=True)
        _, _, input_bias, recurrent_bias = layer.parameters()
        nn.init.zeros_(recurrent_bias)
        nn.init.zeros_(input_bias)
        nn.init.ones_(input_bias[width : 2 * width])
        return layer
