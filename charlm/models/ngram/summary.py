"""What an n-gram is made of, length by length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from charlm.config import BOUNDARY
from charlm.models.ngram.model import NGram

CHUNK = 1 << 14  # ids looked up at a time


@dataclass(frozen=True)
class Length:
    """The n-grams of one length. `matched` is the share of a text's tokens at which no longer one was known."""

    length: int
    ngrams: int
    discounts: Sequence[float] | None
    megabytes: float
    matched: float | None


def summary(
    model: NGram, discounts: Sequence[Sequence[float] | None] = (), ids: np.ndarray[Any, Any] | None = None
) -> list[Length]:
    """One entry a length. `discounts` is what `fit` found; `ids` (N,), if given, the text that is looked up."""
    sizes = model.levels.diff().tolist()
    matched = _matched(model, ids) if ids is not None and len(ids) else None
    ngram, context = (_bytes_each(model, count) for count in (len(model.symbol), len(model.backoff)))
    known = [*discounts, *[None] * len(sizes)]
    return [
        Length(
            length=length,
            ngrams=size,
            discounts=known[length - 1],
            megabytes=size * (ngram + context * (length < len(sizes))) / 1e6,
            matched=None if matched is None else float(matched[length]),
        )
        for length, size in enumerate(sizes, 1)
    ]


def _bytes_each(model: NGram, count: int) -> int:
    """What one of `count` n-grams or contexts takes in memory: a number in each tensor of so many, or one more."""
    return sum(tensor.element_size() for tensor in model.buffers() if len(tensor) in (count, count + 1))


@torch.inference_mode()
def _matched(model: NGram, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(order + 1,): the share of the ids (N,) that end a known n-gram of each length, and no longer one."""
    stream = torch.from_numpy(np.append(BOUNDARY, ids).astype(np.int64))[None]
    state, counts = model.initial_state(1), np.zeros(model.order + 1)
    for part in torch.split(stream, CHUNK, 1):
        lengths, state = model.matched(part, state)
        counts += np.bincount(lengths[0].numpy(), minlength=model.order + 1)
    counts[1] -= 1  # the boundary, which is not predicted
    return counts / len(ids)
