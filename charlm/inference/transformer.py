"""The compiled engine of Transformers: all layers in one call, and a cache in which streams have different lengths.

Layer norms subtract the mean of their input; here it is subtracted once, from the weights that produce this input.

Shapes: B streams, T tokens, L layers, N heads of d numbers, D = N d width, G heads of keys and values, P rows,
S slots, W attention window, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from charlm.config import BOUNDARY, Settings
from charlm.inference.engine import Engine, LogProbs, Tokens
from charlm.inference.kernels import transformer as kernels
from charlm.inference.kernels.arithmetic import Array, Kernel, load
from charlm.inference.kernels.transformer import END, FIRST, LAST, POSITION, ROW
from charlm.inference.output import Output, as_array
from charlm.inference.sharing import Sharing
from charlm.models.base import LanguageModel
from charlm.models.positions import frequencies, sinusoids
from charlm.models.transformer import Transformer, TransformerConfig

KERNEL_ACTIVATIONS = {"relu": kernels.RELU, "relu2": kernels.RELU2, "gelu": kernels.GELU, "swiglu": kernels.SWIGLU}

MAX_CHUNK = 256
"""Tokens of a prompt that are read in one call; never more than the free slots of a stream that moved to a new row."""

FREE_WINDOWS = 1
"""Slots of a row beyond the window, as a multiple of it: the steps until a stream moves to another row."""


class Row:
    """The number of a row of slots for keys and values, freed when no state refers to it any more."""

    def __init__(self, number: int, free: list[int]) -> None:
        self.number, self._free = number, free

    def __del__(self) -> None:
        self._free.append(self.number)


class CacheState(NamedTuple):
    """The slots that each stream sees. Their contents never change while a state refers to them."""

    rows: tuple[Row, ...]  # one for each stream
    views: Array  # (B, 5) int64, see ROW, FIRST, ... in `kernels.transformer`


class Slots:
    """All rows of slots, in one array that grows."""

    def __init__(self, layers: int, heads: int, size: int, width: int) -> None:
        self.array = np.zeros((layers, 1, 2, heads, size, width), np.float32)  # (L, P, 2, G, S, d)
        self.filled = np.zeros(1, np.int64)  # (P,) slots in use
        self._free = [0]

    def take(self) -> Row:
        """A row that no state refers to."""
        if not self._free:
            count = len(self.filled)
            self.array = np.concatenate([self.array, np.zeros_like(self.array)], 1)
            self.filled = np.concatenate([self.filled, np.zeros_like(self.filled)])
            self._free += range(count, 2 * count)
        return Row(self._free.pop(), self._free)


class TransformerEngine(Engine):
    """A stream appends to the slots that its state sees; if two streams continue one state, one moves to a new row."""

    backend = "compiled"

    def __init__(self, model: Transformer) -> None:
        super().__init__(model)
        config = model.config
        self.sharing, self.output = Sharing(self.threads), Output(model)
        self.add_layers, self.claim = load(kernels.add_layers), load(kernels.claim)
        self.reach, self.size = config.window - 1, (1 + FREE_WINDOWS) * config.window - 1
        self.chunk = min(MAX_CHUNK, FREE_WINDOWS * config.window)
        self.slots = Slots(config.layers, config.cached_heads, self.size, config.width // config.heads)
        self.embedding = as_array(_centred(model, model.embedding.weight))
        self.previous = as_array(_centred(model, model.previous.weight)) if config.previous else None
        self.sinusoids: Array | None = None
        if config.positions == "sinusoidal":
            period = torch.arange(4 * config.window)
            self.sinusoids = as_array(_centred(model, sinusoids(period, config.width, 4 * config.window)))
        matrices = zip(*(_laid_out(model, block) for block in model.blocks), strict=True)
        self.weights = (
            *(as_array(torch.stack(matrix)) for matrix in matrices),
            _frequencies(config),
            KERNEL_ACTIVATIONS[config.activation],
            float(model.norm.eps or torch.finfo(torch.float32).eps),
        )

    @override
    def start(self, streams: int) -> CacheState:
        views = np.zeros((streams, 5), np.int64)
        rows = tuple(self._take(views[b]) for b in range(streams))
        views[:, LAST] = BOUNDARY
        return CacheState(rows, views)

    def _take(self, view: Array) -> Row:
        """Give a stream with this view (5,) an empty row."""
        row = self.slots.take()
        self.slots.filled[row.number] = 0
        view[ROW], view[FIRST], view[END] = row.number, 0, 0
        return row

    def _claimed(self, state: CacheState, tokens: int = 1) -> CacheState:
        """The same streams, each with its next slot reserved for it and enough slots for so many tokens from there."""
        rows, views = state
        refused = np.empty(len(views), np.bool_)
        if not self.claim(views, self.slots.filled, self.size - tokens + 1, refused):
            return state
        new_rows, views = list(rows), views.copy()
        for b in refused.nonzero()[0].tolist():
            old, first, end = views[b, :3].tolist()
            new_rows[b] = self._take(views[b])
            array, new, size = self.slots.array, new_rows[b].number, end - first
            array[:, new, ..., :size, :] = array[:, old, ..., first:end, :]
            views[b, END], self.slots.filled[new] = size, size + 1
        return CacheState(tuple(new_rows), views)

    @override
    def step(self, tokens: Tokens, state: CacheState) -> tuple[LogProbs, CacheState]:
        rows, views = self._claimed(state)
        log_probs = self.output.empty(len(tokens))

        def work(begin: int, end: int) -> None:
            part = views[begin:end]
            x = self._embedded(tokens[begin:end], part[:, LAST], part[:, POSITION])
            self.add_layers(x, *self.weights, part, self.slots.array)
            self.output.write(tokens[begin:end], x, log_probs[begin:end])

        self.sharing.run(len(tokens), work)
        return log_probs, CacheState(rows, self._after(views, tokens))

    def _after(self, views: Array, tokens: Tokens) -> Array:
        """The views after each stream has read its token."""
        views = views.copy()
        views[:, END] += 1
        views[:, POSITION] += 1
        np.maximum(views[:, FIRST], views[:, END] - self.reach, out=views[:, FIRST])
        views[:, LAST] = tokens
        return views

    def _embedded(self, tokens: Tokens, last: Tokens, positions: Array) -> Array:
        """(B, D): the input of the first layer."""
        x = self.embedding.take(tokens, 0)
        if self.previous is not None:
            x += self.previous.take(last, 0)
        if self.sinusoids is not None:
            x += self.sinusoids.take(positions % len(self.sinusoids), 0)
        return x

    @override
    def read(self, tokens: Sequence[int] | Tokens, state: CacheState) -> tuple[LogProbs, CacheState]:
        stream, log_probs = np.array(tokens, np.int64), self.output.empty(1)
        for begin in range(0, len(stream), self.chunk):  # whatever slots are free: the same calls give the same bits
            chunk = stream[begin : begin + self.chunk]
            x, state = self._read(chunk, self._claimed(state, len(chunk)))
        self.output.write(stream[-1:], x[-1:], log_probs)
        return log_probs, state

    def _read(self, chunk: Tokens, state: CacheState) -> tuple[Array, CacheState]:
        """Read tokens (N,) of one stream, whose first slot is claimed: the features (N, D), and the state after."""
        views = state.views.repeat(len(chunk) + 1, 0)  # (N + 1, 5): before each token, and after the last
        views[:, END] += np.arange(len(views))
        views[:, POSITION] += np.arange(len(views))
        np.maximum(views[:, FIRST], views[:, END] - self.reach, out=views[:, FIRST])
        views[1:, LAST] = chunk
        views, after = views[:-1], views[-1:]
        x = self._embedded(chunk, views[:, LAST], views[:, POSITION])
        self.add_layers(x, *self.weights, views, self.slots.array)
        self.slots.filled[views[0, ROW]] += len(chunk) - 1
        return x, CacheState(state.rows, after)

    @override
    def join(self, states: Sequence[CacheState]) -> CacheState:
        rows = tuple(row for state in states for row in state.rows)
        return CacheState(rows, np.concatenate([state.views for state in states]))

    @override
    def select(self, state: CacheState, streams: Sequence[int] | Tokens) -> CacheState:
        return CacheState(tuple(state.rows[b] for b in streams), state.views.take(streams, 0))


def _frequencies(config: TransformerConfig) -> Array:
    """(d/2,) float64: the angles by which keys and queries rotate with each position."""
    size = config.width // config.heads
    if config.positions != "rotary":
        return np.zeros(size // 2)
    angles: Array = frequencies(size, torch.device("cpu")).double().numpy()
    return angles


def kernels_of(_kind: type[LanguageModel], _config: Settings) -> list[Kernel]:
    """The kernels that `TransformerEngine` loads."""
    return [*Output.kernels, kernels.add_layers, kernels.claim]


def _laid_out(model: Transformer, block: Any) -> tuple[Tensor, ...]:
    """A block's matrices: (D + 2 G d, D) for queries, keys and values, (D, D) after attention, (H, D) and (D, H)."""
    config, attention, hidden = model.config, block.attention, block.feedforward
    learned = attention.project.weight if config.attention == "qkv" else torch.eye(config.width).repeat(3, 1)
    q, k, v = learned.detach().float().split([config.width, config.cached_width, config.cached_width])
    q = q * (0 if config.attention == "mean" else (config.width // config.heads) ** -0.5)
    order = torch.arange(config.width).view(config.heads, 2, -1).transpose(1, 2).flatten()  # pairs side by side
    project = torch.cat([q[order], k[order[: len(k)]], v])
    out, last = (_centred(model, layer.weight.T).T for layer in (attention.out, hidden.out))
    return project, out, hidden.inner.weight, last


def _centred(model: Transformer, rows: Tensor) -> Tensor:
    """Rows (…, D) that are added to the residual stream, without their mean if the model has layer norms."""
    rows = rows.detach().float()
    return rows - rows.mean(-1, keepdim=True) if isinstance(model.norm, nn.LayerNorm) else rows
