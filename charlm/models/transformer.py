"""A decoder-only Transformer with sliding attention: each position attends to itself and the W-1 before it.

Shapes: B streams, T time steps, V vocabulary, D width, N heads of d = D/N numbers, G heads of keys and values, each
shared by R = N/G heads of queries, C cached positions, S = C + T, W attention window.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from charlm.config import BOUNDARY, Settings, setting
from charlm.errors import UsageError
from charlm.models.base import Dropout, Network, State
from charlm.models.positions import frequencies, rotary_tables, rotate, sinusoids


class SquaredReLU(torch.autograd.Function):
    """max(0, x)^2 (So et al. 2021); only max(0, x) is saved for the gradient."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        """The squares, of any shape."""
        positive = x.relu()
        context.save_for_backward(positive)
        return positive.square()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """2 max(0, x) times the gradient of the output."""
        positive: Tensor = context.saved_tensors[0]
        return (gradient * positive).mul_(2)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "relu2": SquaredReLU.apply,
    "swiglu": F.silu,
}
NORMS: dict[str, Callable[[int], nn.RMSNorm | nn.LayerNorm]] = {  # without a gain: the next matrix can learn it
    "rms": lambda width: nn.RMSNorm(width, elementwise_affine=False),
    "layer": lambda width: nn.LayerNorm(width, elementwise_affine=False),
}

PREVIOUS_SCORE, PREVIOUS_REST = 2.0, 0.3
"""How sharply the first head attends to the token before when training starts, and the share of its random weights."""


@dataclass(frozen=True)
class TransformerConfig(Settings):
    """The settings of the Transformer."""

    width: int = setting(128, "width of the residual stream", min=2)
    layers: int = setting(4, "blocks of attention and feed-forward layer", min=1, max=256)
    heads: int = setting(4, "attention heads; they share the width", min=1)
    kv_heads: int = setting(0, "heads of learned keys and values, which those of the queries share; 0: one each", min=0)
    window: int = setting(64, "positions that attention reaches back, its own included", min=1)
    norm: str = setting("layer", "normalisation before each layer", choices=tuple(NORMS))
    activation: str = setting("relu2", "of the feed-forward layer", choices=tuple(ACTIVATIONS))
    positions: str = setting("rotary", "how it knows what is near", choices=("rotary", "sinusoidal", "none"))
    attention: str = setting(
        "qkv", "what is compared: learned queries and keys, the bare inputs, or nothing", choices=("qkv", "dot", "mean")
    )
    previous: bool = setting(False, "add to each token's embedding one, from another table, of the token before it")
    dropout: float = setting(0.0, "share of each layer's output dropped while training", min=0.0, below=1.0)
    tie: bool = setting(False, "use the embedding matrix as the output layer too (Press & Wolf 2017)")

    def __post_init__(self) -> None:
        """The heads must divide the width into even numbers, and be divided by the heads of keys and values."""
        super().__post_init__()
        if self.width % (2 * self.heads):
            raise UsageError(f"{self.width} must be a multiple of twice `heads={self.heads}`", "width")
        if self.kv_heads and self.heads % self.kv_heads:
            raise UsageError(f"{self.heads} must be a multiple of `kv_heads={self.kv_heads}`", "heads")

    def unheeded(self) -> Mapping[str, str]:
        """Without learned projections no keys are shared; with equal weights, scores do not matter."""
        names = [] if self.attention == "qkv" else ["kv_heads"]
        if self.attention == "mean":
            names += ["heads"] if self.positions == "sinusoidal" else ["heads", "positions"]
        return dict.fromkeys(names, f"with `attention={self.attention!r}`")

    @property
    def cached_heads(self) -> int:
        """The number of heads of keys and values."""
        return self.kv_heads or self.heads if self.attention == "qkv" else self.heads

    @property
    def cached_width(self) -> int:
        """The width of a position's keys, and of its values."""
        return self.width // self.heads * self.cached_heads


