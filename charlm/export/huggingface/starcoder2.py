"""A Transformer as Starcoder2 (Lozhkov et al. 2024), a class that Hugging Face Transformers brings.

It has the same blocks: layer norms, rotary positions, heads that share keys and values, a sliding window, an ungated
feed-forward layer. What it lacks are the embedding of the token before (`previous`) and the probability floor.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from charlm.config import BOUNDARY
from charlm.models.transformer import Transformer, TransformerConfig

PORTABLE: Mapping[str, Any] = {"previous": False, "norm": "layer", "positions": "rotary", "attention": "qkv"}
"""The settings that Starcoder2 asks for."""

ACTIVATION_NAMES = {"gelu": "gelu", "relu": "relu", "relu2": "relu2"}
"""Ours that it has, and what they are called there."""

MAX_POSITIONS = 16384
"""As in the first Starcoder2; nothing is sized by it, but some programs cut texts there."""


def misfits(config: TransformerConfig) -> list[str]:
    """The settings that Starcoder2 has no place for, as "name value"."""
    settings = config.to_json()
    wrong = [f"{name} {str(settings[name]).lower()}" for name, value in PORTABLE.items() if settings[name] != value]
    return wrong + [f"activation {config.activation}"] * (config.activation not in ACTIVATION_NAMES)


def config_json(model: Transformer) -> dict[str, Any]:
    """The content of config.json."""
    config = model.config
    return {
        "architectures": ["Starcoder2ForCausalLM"],
        "model_type": "starcoder2",
        "vocab_size": model.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": 4 * config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.cached_heads,
        "sliding_window": config.window,
        "hidden_act": ACTIVATION_NAMES[config.activation],
        "norm_epsilon": 1e-5,
        "use_bias": False,
        "tie_word_embeddings": False,
        "rope_theta": 10000.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "max_position_embeddings": MAX_POSITIONS,
        "attention_dropout": 0.0,
        "residual_dropout": 0.0,
        "embedding_dropout": 0.0,
        "bos_token_id": BOUNDARY,
        "eos_token_id": None,
        "dtype": "float32",
    }


def tensors(model: Transformer) -> dict[str, Tensor]:
    """The weights by Starcoder2's names."""
    config = model.config
    D, cached = config.width, config.cached_width
    ones, zeros = torch.ones(D), torch.zeros(D)
    named = {
        "model.embed_tokens.weight": model.embedding.weight,
        "model.norm.weight": ones,
        "model.norm.bias": ones,
        "lm_head.weight": _without_bias(model.output.weight, model.output.bias),
    }
    for number, block in enumerate(model.blocks):
        weights = dict(block.named_parameters())
        q, k, v = torch.split(weights["attention.project.weight"], [D, cached, cached])
        own = {
            "input_layernorm.weight": ones,
            "input_layernorm.bias": zeros,
            "post_attention_layernorm.weight": ones,
            "post_attention_layernorm.bias": zeros,
            "self_attn.q_proj.weight": q,
            "self_attn.k_proj.weight": k,
            "self_attn.v_proj.weight": v,
            "self_attn.o_proj.weight": weights["attention.out.weight"],
            "mlp.c_fc.weight": weights["feedforward.inner.weight"],
            "mlp.c_proj.weight": weights["feedforward.out.weight"],
        }
        named |= {f"model.layers.{number}.{name}": weight for name, weight in own.items()}
    return named


@torch.no_grad()
def _without_bias(W: Tensor, b: Tensor) -> Tensor:
    """The matrix W' (V, D) with W'(y + 1) = W y + b for every y whose numbers add up to 0, as a layer norm's do.

    W' = W + (b - W 1) 1^T / D; the 1 that is added to y is the bias of the final norm.
    """
    W, b = W.double(), b.double()
    return (W + (b - W.sum(1)).unsqueeze(1) / W.shape[1]).float()
