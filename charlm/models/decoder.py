"""Decoder-only Transformers that were trained elsewhere: Llama, GPT-2, GPT-NeoX, Starcoder2 and their like.

They differ in norms, positions and feed-forward layers, and share the rest; a `DecoderConfig` says which. They are
imported (`charlm.export.huggingface`), so no command trains one from nothing.

Shapes: B streams, T time steps, V vocabulary, R reserved logits, D width, N heads of d numbers, G heads of keys and
values, C cached positions, S = C + T, W context or window.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from charlm.config import BOUNDARY, Settings, setting
from charlm.errors import UsageError
from charlm.models.base import LanguageModel, Network, State

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "silu": F.silu,
}


@dataclass(frozen=True)
class DecoderConfig(Settings):
    """The settings of an imported decoder."""

    width: int = setting(64, "width of the residual stream", min=1, max=1 << 16)
    layers: int = setting(2, "blocks of attention and feed-forward layer", min=1, max=256)
    heads: int = setting(4, "attention heads", min=1, max=1 << 12)
    kv_heads: int = setting(4, "heads of keys and values, which those of the queries share", min=1, max=1 << 12)
    head_width: int = setting(16, "numbers in a head", min=1, max=1 << 12)
    inner: int = setting(256, "units of the feed-forward layer", min=1, max=1 << 20)
    context: int = setting(256, "positions that the model was trained for", min=2, max=1 << 24)
    window: int = setting(0, "positions that attention reaches back, its own included; 0: all of the context", min=0)
    norm: str = setting("layer", "normalisation before each layer", choices=("layer", "rms"))
    epsilon: float = setting(1e-5, "added to the variance in a norm", above=0.0)
    activation: str = setting("gelu", "of the feed-forward layer", choices=tuple(ACTIVATIONS))
    gated: bool = setting(False, "a second matrix gates the feed-forward layer")
    positions: str = setting("rotary", "how it knows what is near", choices=("rotary", "learned"))
    theta: float = setting(10000.0, "base of the rotary wavelengths", above=1.0)
    rotated: int = setting(16, "numbers of each head that rotary positions turn", min=0)
    parallel: bool = setting(False, "attention and feed-forward layer read the same input")
    biases: bool = setting(True, "linear layers add a bias")
    reserved: int = setting(0, "logits of tokens that no text has, such as padding", min=0, max=1 << 20)

    def __post_init__(self) -> None:
        """Heads must be divisible, rotated numbers even; a sliding window needs relative positions."""
        super().__post_init__()
        if self.heads % self.kv_heads:
            raise UsageError(f"{self.heads} heads cannot share {self.kv_heads} heads of keys and values evenly")
        if self.rotated % 2 or self.rotated > self.head_width:
            raise UsageError(f"{self.rotated} of {self.head_width} numbers of a head cannot be turned in pairs")
        if self.window and self.positions == "learned":
            raise UsageError("learned positions do not fit a window that slides")


class Norm(nn.Module):
    """Layer norm (Ba et al. 2016) with gain and bias, or root mean square norm (Zhang & Sennrich 2019) with a gain."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.kind, self.epsilon = config.norm, config.epsilon
        self.weight = nn.Parameter(torch.ones(config.width))
        self.bias = nn.Parameter(torch.zeros(config.width)) if config.norm == "layer" else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        if self.kind == "layer":
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.epsilon)
        return F.rms_norm(x, x.shape[-1:], self.weight, self.epsilon)