class Attention(nn.Module):
    """Causal multi-head attention (Vaswani et al. 2017, section 3.2), and two simpler forms for teaching.

    qkv: queries, keys and values are learned projections. dot: all three are the inputs themselves. mean: all weights
    are equal. Several heads of queries may share keys and values (Shazeer 2019; Ainslie et al. 2023), which makes the
    cache smaller and faster.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        if config.attention == "qkv":
            self.project = nn.Linear(config.width, config.width + 2 * config.cached_width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor, rotation: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """x (B, T, D), cached keys and values (B, C, G d), mask (T, S) -> y, all keys, all values."""
        weights, keys, values = self.attend(x, keys, values, mask, rotation)
        B, N, T, S = weights.shape
        y = weights.reshape(B, self.config.cached_heads, -1, S) @ self._heads(values)  # (B, G, R T, d)
        y = self.out(y.view(B, N, T, -1).transpose(1, 2).flatten(2))  # (B, T, D)
        return y, keys, values

    def attend(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor, rotation: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """The attention weights (B, N, T, S), all keys, all values.

        The mask is added to the scores; `rotation` is that of `positions.rotary_tables` for S positions.
        """
        config, (B, T, D) = self.config, x.shape
        N, G, width = config.heads, config.cached_heads, config.cached_width
        q, k, v = self.project(x).split([D, width, width], -1) if config.attention == "qkv" else (x, x, x)
        keys, values = torch.cat([keys, k], 1), torch.cat([values, v], 1)  # (B, S, G d)
        if config.attention == "mean":
            return mask.softmax(-1).expand(B, N, *mask.shape), keys, values
        k = keys
        if config.positions == "rotary":
            cosine, sine, quarter = rotation
            q, k = rotate(q, cosine[-T:], sine[-T:], quarter), rotate(k, cosine[:, :width], sine[:, :width], quarter)
        q, k = q.view(B, T, N, -1).transpose(1, 2).reshape(B * G, N // G * T, -1), self._heads(k).flatten(0, 1)
        scores = torch.baddbmm(mask.repeat(N // G, 1), q, k.transpose(1, 2), alpha=q.shape[-1] ** -0.5)
        return scores.softmax(-1).view(B, N, T, -1), keys, values

    def _heads(self, cached: Tensor) -> Tensor:
        return cached.view(*cached.shape[:2], self.config.cached_heads, -1).transpose(1, 2)  # (B, G, S, d)


class FeedForwardLayer(nn.Module):
    """Two matrices with an activation between; swiglu adds a gate (Shazeer 2020); relu2 is So et al. 2021."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.activation, self.gated = ACTIVATIONS[config.activation], config.activation == "swiglu"
        self.inner = nn.Linear(config.width, (8 if self.gated else 4) * config.width, bias=False)
        self.out = nn.Linear(4 * config.width, config.width, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        h = self.inner(x)
        if self.gated:
            gate, h = h.chunk(2, -1)
            h = self.activation(gate) * h
        else:
            h = self.activation(h)
        y: Tensor = self.out(h)
        return y


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)) (pre-norm: Xiong et al. 2020)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        norm = NORMS[config.norm]
        self.norm_attention, self.norm_feedforward = norm(config.width), norm(config.width)
        self.attention, self.feedforward = Attention(config), FeedForwardLayer(config)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor, rotation: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """(B, T, D) -> (B, T, D), all keys, all values."""
        y, keys, values = self.attention(self.norm_attention(x), keys, values, mask, rotation)
        x = x + self.dropout(y)
        return x + self.dropout(self.feedforward(self.norm_feedforward(x))), keys, values


