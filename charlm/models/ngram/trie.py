"""The n-grams of a fitted model as tensors: a trie whose nodes are numbered level by level.

So the children of a node, and of one node after another, are neighbours: node 0 is the empty n-gram, node y the one
that ends in symbol[y - 1] and has mass[y - 1].

Shapes: A symbols, M n-grams, V vocabulary.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charlm.models.ngram.counting import Level
from charlm.models.ngram.smoothing import Estimate
from charlm.models.ngram.windows import Integers


def tensors_of(ids: Any, levels: list[Level], estimates: list[Estimate], unigram: Any) -> dict[str, Tensor]:
    """What a fitted model stores; `first`, for instance, from the parents of the n-grams."""
    sizes = np.array([1, *map(len, levels)])
    starts = np.cumsum(sizes)
    children = np.concatenate([np.bincount(level.parent, minlength=n) for level, n in zip(levels, sizes, strict=False)])
    symbol = np.concatenate([level.symbol for level in levels])
    arrays = {
        "ids": ids,
        "levels": starts,
        "first": np.append(1, 1 + np.cumsum(children)).astype(np.int32),
        "symbol": symbol.astype(np.uint8 if len(ids) <= 256 else np.int32),
        "mass": np.concatenate([e.mass for e in estimates]).astype(np.float32),
        "backoff": np.concatenate([e.backoff for e in estimates]).astype(np.float32),
        "unigram": unigram.astype(np.float32),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@np.errstate(over="ignore", invalid="ignore")  # what is infinite does not add up either
def check(tensors: Mapping[str, Tensor], vocab_size: int) -> None:
    """Raises ValueError unless the tensors describe one trie whose contexts each give away a probability of 1."""
    ids, levels, first, symbol, mass, backoff, unigram = (
        tensors[name].numpy() for name in ("ids", "levels", "first", "symbol", "mass", "backoff", "unigram")
    )
    sound = (
        all(tensor.dim() == 1 for tensor in tensors.values())
        and len(unigram) == vocab_size
        and len(symbol) == len(mass)
        and len(first) == len(backoff) + 1
        and levels[:1].tolist() == first[:1].tolist() == [1]
        and levels[-1:].tolist() == first[-1:].tolist() == [len(symbol) + 1]
        and all((numbers[1:] >= numbers[:-1]).all() for numbers in (levels, first))
        and all(((numbers >= 0) & (numbers < n)).all() for numbers, n in ((ids, vocab_size), (symbol, len(ids))))
        and len(np.unique(ids)) == len(ids)
    )
    if not sound or not (np.diff(keys_of(first, symbol, len(ids))) > 0).all():
        raise ValueError("the tensors of the n-gram model contradict each other")
    given = np.append(0, mass.cumsum(dtype=np.float64))[first - 1]
    off = np.abs(np.diff(given) + backoff - 1).max()
    if not (off < 1e-3 and abs(unigram.sum(dtype=np.float64) - 1) < 1e-3 and min(backoff.min(), unigram.min()) > 0):
        raise ValueError("the probabilities of the n-gram model do not add up to 1")


def keys_of(first: Integers, symbol: Integers, alphabet: int) -> Integers:
    """(M + 1,) int64: parent * (A + 1) + symbol of each node from 1 on, which ascend; then a number beyond all."""
    keys = np.repeat(np.arange(0, len(first) * (alphabet + 1), alphabet + 1), np.diff(first, append=first[-1] + 1))
    keys[:-1] += symbol
    return keys