class Attention(nn.Module):
    """Causal attention with shared keys and values; keys are cached without rotation, so only distances matter."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config, d = config, config.head_width
        self.query = nn.Linear(config.width, config.heads * d, bias=config.biases)
        self.key = nn.Linear(config.width, config.kv_heads * d, bias=config.biases)
        self.value = nn.Linear(config.width, config.kv_heads * d, bias=config.biases)
        self.out = nn.Linear(config.heads * d, config.width, bias=config.biases)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, D), cached keys and values (B, C, G d), mask (T, S) -> y, all keys, all values."""
        config, T = self.config, x.shape[1]
        keys, values = torch.cat([keys, self.key(x)], 1), torch.cat([values, self.value(x)], 1)
        q, k, v = (y.unflatten(-1, (-1, config.head_width)).transpose(1, 2) for y in (self.query(x), keys, values))
        if config.positions == "rotary":
            q, k = self._rotated(q, k.shape[2] - T), self._rotated(k, 0)
        k, v = (y.repeat_interleave(config.heads // config.kv_heads, 1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, N, T, d)
        return self.out(y.transpose(1, 2).flatten(2)), keys, values

    def _rotated(self, x: Tensor, first: int) -> Tensor:
        """x (B, N, T, d) with its first `rotated` numbers rotated (Su et al. 2021) from position `first` on."""
        size = self.config.rotated
        rates = self.config.theta ** -(torch.arange(0, size, 2, device=x.device) / max(1, size))
        angles = torch.arange(first, first + x.shape[2], device=x.device)[:, None] * rates
        cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        a, b = x[..., :size].chunk(2, -1)
        return torch.cat([a * cosine - b * sine, b * cosine + a * sine, x[..., size:]], -1)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); or both at once."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.norm_attention, self.norm_feedforward = Norm(config), Norm(config)
        self.attention = Attention(config)
        self.inner = nn.Linear(config.width, config.inner, bias=config.biases)
        self.gate = nn.Linear(config.width, config.inner, bias=config.biases) if config.gated else None
        self.out = nn.Linear(config.inner, config.width, bias=config.biases)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) -> (B, T, D), all keys, all values."""
        y, keys, values = self.attention(self.norm_attention(x), keys, values, mask)
        read = self.norm_feedforward(x if self.config.parallel else x + y)
        activation = ACTIVATIONS[self.config.activation]
        h = activation(self.inner(read)) if self.gate is None else activation(self.gate(read)) * self.inner(read)
        return x + y + self.out(h), keys, values


class Decoder(Network):
    """A pre-norm decoder-only Transformer (Radford et al. 2019 and later) with a cache.

    With a window, attention slides. Without one, positions stay within the context of the training: when it is full,
    its older half is dropped and the rest is read again from position 0.

    The state: keys and values (B, C, G d) of each layer, and the ids (B, C) that are cached, none with a window.

    Probabilities are the softmax of the logits, without the uniform part of the networks that charlm trains. The
    probabilities of reserved tokens are added to the boundary's, which occurs in no text either.
    """

    Config = DecoderConfig
    config: DecoderConfig
    carries_state = False
    FLOOR = 0.0
    FLOOR_AFTER_UNKNOWN = 0.0

    def __init__(self, config: DecoderConfig, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.config = config
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.position = nn.Embedding(config.context, config.width) if config.positions == "learned" else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = Norm(config)
        self.output = nn.Linear(config.width, vocab_size + config.reserved, bias=False)

    @override
    def initial_state(self, streams: int) -> State:
        empty = self.embedding.weight.new_zeros(streams, 0, self.config.kv_heads * self.config.head_width)
        ids = torch.zeros(streams, 0, dtype=torch.int64, device=empty.device)
        return (*(empty for _ in range(2 * len(self.blocks))), ids)

    @override
    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = self.features(tokens, state)
        logits: Tensor = self.output(features).float()  # (B, T, V + R)
        if self.config.reserved:
            V = self.vocab_size
            boundary = torch.cat([logits[..., BOUNDARY, None], logits[..., V:]], -1).logsumexp(-1, keepdim=True)
            logits = torch.cat([logits[..., :BOUNDARY], boundary, logits[..., BOUNDARY + 1 : V]], -1)
        return logits.log_softmax(-1), state

    @override
    def score(self, tokens: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        return LanguageModel.score(self, tokens, targets, state)

    @override
    def features(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        *caches, ids = state
        context, parts = self.config.context, []
        while tokens.shape[1]:
            room = tokens.shape[1] if self.config.window else context - ids.shape[1]
            if not room:
                ids = ids[:, context // 2 :]
                _, caches = self._read(ids, list(self.initial_state(len(ids))[:-1]))
                continue
            x, caches = self._read(tokens[:, :room], caches)
            ids = ids if self.config.window else torch.cat([ids, tokens[:, :room]], 1)
            parts.append(x)
            tokens = tokens[:, room:]
        return torch.cat(parts, 1), (*caches, ids)

    def _read(self, tokens: Tensor, caches: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Tokens (B, T) that fit into the context -> (B, T, D), and the caches after them."""
        C, T = caches[0].shape[1], tokens.shape[1]
        x, steps, after = self.embedding(tokens), torch.arange(C + T, device=tokens.device), []
        if self.position is not None:
            x = x + self.position(steps[C:])
        reach = self.config.window or self.config.context
        distance = steps[C:, None] - steps  # (T, S)
        mask = x.new_zeros(distance.shape).masked_fill_((distance < 0) | (distance >= reach), -math.inf)
        oldest = max(0, C + T - reach + 1) if self.config.window else 0
        for block, keys, values in zip(self.blocks, caches[::2], caches[1::2], strict=True):
            x, keys, values = block(x, keys, values, mask)
            after += [keys[:, oldest:], values[:, oldest:]]
        return self.norm(x), after
