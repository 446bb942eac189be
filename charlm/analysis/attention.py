"""Where a Transformer looks: how much each position takes of each, by head.

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

MAX_TOKENS = 512
"""Tokens that a map may have."""


@dataclass(frozen=True)
class AttentionMaps:
    """tokens (T,): the text of each token read, "" for the boundary, bytes as \\xHH. weights (L, N, T, T): what the
    position [.., t, :] takes of each position, which adds up to 1 and is 0 for those to come and beyond the window.
    """

    tokens: tuple[str, ...]
    weights: npt.NDArray[np.float32]


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

    def watch(attention: nn.Module, arguments: tuple[Any, ...]) -> None:
        assert isinstance(attention, Attention)
        maps.append(attention.attend(*arguments)[0].broadcast_to(1, *shape)[0])

    layers = [part for part in model.modules() if isinstance(part, Attention)]
    handles = [layer.register_forward_pre_hook(watch) for layer in layers]
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
