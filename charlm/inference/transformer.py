"""The compiled engine of Transformers: the layers in one call, and a cache whose streams have lengths of their own.

The mean that a normalisation takes out of its input is taken out of whatever is written there instead.

Shapes: B streams, T tokens, L layers, N heads of d numbers, D = N d width, G heads of keys and values, P places,
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
from charlm.inference.output import Output, numbers
from charlm.inference.sharing import Sharing
from charlm.models.base import LanguageModel
from charlm.models.positions import frequencies, sinusoids
from charlm.models.transformer import Transformer, TransformerConfig

ACTIVATIONS = {"relu": kernels.RELU, "relu2": kernels.RELU2, "gelu": kernels.GELU, "swiglu": kernels.SWIGLU}

MAX_CHUNK = 256
"""Tokens of a prompt that are read in one call, at most; no more than the slots that a stream has after a move."""

FREE = 1
"""Slots of a place beyond the window, as a multiple of it: the steps until a stream moves to another place."""


class Place:
    """Slots for the keys and values of one stream, given back when no state shows them any more."""

    def __init__(self, row: int, free: list[int]) -> None:
        self.row, self._free = row, free

    def __del__(self) -> None:
        self._free.append(self.row)


class CacheState(NamedTuple):
    """Which slots each stream sees: what is written there never changes while a state shows it."""

    held: tuple[Place, ...]  # one for each stream
    places: Array  # (B, 5) int64, see `kernels.transformer`


class Slots:
    """All places, in one array that grows."""

    def __init__(self, layers: int, heads: int, size: int, width: int) -> None:
        self.array = np.zeros((layers, 1, 2, heads, size, width), np.float32)  # (L, P, 2, G, S, d)
        self.filled = np.zeros(1, np.int64)  # (P,) slots in use
        self._free = [0]

    def take(self) -> Place:
        """A place that no state shows."""
        if not self._free:
            count = len(self.filled)
            self.array = np.concatenate([self.array, np.zeros_like(self.array)], 1)
            self.filled = np.concatenate([self.filled, np.zeros_like(self.filled)])
            self._free += range(count, 2 * count)
        return Place(self._free.pop(), self._free)


class TransformerEngine(Engine):
    """Texts go on in the slots behind those that their state shows; two that go on from one state part there."""

    backend = "compiled"

    def __init__(self, model: Transformer) -> None:
        super().__init__(model)
        config = model.config
        self.sharing, self.output = Sharing(self.threads), Output(model)
        self.add_layers, self.claim = load(kernels.add_layers), load(kernels.claim)
        self.reach, self.size = config.window - 1, (1 + FREE) * config.window - 1
        self.chunk = min(MAX_CHUNK, FREE * config.window)
        self.slots = Slots(config.layers, config.cached_heads, self.size, config.width // config.heads)
        self.embedding = numbers(_centred(model, model.embedding.weight))
        self.previous = numbers(_centred(model, model.previous.weight)) if config.previous else None
        self.sinusoids: Array | None = None
        if config.positions == "sinusoidal":
            period = torch.arange(4 * config.window)
            self.sinusoids = numbers(_centred(model, sinusoids(period, config.width, 4 * config.window)))
        matrices = zip(*(_laid_out(model, block) for block in model.blocks), strict=True)
        self.weights = (
            *(numbers(torch.stack(matrix)) for matrix in matrices),
            _frequencies(config),
            ACTIVATIONS[config.activation],
            float(model.norm.eps or torch.finfo(torch.float32).eps),
        )

    @override
    def start(self, streams: int) -> CacheState:
        places = np.zeros((streams, 5), np.int64)
        held = tuple(self._take(places[b]) for b in range(streams))
        places[:, LAST] = BOUNDARY
        return CacheState(held, places)

    def _take(self, place: Array) -> Place:
        """Give a stream, place (5,), empty slots."""
        taken = self.slots.take()
        self.slots.filled[taken.row] = 0
        place[ROW], place[FIRST], place[END] = taken.row, 0, 0
        return taken

    def _claimed(self, state: CacheState, room: int = 1) -> CacheState:
        """The same streams, each with a slot of its own to go on in, and room for so many tokens from there."""
        held, places = state
        refused = np.empty(len(places), np.bool_)
        if not self.claim(places, self.slots.filled, self.size - room + 1, refused):
            return state
        moved, places = list(held), places.copy()
        for b in refused.nonzero()[0].tolist():
            row, first, end = places[b, :3].tolist()
            moved[b] = self._take(places[b])
            array, shown = self.slots.array, end - first
            array[:, moved[b].row, ..., :shown, :] = array[:, row, ..., first:end, :]
            places[b, END], self.slots.filled[moved[b].row] = shown, shown + 1
        return CacheState(tuple(moved), places)

    @override
    def step(self, tokens: Tokens, state: CacheState) -> tuple[LogProbs, CacheState]:
        held, places = self._claimed(state)
        log_probs = self.output.empty(len(tokens))

        def work(begin: int, end: int) -> None:
            part = places[begin:end]
            x = self._embedded(tokens[begin:end], part[:, LAST], part[:, POSITION])
            self.add_layers(x, *self.weights, part, self.slots.array)
            self.output.write(tokens[begin:end], x, log_probs[begin:end])

        self.sharing.run(len(tokens), work)
        return log_probs, CacheState(held, self._after(places, tokens))

    def _after(self, places: Array, tokens: Tokens) -> Array:
        """`places` once each stream has read its token."""
        places = places.copy()
        places[:, END] += 1
        places[:, POSITION] += 1
        np.maximum(places[:, FIRST], places[:, END] - self.reach, out=places[:, FIRST])
        places[:, LAST] = tokens
        return places

    def _embedded(self, tokens: Tokens, last: Tokens, positions: Array) -> Array:
        """(B, D): what the first layer reads."""
        x = self.embedding.take(tokens, 0)
        if self.previous is not None:
            x += self.previous.take(last, 0)
        if self.sinusoids is not None:
            x += self.sinusoids.take(positions % len(self.sinusoids), 0)
        return x

    @override
    def read(self, tokens: Sequence[int] | Tokens, state: CacheState) -> tuple[LogProbs, CacheState]:
        stream, log_probs = np.array(tokens, np.int64), self.output.empty(1)
        for begin in range(0, len(stream), self.chunk):  # never as many as there happen to be slots: see law 9
            chunk = stream[begin : begin + self.chunk]
            x, state = self._read(chunk, self._claimed(state, len(chunk)))
        self.output.write(stream[-1:], x[-1:], log_probs)
        return log_probs, state

    def _read(self, chunk: Tokens, state: CacheState) -> tuple[Array, CacheState]:
        """Tokens of one stream, whose first slot is claimed: the features (N, D), and the state after them."""
        places = state.places.repeat(len(chunk) + 1, 0)  # (N + 1, 5): before each token, and after the last
        places[:, END] += np.arange(len(places))
        places[:, POSITION] += np.arange(len(places))
        np.maximum(places[:, FIRST], places[:, END] - self.reach, out=places[:, FIRST])
        places[1:, LAST] = chunk
        places, after = places[:-1], places[-1:]
        x = self._embedded(chunk, places[:, LAST], places[:, POSITION])
        self.add_layers(x, *self.weights, places, self.slots.array)
        self.slots.filled[places[0, ROW]] += len(chunk) - 1
        return x, CacheState(state.held, after)

    @override
    def join(self, states: Sequence[CacheState]) -> CacheState:
        held = tuple(place for state in states for place in state.held)
        return CacheState(held, np.concatenate([state.places for state in states]))

    @override
    def select(self, state: CacheState, streams: Sequence[int] | Tokens) -> CacheState:
        return CacheState(tuple(state.held[b] for b in streams), state.places.take(streams, 0))


def _frequencies(config: TransformerConfig) -> Array:
    """(d/2,) float64: the angles by which keys and queries turn with each position."""
    size = config.width // config.heads
    if config.positions != "rotary":
        return np.zeros(size // 2)
    angles: Array = frequencies(size, torch.device("cpu")).double().numpy()
    return angles


def kernels_of(_kind: type[LanguageModel], _config: Settings) -> list[Kernel]:
    """What `TransformerEngine` loads."""
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
    """Rows (…, D) that are added to the stream, without their mean if every reader takes it out."""
    rows = rows.detach().float()
    return rows - rows.mean(-1, keepdim=True) if isinstance(model.norm, nn.LayerNorm) else rows