class Transformer(Network):
    """Decoder-only Transformer (Vaswani et al. 2017; Radford et al. 2018) with a cache of W-1 positions a layer.

    The window slides over the text, and tokens that have left it still act through the upper layers (Dai et al. 2019).
    Keys are cached without rotation (rotary positions: Su et al. 2021) and rotated when they are used, so only
    distances matter. The state: keys and values (B, <W, G d) of each layer, the position (B, 1) in the text, and
    the last id (B, 1). With `previous`, a second embedding of each token is added to its successor (similar to the
    token shift of Peng et al. 2023), so that the first layer already reads pairs of tokens.

    Training starts each segment with an empty cache: carrying it over, as Dai et al. do, learned less in the same time.
    """

    Config = TransformerConfig
    config: TransformerConfig
    carries_state = False
    chunk = 256  # with more tokens, most attention scores are masked: 1024 took two to four times as long

    def __init__(self, config: TransformerConfig, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.config, self.min_segment = config, config.window
        self.embedding = nn.Embedding(vocab_size, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5 if config.tie else 1.0)
        if config.previous:
            self.previous = nn.Embedding(vocab_size, config.width)
            nn.init.zeros_(self.previous.weight)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        if (config.previous, config.attention, config.positions) == (False, "qkv", "rotary"):
            self._attend_to_previous()
        self.norm = NORMS[config.norm](config.width)
        self.dropout = Dropout(config.dropout)
        self.output = nn.Linear(config.width, vocab_size)
        if config.tie:
            self.output.weight = self.embedding.weight

    @torch.no_grad()
    def _attend_to_previous(self) -> None:
        """Initialise the first head so that it attends to the token before, in place of `previous`.

        All embeddings get a common part. A query reads it as it is and a key turned by one position, so their product
        is PREVIOUS_SCORE times the sum over i of cos((distance - 1) frequency_i), which is largest one position back.
        Shakespeare, 400 steps of a tiny Transformer: 2.773 bits per character without this, 2.630 with it, and 2.634
        with `previous`; 150 steps of a small one: 2.954, 2.780 and 2.859.
        """
        D, d = self.config.width, self.config.width // self.config.heads
        signs = torch.tensor([1.0, -1.0]).repeat(D // 2)  # its mean is 0: a layer norm keeps it
        self.embedding.weight += signs * self.embedding.weight.std()
        turned = frequencies(d, signs.device)
        key = torch.cat([turned.cos(), turned.sin()])
        query = torch.cat([torch.ones(d // 2), torch.zeros(d // 2)])
        scale = (2 * PREVIOUS_SCORE * d**0.5 / D) ** 0.5 / D**0.5  # a norm leaves a part of sqrt(D / 2) along the signs
        projection = self.blocks[0].get_parameter("attention.project.weight")
        for first, row in ((0, query), (D, key)):
            rows = projection[first : first + d]
            rows.mul_(PREVIOUS_REST).add_(scale * row[:, None] * signs)

    @override
    def initial_state(self, streams: int) -> State:
        empty = self.embedding.weight.new_zeros(streams, 0, self.config.cached_width)
        position = torch.zeros(streams, 1, dtype=torch.int64, device=empty.device)
        return (*(empty for _ in range(2 * len(self.blocks))), position, torch.full_like(position, BOUNDARY))

    @override
    def features(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        *caches, position, last = state
        W, T, cached = self.config.window, tokens.shape[1], caches[0].shape[1]
        x, ids = self.embedding(tokens), torch.cat([last, tokens], 1)  # (B, T, D), (B, 1 + T)
        if self.config.previous:
            x = x + self.previous(ids)[:, :-1]
        steps = torch.arange(cached + T, device=x.device)
        if self.config.positions == "sinusoidal":
            x = x + sinusoids(position + steps[:T], self.config.width, 4 * W).to(x.dtype)
        distance = steps[cached:, None] - steps  # (T, S)
        mask = x.new_zeros(distance.shape).masked_fill_((distance < 0) | (distance >= W), -math.inf)
        rotation = [part.to(x.dtype) for part in rotary_tables(steps, self.config.width, self.config.heads)]
        x, after = self.dropout(x), []
        for block, keys, values in zip(self.blocks, caches[::2], caches[1::2], strict=True):
            x, keys, values = block(x, keys, values, mask, rotation)
            after += [keys[:, max(0, cached + T - W + 1) :], values[:, max(0, cached + T - W + 1) :]]
        return self.norm(x), (*after, position + T, ids[:, -1:])
