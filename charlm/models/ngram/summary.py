"""A summary of an n-gram model, one row for each length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from charlm.config import BOUNDARY
from charlm.models.ngram.model import NGram

IDS_PER_CHUNK = 1 << 14


@dataclass(frozen=True)
class Length:
    """The n-grams of one length. `matched` is the share of a text's tokens whose longest counted n-gram has it."""

    length: int
    ngrams: int
    discounts: Sequence[float] | None
    megabytes: float
    matched: float | None


def summary(
    model: NGram, discounts: Sequence[Sequence[float] | None] = (), ids: np.ndarray[Any, Any] | None = None
) -> list[Length]:
    """One entry for each length. `discounts`: those of `fit`; `ids` (N,): a text to look up for `Length.matched`."""
    sizes = model.levels.diff().tolist()
    matched = _matched(model, ids) if ids is not None and len(ids) else None
    ngram, context = (_bytes_each(model, count) for count in (len(model.symbol), len(model.backoff)))
    padded = [*discounts, *[None] * len(sizes)]
    return [
        Length(
            length=length,
            ngrams=size,
            discounts=padded[length - 1],
            megabytes=size * (ngram + context * (length < len(sizes))) / 1e6,
            matched=None if matched is None else float(matched[length]),
        )
        for length, size in enumerate(sizes, 1)
    ]


def _bytes_each(model: NGram, count: int) -> int:
    """Bytes of one of `count` n-grams or contexts: an element of each tensor of `count` or `count` + 1 elements."""
    return sum(tensor.element_size() for tensor in model.buffers() if len(tensor) in (count, count + 1))


@torch.inference_mode()
def _matched(model: NGram, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(order + 1,): the share of the ids (N,) whose longest counted n-gram has each length."""
    stream = torch.from_numpy(np.append(BOUNDARY, ids).astype(np.int64))[None]
    state, counts = model.initial_state(1), np.zeros(model.order + 1)
    for part in torch.split(stream, IDS_PER_CHUNK, 1):
        lengths, state = model.matched(part, state)
        counts += np.bincount(lengths[0].numpy(), minlength=model.order + 1)
    counts[1] -= 1  # the boundary, which is not predicted
    return counts / len(ids)
