"""Recurrent networks: a hidden vector that is carried along and rewritten at every token.

Shapes: B streams, T time steps, V vocabulary, H hidden width (also the width of the embeddings).
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from charlm.config import Settings, setting
from charlm.models.base import Dropout, LogProbs, Network, State, Step, Tokens, device_of
from charlm.models.gru import Recurrence
from charlm.models.stepping import Array, Compiled, One, by_streams, output

TABULATED = 2048
"""Ids up to which it pays to compute beforehand what the first layer makes of each."""


@dataclass(frozen=True)
class RecurrentConfig(Settings):
    """What every recurrent network can be told."""

    width: int = setting(256, "units per layer, and the width of the embeddings", min=1)
    layers: int = setting(1, "layers, one above the other, with a residual connection around each", min=1, max=256)
    dropout: float = setting(0.1, "share of the activations dropped between layers while training", min=0.0, below=1.0)
    tie: bool = setting(False, "use the embedding matrix as the output layer too (Press & Wolf 2017)")


class Recurrent(Network):
    """Embedding -> layers of one recurrence, each added to its input -> dropout -> output layer.

    The state holds one (B, H) leaf per layer for each vector that the recurrence carries.
    """

    Config = RecurrentConfig
    config: RecurrentConfig
    kernel: ClassVar[str]  # its step in `charlm.models.compiled`
    carried: ClassVar[int] = 1  # vectors that a layer hands to its next step: (h,) or (h, c)
    sigmoids: ClassVar[tuple[int, ...]] = ()  # which of a layer's gates they are
    one_bias: ClassVar[bool] = True  # whether b and c are only ever added to each other
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"width": 128, "layers": 1},
        "small": {"width": 384, "layers": 1},
        "medium": {"width": 384, "layers": 2},
        "large": {"width": 768, "layers": 2},
    }

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
        """One layer of the recurrence, initialised."""

    def run(self, layer: nn.Module, x: Tensor, vectors: State) -> tuple[Tensor, State]:
        """All steps of a layer: x and its output (B, T, H), vectors and what they become each (B, H)."""
        stacked = tuple(v.unsqueeze(0) for v in vectors)
        y, stacked = layer(x, stacked[0] if self.carried == 1 else stacked)
        return y, tuple(v.squeeze(0) for v in ((stacked,) if self.carried == 1 else stacked))

    @abstractmethod
    def cell(self, x: Tensor, vectors: State, weights: Iterator[nn.Parameter]) -> State:
        """One step of a layer without its fused kernel: x (B, H), vectors and what they become each (B, H)."""

    @abstractmethod
    def advance(self, xp: One, x: Array, U: Array, c: Array, vectors: tuple[Array, ...], /) -> tuple[Array, ...]:
        """One step in the arithmetic of `xp`: from x, W x + b of the equations (B, G), and a layer `_laid_out`."""

    def initial_state(self, streams: int) -> State:
        """Zeros."""
        weight = self.embedding.weight
        return tuple(weight.new_zeros(streams, self.config.width) for _ in range(self.carried * len(self.layers)))

    def features(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """As the interface says."""
        x = self.dropout(self.embedding(tokens))  # (B, T, H)
        after: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            vectors = state[number * self.carried : (number + 1) * self.carried]
            if tokens.shape[1] == 1 and not self.training:  # sampling: the kernels re-arrange all weights at each call
                vectors = self.cell(x[:, 0], vectors, layer.parameters())
                y = vectors[0].unsqueeze(1)
            else:
                y, vectors = self.run(layer, x, vectors)
            after += vectors
            x = x + self.dropout(y)
        return x, tuple(after)

    def stepper(self, state: State) -> tuple[Step, State]:
        """As the interface says. What the first layer makes of each id is looked up, where the vocabulary is small."""
        if device_of(self).type != "cpu":
            return super().stepper(state)
        return by_streams(self._step), tuple(leaf.float() for leaf in state)

    def _step(self, xp: One) -> Step:
        embedding = self.embedding.weight.detach().float()
        laid_out = [self._laid_out(layer) for layer in self.layers]
        W, b, *_ = laid_out[0]
        inputs = xp.weight(torch.addmm(b, embedding, W)) if self.vocab_size <= TABULATED else None
        table, carried = xp.weight(embedding), self.carried
        layers = [(xp.matrix(W), xp.weight(b), xp.matrix(U), xp.weight(c)) for W, b, U, c in laid_out]
        advance = partial(self.advance, xp)
        if isinstance(xp, Compiled):
            advance = partial(xp.advanced, getattr(xp.kernels, self.kernel))
        log_probs = output(xp, self)

        def step(tokens: Tokens, state: State) -> tuple[LogProbs, State]:
            x, after = xp.rows(table, tokens), []
            for number, (W, b, U, c) in enumerate(layers):
                vectors = tuple(xp.read(leaf) for leaf in state[number * carried : (number + 1) * carried])
                looked_up = number == 0 and inputs is not None
                gates = xp.rows(inputs, tokens) if looked_up else xp.linear(x, W, b)
                vectors = advance(gates, U, c, vectors)
                after += [xp.leaf(vector) for vector in vectors]
                x = x + vectors[0]
            return log_probs(x, tokens), tuple(after)

        return xp.shared_out(step) if isinstance(xp, Compiled) else step

    def _laid_out(self, layer: nn.Module) -> list[Tensor]:
        """W (H, G), b (G,), U (H, G), c (G,) of a layer, halved for sigmoids, which are (1 + tanh(x/2)) / 2."""
        W, U, b, c = (weight.detach().float() for weight in layer.parameters())
        scale = torch.ones(len(b)).view(-1, self.config.width)
        scale[list(self.sigmoids)] = 0.5
        scale = scale.flatten()
        b = b + c if self.one_bias else b
        return [W.T * scale, b * scale, U.T * scale, c * scale]


@dataclass(frozen=True)
class RNNConfig(RecurrentConfig):
    """The plain network can also choose its activation."""

    activation: str = setting(
        "tanh", "relu starts from identity recurrent weights and zero bias (Le et al. 2015)", choices=("tanh", "relu")
    )


class RNN(Recurrent):
    """h' = tanh(W x + U h + b) (Elman 1990), or relu with U = I at the start (Le, Jaitly & Hinton 2015)."""

    Config = RNNConfig
    config: RNNConfig
    recipe: ClassVar[Mapping[str, Any]] = {**Network.recipe, "optimizer": "muon"}
    rates: ClassVar[Mapping[str, float]] = {**Network.rates, "adamw": 2.5e-3, "adam": 2.5e-3}

    @property
    def kernel(self) -> str:  # type: ignore[override]
        """That of the activation."""
        return f"rnn_{self.config.activation}"

    def layer(self) -> nn.RNNBase:
        """One layer; for relu with identity recurrent weights and zero bias."""
        width = self.config.width
        layer = nn.RNN(width, width, nonlinearity=self.config.activation, batch_first=True)
        if self.config.activation == "relu":
            input_weight, recurrent_weight, *biases = layer.parameters()
            nn.init.eye_(recurrent_weight)
            nn.init.normal_(input_weight, std=width**-0.5 / 4)
            for bias in biases:
                nn.init.zeros_(bias)
        return layer

    def cell(self, x: Tensor, vectors: State, weights: Iterator[nn.Parameter]) -> State:
        """As `layer` does it."""
        step = torch.rnn_tanh_cell if self.config.activation == "tanh" else torch.rnn_relu_cell
        return (step(x, vectors[0], *weights),)

    def advance(self, xp: One, x: Array, U: Array, _c: Array, vectors: tuple[Array, ...], /) -> tuple[Array, ...]:
        """As `layer` does it."""
        h = xp.linear(vectors[0], U, x)
        return (xp.tanh(h) if self.config.activation == "tanh" else xp.relu(h),)


