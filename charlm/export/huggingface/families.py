"""The families of Hugging Face Transformers that are imported: each turns config.json into our settings and back."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from charlm.export.huggingface.weights import Weight, gpt2_weights, gpt_neox_weights, llama_weights
from charlm.models.decoder import DecoderConfig

ACTIVATIONS = {  # what transformers calls them, and what we do
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
}


class Unfit(Exception):  # noqa: N818 - a state of affairs
    """What of a model cannot be held, in words; whoever reads the folder names the file."""


class Json:
    """The settings in config.json, each checked as it is asked for. Raises Unfit that names the setting."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content

    def number(self, name: str, default: float | None = None, *, least: float = 1) -> Any:
        """A number, at least `least`."""
        value: Any = self.content.get(name)
        value = default if value is None else value
        if type(value) not in (int, float) or not least <= value < 2**31:
            raise Unfit(f"{name} is {_shown(value)}, not a number from {least:g} on")
        return value

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number, at least `least`."""
        value = self.number(name, default, least=least)
        if type(value) is not int:
            raise Unfit(f"{name} is {_shown(value)}, not a whole number")
        return value

    def choice(self, name: str, known: Mapping[str, str], default: str | None = None) -> str:
        """One of the names that are known, as we call it."""
        value = self.content.get(name, default)
        if not isinstance(value, str) or value not in known:
            raise Unfit(f"{name} is {_shown(value)}; charlm has {', '.join(known)}")
        return known[value]

    def demand(self, name: str, *values: Any) -> None:
        """The setting is one of these, or is not there."""
        if (value := self.content.get(name)) is not None and value not in values:
            raise Unfit(f"{name} is {_shown(value)}, which charlm does not have")

    def theta(self) -> float:
        """The base of the rotary wavelengths, which must not be scaled."""
        rope = self.content.get("rope_parameters") or self.content.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, Mapping) else rope
        if kind != "default" or not isinstance(rope, Mapping):
            raise Unfit(f"its rotary positions are scaled ({_shown(kind)}), which charlm does not have")
        name = "rotary_emb_base" if "rotary_emb_base" in self.content else "rope_theta"
        return float(Json({**self.content, **rope}).number(name, 10000.0))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


@dataclass(frozen=True)
class Family:
    """`config` raises Unfit for settings that a `DecoderConfig` cannot hold; `weights` lists all but the vocabulary's.

    `to_json` is the way back from a configuration; `biases` are the settings that say that optional biases are there.
    """

    config: Callable[[Json], dict[str, Any]]
    to_json: Callable[[DecoderConfig], dict[str, Any]]
    architecture: str
    biases: tuple[str, ...]
    weights: Callable[[DecoderConfig], Iterator[Weight]]
    output: str = "lm_head.weight"
    embedding: str = "model.embed_tokens.weight"
    tied: bool = False  # unless config.json says otherwise


def _llama(json: Json) -> dict[str, Any]:
    width, heads = json.integer("hidden_size"), json.integer("num_attention_heads")
    head_width = json.integer("head_dim", max(1, width // heads))
    return {
        "width": width,
        "layers": json.integer("num_hidden_layers"),
        "heads": heads,
        "kv_heads": json.integer("num_key_value_heads", heads),
        "head_width": head_width,
        "inner": json.integer("intermediate_size"),
        "context": json.integer("max_position_embeddings", 2048, least=2),
        "norm": "rms",
        "epsilon": json.number("rms_norm_eps", 1e-6, least=1e-12),
        "activation": json.choice("hidden_act", ACTIVATIONS, "silu"),
        "gated": True,
        "theta": json.theta(),
        "rotated": head_width,
    }


def _mistral(json: Json) -> dict[str, Any]:
    return {**_llama(json), "window": json.integer("sliding_window", 0, least=0)}


def _starcoder2(json: Json) -> dict[str, Any]:
    epsilon = json.number("norm_epsilon", 1e-5, least=1e-12)
    return {**_mistral(json), "norm": "layer", "gated": False, "epsilon": epsilon}


def _gpt2(json: Json) -> dict[str, Any]:
    json.demand("scale_attn_weights", True)
    json.demand("scale_attn_by_inverse_layer_idx", False)
    json.demand("add_cross_attention", False)
    width, heads = json.integer("n_embd", 768), json.integer("n_head", 12)
    return {
        "width": width,
        "layers": json.integer("n_layer", 12),
        "heads": heads,
        "kv_heads": heads,
        "head_width": max(1, width // heads),
        "inner": json.integer("n_inner", 4 * width),
        "context": json.integer("n_positions", 1024, least=2),
        "epsilon": json.number("layer_norm_epsilon", 1e-5, least=1e-12),
        "activation": json.choice("activation_function", ACTIVATIONS, "gelu_new"),
        "positions": "learned",
        "rotated": 0,
    }


def _gpt_neox(json: Json) -> dict[str, Any]:
    width, heads = json.integer("hidden_size"), json.integer("num_attention_heads")
    head_width = max(1, width // heads)
    rope = json.content.get("rope_parameters")
    share = Json({**json.content, **(rope if isinstance(rope, Mapping) else {})})
    name = "partial_rotary_factor" if "partial_rotary_factor" in share.content else "rotary_pct"
    return {
        "width": width,
        "layers": json.integer("num_hidden_layers"),
        "heads": heads,
        "kv_heads": heads,
        "head_width": head_width,
        "inner": json.integer("intermediate_size"),
        "context": json.integer("max_position_embeddings", 2048, least=2),
        "epsilon": json.number("layer_norm_eps", 1e-5, least=1e-12),
        "activation": json.choice("hidden_act", ACTIVATIONS, "gelu"),
        "theta": json.theta(),
        "rotated": int(head_width * share.number(name, 0.25, least=0)),
        "parallel": bool(json.content.get("use_parallel_residual", True)),
    }


def _rope(config: DecoderConfig) -> dict[str, Any]:
    return {"rope_theta": config.theta, "rope_parameters": {"rope_type": "default", "rope_theta": config.theta}}


def _theirs(activation: str) -> str:
    return {"gelu_tanh": "gelu_new"}.get(activation, activation)


def _llama_json(config: DecoderConfig) -> dict[str, Any]:
    window = {"sliding_window": config.window} if config.window else {}
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.inner,
        "max_position_embeddings": config.context,
        "rms_norm_eps" if config.norm == "rms" else "norm_epsilon": config.epsilon,
        "hidden_act": _theirs(config.activation),
        **window,
        **_rope(config),
    }


def _gpt2_json(config: DecoderConfig) -> dict[str, Any]:
    return {
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.inner,
        "n_positions": config.context,
        "layer_norm_epsilon": config.epsilon,
        "activation_function": _theirs(config.activation),
    }


def _gpt_neox_json(config: DecoderConfig) -> dict[str, Any]:
    share, rope = config.rotated / config.head_width, _rope(config)
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.inner,
        "max_position_embeddings": config.context,
        "layer_norm_eps": config.epsilon,
        "hidden_act": _theirs(config.activation),
        "use_parallel_residual": config.parallel,
        "rotary_pct": share,
        "rotary_emb_base": config.theta,
        "rope_parameters": {**rope["rope_parameters"], "partial_rotary_factor": share},
    }


FAMILIES: Mapping[str, Family] = {
    "llama": Family(_llama, _llama_json, "LlamaForCausalLM", ("attention_bias", "mlp_bias"), llama_weights),
    "mistral": Family(_mistral, _llama_json, "MistralForCausalLM", (), llama_weights),
    "starcoder2": Family(_starcoder2, _llama_json, "Starcoder2ForCausalLM", ("use_bias",), llama_weights, tied=True),
    "gpt2": Family(
        _gpt2, _gpt2_json, "GPT2LMHeadModel", (), gpt2_weights, embedding="transformer.wte.weight", tied=True
    ),
    "gpt_neox": Family(
        _gpt_neox,
        _gpt_neox_json,
        "GPTNeoXForCausalLM",
        ("attention_bias",),
        gpt_neox_weights,
        output="embed_out.weight",
        embedding="gpt_neox.embed_in.weight",
    ),
}
"""By `model_type`."""


def family_of(config: DecoderConfig) -> str:
    """The family that holds a model of this configuration."""
    if config.norm == "rms":
        return "mistral" if config.window else "llama"
    if config.positions == "learned":
        return "gpt2"
    return "gpt_neox" if config.parallel or config.rotated < config.head_width else "starcoder2"
