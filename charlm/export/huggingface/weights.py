"""What the weights of the imported families are called: the name there, the shape, and which part is which of ours."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from charlm.models.decoder import DecoderConfig


@dataclass(frozen=True)
class Weight:
    """A tensor: its name and shape in their file, and the parameter whose numbers are the `part` of it, a view.

    `optional` ones may be missing: they are then 0.
    """

    theirs: str
    shape: tuple[int, ...]
    ours: str
    part: Callable[[Tensor], Tensor] = lambda tensor: tensor
    optional: bool = False


def _linear(theirs: str, ours: str, out: int, into: int, *, bias: bool) -> Iterator[Weight]:
    """A matrix and its bias, which is 0 where it is missing and need not be there."""
    yield Weight(f"{theirs}.weight", (out, into), f"{ours}.weight")
    yield Weight(f"{theirs}.bias", (out,), f"{ours}.bias", optional=not bias)


def _norm(theirs: str, ours: str, width: int, *, bias: bool = True) -> Iterator[Weight]:
    yield Weight(f"{theirs}.weight", (width,), f"{ours}.weight")
    if bias:
        yield Weight(f"{theirs}.bias", (width,), f"{ours}.bias")


def llama_weights(config: DecoderConfig) -> Iterator[Weight]:
    """Llama, Mistral and Starcoder2, which differ in the feed-forward layer."""
    D, layer_norm = config.width, config.norm == "layer"
    q, kv = config.heads * config.head_width, config.kv_heads * config.head_width
    up, down = ("up_proj", "down_proj") if config.gated else ("c_fc", "c_proj")
    for n in range(config.layers):
        there, here = f"model.layers.{n}", f"blocks.{n}"
        yield from _norm(f"{there}.input_layernorm", f"{here}.norm_attention", D, bias=layer_norm)
        yield from _norm(f"{there}.post_attention_layernorm", f"{here}.norm_feedforward", D, bias=layer_norm)
        yield from _linear(f"{there}.self_attn.q_proj", f"{here}.attention.query", q, D, bias=False)
        yield from _linear(f"{there}.self_attn.k_proj", f"{here}.attention.key", kv, D, bias=False)
        yield from _linear(f"{there}.self_attn.v_proj", f"{here}.attention.value", kv, D, bias=False)
        yield from _linear(f"{there}.self_attn.o_proj", f"{here}.attention.out", D, q, bias=False)
        yield from _linear(f"{there}.mlp.{up}", f"{here}.inner", config.inner, D, bias=False)
        if config.gated:
            yield from _linear(f"{there}.mlp.gate_proj", f"{here}.gate", config.inner, D, bias=False)
        yield from _linear(f"{there}.mlp.{down}", f"{here}.out", D, config.inner, bias=False)
    yield from _norm("model.norm", "norm", D, bias=layer_norm)


def gpt2_weights(config: DecoderConfig) -> Iterator[Weight]:
    """Its matrices are stored transposed, queries, keys and values as one."""
    D = config.width
    yield Weight("transformer.wpe.weight", (config.context, D), "position.weight")
    for n in range(config.layers):
        there, here = f"transformer.h.{n}", f"blocks.{n}"
        yield from _norm(f"{there}.ln_1", f"{here}.norm_attention", D)
        yield from _norm(f"{there}.ln_2", f"{here}.norm_feedforward", D)
        for part, name in enumerate(("query", "key", "value")):
            rows = slice(part * D, (part + 1) * D)
            yield Weight(f"{there}.attn.c_attn.weight", (D, 3 * D), f"{here}.attention.{name}.weight", _columns(rows))
            yield Weight(f"{there}.attn.c_attn.bias", (3 * D,), f"{here}.attention.{name}.bias", _rows(rows))
        for theirs, ours, out, into in (
            ("attn.c_proj", "attention.out", D, D),
            ("mlp.c_fc", "inner", config.inner, D),
            ("mlp.c_proj", "out", D, config.inner),
        ):
            yield Weight(f"{there}.{theirs}.weight", (into, out), f"{here}.{ours}.weight", lambda tensor: tensor.T)
            yield Weight(f"{there}.{theirs}.bias", (out,), f"{here}.{ours}.bias")
    yield from _norm("transformer.ln_f", "norm", D)


def gpt_neox_weights(config: DecoderConfig) -> Iterator[Weight]:
    """Of each head its query, key and value stand together."""
    D, d = config.width, config.head_width
    for n in range(config.layers):
        there, here = f"gpt_neox.layers.{n}", f"blocks.{n}"
        yield from _norm(f"{there}.input_layernorm", f"{here}.norm_attention", D)
        yield from _norm(f"{there}.post_attention_layernorm", f"{here}.norm_feedforward", D)
        for part, name in enumerate(("query", "key", "value")):
            theirs, of_heads = f"{there}.attention.query_key_value", _of_heads(part, d)
            yield Weight(f"{theirs}.weight", (3 * D, D), f"{here}.attention.{name}.weight", of_heads)
            yield Weight(f"{theirs}.bias", (3 * D,), f"{here}.attention.{name}.bias", of_heads, optional=True)
        yield from _linear(f"{there}.attention.dense", f"{here}.attention.out", D, D, bias=False)
        yield from _linear(f"{there}.mlp.dense_h_to_4h", f"{here}.inner", config.inner, D, bias=True)
        yield from _linear(f"{there}.mlp.dense_4h_to_h", f"{here}.out", D, config.inner, bias=True)
    yield from _norm("gpt_neox.final_layer_norm", "norm", D)


def _rows(rows: slice) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor[rows]


def _columns(columns: slice) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor[:, columns].T


def _of_heads(part: int, size: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.view(-1, 3, size, *tensor.shape[1:])[:, part]
