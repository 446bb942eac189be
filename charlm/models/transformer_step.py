"""The Transformer, one id a stream at a time, with all that does not depend on the ids worked out beforehand.

The mean that a normalisation takes out of its input is taken out of whatever is written there instead. Keys are cached
as they are used, turned by their position, so that a step turns one of them and not all.

Shapes: B streams, L layers, N heads of d numbers, D = N d width, G heads of keys and values, C cached positions,
S slots, W attention window.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from charlm.models.base import LogProbs, State, Step, Tokens
from charlm.models.positions import frequencies, sinusoids
from charlm.models.stepping import Array, Compiled, One, by_streams, output

if TYPE_CHECKING:
    from charlm.models.transformer import Transformer

Rest = Callable[[Array, Tokens, "_Cache"], LogProbs]
"""All that a step does with the stream (B, D): the layers and what they tell of the next id."""


def stepper(model: "Transformer", state: State) -> tuple[Step, State]:
    """As the interface says; the step's states are keys and values (B, L, 2, G, C, d), how many ids
    were read and the last of them (B, 1).
    """
    *caches, position, last = state
    (B, C, width), G = caches[0].shape, model.config.cached_heads
    both = torch.stack([cache.float() for cache in caches], 1)
    keys, values = both.view(B, len(model.blocks), 2, C, G, width // G).unbind(2)  # (B, L, C, G, d)
    pairs = torch.stack(keys.chunk(2, -1), -1)  # (B, L, C, G, d/2, 2)
    turns = _turns(model, int(position[0, 0]) - C, C, G)
    keys = torch.view_as_real(torch.view_as_complex(pairs) * turns).flatten(-2)
    state = torch.stack([keys, values], 2).transpose(3, 4), position, last
    return by_streams(partial(_step, model), compilable=model.config.activation == "relu2"), state


class _Cache:
    """Slots for keys and values, filled in place behind those that states show: what a state shows never changes."""

    def __init__(self, model: "Transformer", xp: One) -> None:
        self.model, self.xp, self.reach = model, xp, model.config.window - 1
        self.latest: State | None = None
        self.free = self.filled = 0  # slots: how many there were when they were opened, and of those filled since

    def open(self, state: State) -> None:
        """See to it that a slot is free and those before it are those of `state`: `seen` says from where to where."""
        if state is self.latest and self.filled < self.free:
            return
        shown, position, _ = state
        self.free = min(2 * self.reach, 4 * self.filled) + 1  # beams are re-ordered at each step and fill but one
        self.filled, self.first = 0, int(position[0, 0])  # the same for all streams
        B, L, _, G, C, d = shown.shape
        self.slots = np.empty((L, 2, B, G, C + self.free, d), np.float32)  # on huge pages, unlike torch's
        slots = torch.from_numpy(self.slots).permute(2, 0, 1, 3, 4, 5)
        slots[..., :C, :] = shown
        self.layers = [self.xp.read(slots[:, layer]) for layer in range(L)]  # (B, 2, G, S, d)
        self.turns = self.xp.weight(_factors(self.model, self.first, self.free))
        self.seen = [(max(0, end - self.reach), end) for end in range(C, C + self.free + 1)]
        views = (slots.narrow(4, begin, end - begin) for begin, end in self.seen)
        positions = position + torch.arange(self.free + 1)[:, None, None]
        self.states = list(zip(views, positions.unbind(), strict=True))  # one at a time takes several times as long

    def close(self, tokens: Tokens) -> State:
        """The state that shows the slot just filled, too, with the ids read."""
        self.filled += 1
        self.latest = *self.states[self.filled], torch.from_numpy(tokens[:, None].copy())
        return self.latest


def _step(model: "Transformer", xp: One) -> Step:
    config = model.config
    epsilon = model.norm.eps or torch.finfo(torch.float32).eps
    table = xp.weight(_centred(model, model.embedding.weight.detach().float()))
    previous = None
    if config.previous:
        previous = xp.weight(_centred(model, model.previous.weight.detach().float()))
    waves = None
    if config.positions == "sinusoidal":
        places = torch.arange(4 * config.window)
        waves = xp.weight(_centred(model, sinusoids(places, config.width, 4 * config.window).float()))
    rest = _at_once(model, xp, epsilon) if isinstance(xp, Compiled) else _one_by_one(model, xp, epsilon)
    cache = _Cache(model, xp)

    def step(tokens: Tokens, state: State) -> tuple[LogProbs, State]:
        cache.open(state)
        x = xp.rows(table, tokens)
        if previous is not None:
            x = x + xp.rows(previous, state[2].numpy()[:, 0])
        if waves is not None:
            x = x + waves[(cache.first + cache.filled) % len(waves)]
        return rest(x, tokens, cache), cache.close(tokens)

    return step


def _one_by_one(model: "Transformer", xp: One, epsilon: float) -> Rest:
    """From parts that all backends have."""
    config, log_probs = model.config, output(xp, model)
    hidden: Any = model.blocks[0].feedforward
    blocks = [[xp.weight(weight.contiguous()) for weight in _laid_out(model, block)] for block in model.blocks]

    def activated(h: Array) -> Array:
        if hidden.gated:
            width = h.shape[-1] // 2
            return xp.apply(hidden.activation, h[..., :width]) * h[..., width:]
        if config.activation == "relu2":
            h = xp.relu(h)
            h *= h
            return h
        return xp.apply(hidden.activation, h)

    def rest(x: Array, tokens: Tokens, cache: _Cache) -> LogProbs:
        (begin, end), turn = cache.seen[cache.filled], cache.turns[cache.filled]
        for (project, out, inner, last), slots in zip(blocks, cache.layers, strict=True):
            qkv = xp.turned(xp.unit(x, epsilon) @ project, turn)  # (B, N + 2 G, d)
            slots[..., end, :] = qkv[..., config.heads :, :].reshape(slots[..., end, :].shape)
            x = xp.linear(xp.attend(qkv[..., : config.heads, :], slots[..., begin : end + 1, :]), out, x)
            x = xp.linear(activated(xp.unit(x, epsilon) @ inner), last, x)
        return log_probs(xp.unit(x, epsilon), tokens)

    return rest


def _at_once(model: "Transformer", xp: Compiled, epsilon: float) -> Rest:
    """All layers in one call, on each thread."""
    laid_out = (_laid_out(model, block) for block in model.blocks)
    weights = [xp.weight(torch.stack([weight.T for weight in each])) for each in zip(*laid_out, strict=True)]
    log_probs = output(xp, model)

    def rest(x: Array, tokens: Tokens, cache: _Cache) -> LogProbs:
        turn, seen = cache.turns[cache.filled], cache.seen[cache.filled]

        def part(begin: int, end: int) -> LogProbs:
            streams = x[begin:end]
            xp.kernels.add_layers(streams, *weights, turn, cache.slots, begin, *seen, epsilon)
            return log_probs(xp.unit(streams, epsilon), tokens[begin:end])

        parts = xp.share_out(len(x), part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return rest


def _laid_out(model: "Transformer", block: Any) -> tuple[Tensor, ...]:
    """A block's matrices: (D, D + 2 G d) for queries, keys, values, (D, D) after attention, (D, H) and (H, D)."""
    config, attention, hidden = model.config, block.attention, block.feedforward
    learned = attention.project.weight.detach() if config.attention == "qkv" else torch.eye(config.width).repeat(3, 1)
    q, k, v = learned.float().split([config.width, config.cached_width, config.cached_width])
    q = q * (0 if config.attention == "mean" else (config.width // config.heads) ** -0.5)
    order = torch.arange(config.width).view(config.heads, 2, -1).transpose(1, 2).flatten()  # pairs side by side
    project, inner = torch.cat([q[order], k[order[: len(k)]], v]).T, hidden.inner.weight.detach().float().T
    out, last = (_centred(model, layer.weight.detach().float().T) for layer in (attention.out, hidden.out))
    return project, out, inner, last


def _centred(model: "Transformer", rows: Tensor) -> Tensor:
    """Rows (…, D) that are added to the stream, without their mean if every reader takes it out."""
    return rows - rows.mean(-1, keepdim=True) if isinstance(model.norm, nn.LayerNorm) else rows


def _factors(model: "Transformer", first: int, count: int) -> Tensor:
    """(count, N + 2 G, d/2): what queries, keys and values at the positions from `first` on are multiplied by."""
    turns = _turns(model, first, count, model.config.heads + model.config.cached_heads)
    return torch.cat([turns, torch.ones_like(turns[:, : model.config.cached_heads])], 1)


def _turns(model: "Transformer", first: int, count: int, heads: int) -> Tensor:
    """(count, heads, d/2): what turns the pairs of each head at the positions from `first` on, as complex numbers."""
    size = model.config.width // model.config.heads
    turns = torch.ones(count, heads, size // 2, dtype=torch.complex64)
    if model.config.positions == "rotary":
        positions = torch.arange(first, first + count, dtype=torch.float64)
        angles = positions[:, None] * frequencies(size, positions.device)  # (count, d/2)
        turns[:] = torch.polar(torch.ones_like(angles), angles)[:, None]
    return turns
