"""The attention maps of a Transformer, for each layer and head.

Shapes: L layers, N heads, T tokens.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from charlm.analysis.surprisal import spelled
from charlm.config import BOUNDARY
from charlm.errors import UsageError
from charlm.inference import reading
from charlm.models.base import LanguageModel, device_of
from charlm.models.transformer import Attention, Transformer
from charlm.tokenizers.base import Tokenizer

MAX_TOKENS = 512  # in a map


@dataclass(frozen=True)
class AttentionMaps:
    """The attention weights of all layers and heads on one text."""

    tokens: tuple[str, ...]  # (T,): the text of each token, "" for the boundary, bytes as \\xHH
    weights: npt.NDArray[np.float32]  # (L, N, T, T): [.., t, s] is the weight of position s at t; they sum to 1 over s


def attention_maps(model: LanguageModel, tokenizer: Tokenizer, text: str) -> AttentionMaps:
    """The attention of each layer and head while the model reads the boundary and a text.

    Raises UsageError for a model that is no Transformer, and for a text of more than 512 tokens.
    """
    if not isinstance(model, Transformer):
        raise UsageError(f"{type(model).__name__} has no attention; inspect a transformer run")
    ids = np.concatenate([[BOUNDARY], tokenizer.encode(text)], dtype=np.int64)
    if len(ids) > MAX_TOKENS:
        raise UsageError(f"has {len(ids):,} tokens, too many for a map of attention; {MAX_TOKENS} are the most", "text")
    maps, shape = [], (model.config.heads, len(ids), len(ids))

    def record(attention: nn.Module, arguments: tuple[Any, ...]) -> None:
        assert isinstance(attention, Attention)
        maps.append(attention.attend(*arguments)[0].broadcast_to(1, *shape)[0])

    layers = [module for module in model.modules() if isinstance(module, Attention)]
    handles = [layer.register_forward_pre_hook(record) for layer in layers]
    try:
        with reading(model):
            model.features(torch.from_numpy(ids)[None].to(device_of(model)), model.initial_state(1))
    finally:
        for handle in handles:
            handle.remove()
    pieces = tokenizer.pieces()
    return AttentionMaps(
        tuple(spelled(pieces[id], 1.0).text for id in ids.tolist()), torch.stack(maps).float().cpu().numpy()
    )
