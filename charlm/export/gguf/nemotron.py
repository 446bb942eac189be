"""A Transformer as llama.cpp's `nemotron`: layer norms, rotary positions, shared keys and values, squared ReLU.

It has no sliding window: within the first W tokens it computes what charlm does. When its context of W tokens is full,
llama.cpp forgets the older half of it and goes on (its "context shift"), which `Shifting` computes.
"""

from collections.abc import Iterator
from typing import IO

import torch
from torch import Tensor

from charlm import __version__
from charlm.errors import UsageError
from charlm.export.fit import Fit, WithoutFloor
from charlm.export.gguf.file import Value, pieces
from charlm.export.gguf.tokenizer import tokenizer_values
from charlm.export.huggingface import starcoder2
from charlm.export.huggingface.writing import NO_FLOOR
from charlm.models import LanguageModel, State, architecture_of
from charlm.models.transformer import Transformer
from charlm.tokenizers import Tokenizer

ARCHITECTURE = "nemotron"
ONLY = "a GGUF file has a place for Transformers of the preset `portable` only"
LAYERS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
OTHERS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
"""Starcoder2's names of weights and those of GGUF, within a layer and around the layers."""


class Shifting(WithoutFloor):
    """A Transformer with a context of W tokens: when it is full, the older half of its cache is dropped."""

    network: Transformer

    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T) -> (B, T, V). All streams are at the same position of their texts."""
        W, log_probs = self.network.config.window, []
        while tokens.shape[1]:
            *caches, position, last = state
            space = W - int(position[0])  # until the context is full
            if space <= 0:
                space = space % (W - W // 2) or W - W // 2
                if space == W - W // 2:
                    caches = [cache[:, cache.shape[1] - W // 2 :] for cache in caches]
            part, state = super().forward(tokens[:, :space], (*caches, position, last))
            log_probs.append(part)
            tokens = tokens[:, space:]
        return torch.cat(log_probs, 1), state


def fit(model: LanguageModel) -> Fit:
    """Raises UsageError for all but Transformers of the preset `portable` with squared ReLU."""
    if not isinstance(model, Transformer):
        raise UsageError(f"{architecture_of(model)}: {ONLY}")
    wrong = starcoder2.misfits(model.config) or [f"activation {model.config.activation}"]
    if wrong != ["activation relu2"]:
        raise UsageError(f"a transformer with {', '.join(wrong)}: {ONLY}")
    return Fit("nemotron in llama.cpp", (NO_FLOOR, window_lost(model)), Shifting(model))


def window_lost(model: Transformer) -> str:
    """What stands for the sliding window there."""
    W = model.config.window
    return f"the sliding window of {W} tokens: llama.cpp reads {W}, forgets the older half and reads on (context shift)"


def write_gguf(model: LanguageModel, tokenizer: Tokenizer, name: str, file: IO[bytes]) -> None:
    """Write a Transformer as a GGUF file. Raises UsageError where it or its tokenizer has no place there."""
    fit(model)
    assert isinstance(model, Transformer)
    values = {**_settings(model, name), **tokenizer_values(tokenizer)}
    file.writelines(pieces(values, dict(_tensors(model))))


def _settings(model: Transformer, name: str) -> dict[str, Value]:
    config = model.config
    settings: dict[str, Value] = {
        "vocab_size": model.vocab_size,
        "context_length": config.window,
        "embedding_length": config.width,
        "block_count": config.layers,
        "feed_forward_length": 4 * config.width,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.cached_heads,
        "attention.layer_norm_epsilon": 1e-5,
        "rope.dimension_count": config.width // config.heads,
        "rope.freq_base": 10000.0,
    }
    general: dict[str, Value] = {
        "general.architecture": ARCHITECTURE,
        "general.name": name,
        "general.description": f"charlm {__version__}",
        "general.file_type": 0,  # all float32
    }
    return general | {f"{ARCHITECTURE}.{setting}": value for setting, value in settings.items()}


def _tensors(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    """The weights of Starcoder2 by the names of GGUF: the two differ in the window alone."""
    for name, tensor in starcoder2.tensors(model).items():
        place, _, kind = name.rpartition(".")
        if place in OTHERS:
            yield f"{OTHERS[place]}.{kind}", tensor
        else:
            _, _, number, part = place.split(".", 3)
            yield f"blk.{number}.{LAYERS[part]}.{kind}", tensor
