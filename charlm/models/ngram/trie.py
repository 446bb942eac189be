"""The n-grams of a fitted model as tensors: a trie whose nodes are numbered level by level, and how it is walked.

Node 0 is the empty n-gram; node y > 0 ends in symbol[y - 1] and has mass[y - 1]. The children of a node are numbered
consecutively, and those of the next node follow.

Shapes: A symbols, M n-grams, C nodes that can be contexts, V vocabulary, B streams, T time steps, K contexts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from charlm.models.ngram.counting import Level
from charlm.models.ngram.smoothing import Estimate, Numbers, with_contexts
from charlm.models.ngram.windows import Integers

CONTEXTS_PER_CHUNK = 1 << 16  # whose keys are computed at a time


class Part(NamedTuple):
    """What the n-grams of one length, whose contexts are one symbol shorter, add to the tensors."""

    symbol: Integers  # (M,)
    children: Integers  # (C,) how many of the n-grams begin with each context
    mass: Numbers  # (M,)
    backoff: Numbers  # (C,)


def tensors_of(ids: Any, levels: Sequence[Level], estimates: Sequence[Estimate], unigram: Any) -> dict[str, Tensor]:
    """The tensors that a model stores, given its levels and their estimates."""
    parts = (
        Part(level.symbol, children_counts(level, contexts), estimate.mass, estimate.backoff)
        for (level, contexts), estimate in zip(with_contexts(levels), estimates, strict=True)
    )
    return assembled(ids, [len(level) for level in levels], parts, unigram)


def nothing_counted(vocab_size: int) -> dict[str, Tensor]:
    """The tensors of a model before anything is counted: all ids are equally likely."""
    empty = torch.zeros(0)
    return {
        "ids": empty.long(),
        "levels": torch.ones(1, dtype=torch.int64),
        "first": torch.ones(2, dtype=torch.int32),
        "symbol": empty.byte(),
        "mass": empty,
        "backoff": torch.ones(1),
        "unigram": torch.full((vocab_size,), 1 / vocab_size),
    }


def children_counts(level: Level, contexts: int) -> Integers:
    """(C,): how many n-grams of the level begin with each of the contexts."""
    return np.bincount(level.parent, minlength=contexts)


def assembled(ids: Any, sizes: Sequence[int], parts: Iterable[Part], unigram: Any) -> dict[str, Tensor]:
    """The tensors that a model stores, of levels of these sizes, from what they add one after the other."""
    starts = np.cumsum([1, *sizes])
    ngrams, contexts = int(starts[-1]) - 1, int(starts[-2])
    symbol = np.empty(ngrams, np.uint8 if len(ids) <= 256 else np.int32)
    mass, backoff, first = np.empty(ngrams, np.float32), np.empty(contexts, np.float32), np.ones(contexts + 1, np.int32)
    context = 0
    for start, end, part in zip(starts - 1, starts[1:] - 1, parts, strict=False):
        symbol[start:end], mass[start:end] = part.symbol, part.mass
        at = slice(context, context := int(start) + 1)
        backoff[at], first[at.start + 1 : at.stop + 1] = part.backoff, part.children
    arrays = {
        "ids": ids,
        "levels": starts,
        "first": np.cumsum(first, out=first),
        "symbol": symbol,
        "mass": mass,
        "backoff": backoff,
        "unigram": unigram.astype(np.float32),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@np.errstate(over="ignore", invalid="ignore")  # a sum that is infinite is refused below
def check(tensors: Mapping[str, Tensor], vocab_size: int) -> None:
    """Raises ValueError unless the tensors describe a trie in which the probabilities after each context sum to 1."""
    types = {name: tensor.dtype for name, tensor in tensors.items()}
    expected = {name: tensor.dtype for name, tensor in nothing_counted(vocab_size).items()}
    if types not in (expected, expected | {"symbol": torch.int32}):
        raise ValueError("the weights are not those of an n-gram model")
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
    cumulative = np.append(0, mass.cumsum(dtype=np.float64))[first - 1]
    deviation = np.abs(np.diff(cumulative) + backoff - 1).max()
    if not (
        deviation < 1e-3 and abs(unigram.sum(dtype=np.float64) - 1) < 1e-3 and min(backoff.min(), unigram.min()) > 0
    ):
        raise ValueError("the probabilities of the n-gram model do not add up to 1")


def keys_of(first: Integers, symbol: Integers, alphabet: int) -> Integers:
    """(M + 1,) int64, ascending: parent * (A + 1) + symbol of the nodes from 1 on; then a number above all of them."""
    keys, contexts = np.empty(len(symbol) + 1, np.int64), len(first) - 1
    for begin in range(0, contexts, CONTEXTS_PER_CHUNK):
        end = min(begin + CONTEXTS_PER_CHUNK, contexts)
        ngrams = slice(first[begin] - 1, first[end] - 1)
        parents = np.repeat(np.arange(begin, end, dtype=np.int64), np.diff(first[begin : end + 1]))
        keys[ngrams] = parents * (alphabet + 1) + symbol[ngrams]
    keys[-1] = contexts * (alphabet + 1)
    return keys


def children(keys: Tensor, alphabet: int, nodes: Tensor, symbols: Tensor) -> Tensor:
    """The child of each node for a symbol, -1 if there is none; `keys` as `keys_of` makes them."""
    child_keys = nodes * (alphabet + 1) + symbols
    at = torch.searchsorted(keys, child_keys)
    return torch.where(keys.take(at) == child_keys, at + 1, -1)


def walk(keys: Tensor, alphabet: int, symbols: Tensor, contexts: Tensor, longest: int) -> Tensor:
    """Symbols (B, T) after contexts (B, K) -> (B, T, longest): the nodes of the last 1 .. `longest` symbols."""
    B, T = symbols.shape
    root = torch.zeros(B, 1, dtype=torch.int64, device=symbols.device)
    if longest >= T:  # few steps: all lengths at once, step by step
        steps = []
        for t in range(T):
            shorter = torch.cat((root, contexts), 1)[:, :longest]
            nodes = children(keys, alphabet, shorter, symbols[:, t : t + 1])
            contexts = nodes[:, : contexts.shape[1]]
            steps.append(nodes)
        return torch.stack(steps, 1)
    lengths = []  # many steps: all steps at once, length by length
    shorter, order = root.expand(B, T), _sorted_places(symbols, alphabet)
    for k in range(longest):
        places = (order + k) % (B * T)
        nodes = torch.empty(B * T, dtype=torch.int64, device=symbols.device)
        nodes[places] = children(keys, alphabet, shorter.flatten()[places], symbols.flatten()[places])
        lengths.append(nodes.view(B, T))
        shorter = torch.cat((contexts[:, k : k + 1], lengths[-1][:, :-1]), 1)
    return torch.stack(lengths, 2) if lengths else contexts.unsqueeze(1).expand(B, T, 0)


def _sorted_places(symbols: Tensor, alphabet: int) -> Tensor:
    """(B, T) -> (B T,): the places sorted by the symbols that follow: neighbouring look-ups then share cache lines."""
    flat, bits = symbols.flatten(), alphabet.bit_length()
    words = flat.clone()
    for k in range(1, 62 // max(1, bits)):
        words.mul_(1 << bits)[:-k] += flat[k:]
    return words.argsort()
