"""The compiled engine of recurrent networks.

Shapes: B streams, L layers, C vectors that a layer carries, H hidden width, G gates times H, N tokens, V vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from typing_extensions import override

from charlm.config import Settings
from charlm.inference.eager import TOKENS_PER_CALL
from charlm.inference.engine import Engine, LogProbs, Tokens
from charlm.inference.kernels import recurrent as kernels
from charlm.inference.kernels.arithmetic import Array, Kernel, load
from charlm.inference.output import Output, as_array
from charlm.inference.sharing import Sharing
from charlm.models.base import LanguageModel
from charlm.models.recurrent import GRU, LSTM, RNN, Recurrent, RNNConfig

MAX_TABULATED_IDS = 2048
"""Vocabulary up to which the first layer's product is computed beforehand for each id."""


SIGMOIDS: dict[type[Recurrent], tuple[int, ...]] = {RNN: (), GRU: (0, 1), LSTM: (0, 1, 3)}
"""Which of a layer's gates are sigmoids."""


class Layer(NamedTuple):
    """The weights of a layer as the kernels read them: W, U (G, H), b, c (G,)."""

    W: Array
    b: Array
    U: Array
    c: Array


class RecurrentEngine(Engine):
    """The state is an array (L, C, B, H)."""

    backend = "compiled"

    def __init__(self, model: Recurrent) -> None:
        super().__init__(model)
        self.recurrent = model
        self.sharing, self.output = Sharing(self.threads), Output(model)
        self.product, self.cell = load(kernels.product), load(_cell(type(model), model.config))
        self.embedding = as_array(model.embedding.weight)  # (V, H)
        self.layers = [self._layer(*layer.parameters()) for layer in model.layers]
        self.inputs: Array | None = None  # (V, G): W x + b of the first layer for each id
        if self.vocab_size <= MAX_TABULATED_IDS:
            W, b, *_ = self.layers[0]
            self.inputs = np.repeat(b[None], self.vocab_size, 0)
            self.product(self.embedding, W, self.inputs)

    def _layer(self, W: torch.Tensor, U: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> Layer:
        """The weights with the rows of sigmoid gates halved. c is added to b, except for a GRU."""
        scale = torch.ones(len(b)).view(-1, self.recurrent.config.width)
        scale[list(SIGMOIDS[type(self.recurrent)])] = 0.5
        scale = scale.flatten()
        b = b if isinstance(self.recurrent, GRU) else b + c
        return Layer(
            as_array(W * scale[:, None]), as_array(b * scale), as_array(U * scale[:, None]), as_array(c * scale)
        )

    @override
    def start(self, streams: int) -> Array:
        return np.zeros((len(self.layers), self.recurrent.carried, streams, self.embedding.shape[1]), np.float32)

    @override
    def read(self, tokens: Sequence[int] | Tokens, state: Array) -> tuple[LogProbs, Array]:
        stream, state = np.array(tokens, np.int64), state.copy()
        for begin in range(0, len(stream) - 1, TOKENS_PER_CALL):
            self._read(stream[begin : min(begin + TOKENS_PER_CALL, len(stream) - 1)], state)
        return self.step(stream[-1:], state)

    @override
    def step(self, tokens: Tokens, state: Array) -> tuple[LogProbs, Array]:
        state, log_probs = state.copy(), self.output.empty(len(tokens))

        def work(begin: int, end: int) -> None:
            self._step(tokens[begin:end], state[:, :, begin:end], log_probs[begin:end])

        self.sharing.run(len(tokens), work)
        return log_probs, state

    def _read(self, tokens: Tokens, state: Array) -> None:
        """Read tokens (N,) of one stream; `state` changes. On one core twice as fast as torch for an RNN or GRU."""
        x = self.embedding.take(tokens, 0)
        for number, (layer, vectors) in enumerate(zip(self.layers, state, strict=True)):
            gates = self._gates(number, tokens, x)
            for n in range(len(tokens)):
                self.cell(gates[n : n + 1], layer.U, layer.c, *vectors)
                x[n] += vectors[0, 0]

    def _gates(self, number: int, tokens: Tokens, x: Array) -> Array:
        """(B, G): W x + b of a layer, whose input is x (B, H)."""
        if number == 0 and self.inputs is not None:
            return self.inputs.take(tokens, 0)
        layer = self.layers[number]
        gates = np.empty((len(tokens), len(layer.b)), np.float32)
        gates[:] = layer.b
        self.product(x, layer.W, gates)
        return gates

    def _step(self, tokens: Tokens, state: Array, log_probs: LogProbs) -> None:
        x = self.embedding.take(tokens, 0)
        for number, (layer, vectors) in enumerate(zip(self.layers, state, strict=True)):
            self.cell(self._gates(number, tokens, x), layer.U, layer.c, *vectors)
            x += vectors[0]
        self.output.write(tokens, x, log_probs)

    @override
    def join(self, states: Sequence[Array]) -> Array:
        return np.concatenate(states, 2)

    @override
    def select(self, state: Array, streams: Sequence[int] | Tokens) -> Array:
        return state.take(streams, 2)


def kernels_of(kind: type[LanguageModel], config: Settings) -> list[Kernel]:
    """The kernels that `RecurrentEngine` loads for such a model."""
    return [*Output.kernels, kernels.product, _cell(kind, config)]


def _cell(kind: type[LanguageModel], config: Settings) -> Kernel:
    if isinstance(config, RNNConfig):
        return kernels.rnn_tanh if config.activation == "tanh" else kernels.rnn_relu
    return kernels.lstm if kind is LSTM else kernels.gru