class GRU(Recurrent):
    """A gate decides how much of h is kept, another how much of it is read (Cho et al. 2014)."""

    recipe: ClassVar[Mapping[str, Any]] = {**Network.recipe, "optimizer": "muon"}
    rates: ClassVar[Mapping[str, float]] = {**Network.rates, "adamw": 3e-3, "adam": 3e-3}
    kernel = "gru"
    sigmoids = (0, 1)
    one_bias = False

    def layer(self) -> nn.RNNBase:
        """One layer, in torch's variant: what is read of h is decided after the matrix product, not before."""
        return nn.GRU(self.config.width, self.config.width, batch_first=True)

    def run(self, layer: nn.Module, x: Tensor, vectors: State) -> tuple[Tensor, State]:
        """As `layer` does it; on a CPU, to learn from it, with a gradient of our own, nearly twice as fast."""
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().run(layer, x, vectors)
        h = Recurrence.apply(x.transpose(0, 1), vectors[0], *layer.parameters())  # type: ignore[no-untyped-call]
        return h.transpose(0, 1), (h[-1],)

    def cell(self, x: Tensor, vectors: State, weights: Iterator[nn.Parameter]) -> State:
        """As `layer` does it."""
        return (torch.gru_cell(x, vectors[0], *weights),)

    def advance(self, xp: One, x: Array, U: Array, c: Array, vectors: tuple[Array, ...], /) -> tuple[Array, ...]:
        """As `layer` does it."""
        H, h = self.config.width, xp.linear(vectors[0], U, c)
        gates = xp.tanh(x[..., : 2 * H] + h[..., : 2 * H])
        new = xp.tanh(x[..., 2 * H :] + (gates[..., :H] + 1) * h[..., 2 * H :] * 0.5)
        return (new + (gates[..., H:] + 1) * (vectors[0] - new) * 0.5,)


class LSTM(Recurrent):
    """A cell c that is added to, not rewritten, behind three gates (Hochreiter & Schmidhuber 1997).

    The forget gate's bias starts at 1, so that the cell remembers until it learns what to forget (Gers et al. 2000).
    """

    kernel = "lstm"
    carried = 2
    sigmoids = (0, 1, 3)

    def layer(self) -> nn.RNNBase:
        """One layer with forget bias 1; torch orders the gates input, forget, cell, output."""
        width = self.config.width
        layer = nn.LSTM(width, width, batch_first=True)
        _, _, input_bias, recurrent_bias = layer.parameters()
        nn.init.zeros_(recurrent_bias)
        nn.init.zeros_(input_bias)
        nn.init.ones_(input_bias[width : 2 * width])
        return layer

    def cell(self, x: Tensor, vectors: State, weights: Iterator[nn.Parameter]) -> State:
        """As `layer` does it."""
        return torch.lstm_cell(x, vectors, *weights)

    def advance(self, xp: One, x: Array, U: Array, _c: Array, vectors: tuple[Array, ...], /) -> tuple[Array, ...]:
        """As `layer` does it."""
        H = self.config.width
        gates = xp.tanh(xp.linear(vectors[0], U, x))
        i, f, g, o = (gates[..., at : at + H] for at in range(0, 4 * H, H))
        c = ((f + 1) * vectors[1] + (i + 1) * g) * 0.5
        return (o + 1) * xp.tanh(c) * 0.5, c
