"""The gate of `gate`, trained and applied by several processes that share the n-grams; see `shards`.

Each rank computes the statistics of its contexts. Rank 0 collects those of the places of the validation slice and
trains the gate, which every rank then applies to its contexts. To the bit, the results are those of one process: sums
are of whole numbers, and matrix products are of the same shape, each context in its place among CONTEXTS_PER_CHUNK.

Shapes: P places, K lengths of contexts, F features.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from charlm.models.ngram.gate import (
    CONTEXTS_PER_CHUNK,
    ContextStatistics,
    Gate,
    empty_estimate,
    fit_gate,
    statistics_of_level,
)
from charlm.models.ngram.shards import WHOLE_LENGTHS, Shard
from charlm.models.ngram.smoothing import Estimate, Numbers, counts_of_counts, with_contexts
from charlm.models.ngram.trie import Part, children_counts
from charlm.models.ngram.windows import Integers
from charlm.progress import Tell
from charlm.ranks import Array, Ranks
from charlm.threads import Workers

TOTAL = 5  # which of the tensors that `fit_gate` reads is the total count, which divides


def train_shared_gate(
    shard: Shard, contexts: Integers, ngrams: Integers, base: Numbers, ranks: Ranks, pool: Workers, tell: Tell
) -> tuple[Gate, Integers, Numbers, Numbers]:
    """Train a gate on P places, whose rows of contexts and n-grams, both (P, K), each rank has looked up in its shard.

    Returns the gate and, on rank 0, rows of contexts that are -1 where these are not counted on any rank, and mass and
    back-off at the places, all (P, K).
    """
    gate = Gate(int(shard.levels[0].symbol[-1]) + 1, _counts_of_counts(shard, ranks))
    observed, known = _observed_on_main(shard, contexts, ngrams, ranks, pool)
    nothing = np.zeros(0)
    interpolation = fit_gate(gate, observed, ngrams[:, 0], base, tell) if ranks.is_main else (nothing, nothing)
    for weight in gate.weights:
        weight.copy_(torch.from_numpy(ranks.from_main(weight.numpy())))
    return gate, known, *interpolation


def _observed_on_main(
    shard: Shard, contexts: Integers, ngrams: Integers, ranks: Ranks, pool: Workers
) -> tuple[list[Tensor], Integers]:
    """On rank 0, what `fit_gate` needs of P places, of which each rank knows the contexts that it owns; and which these
    are: (P, K), -1 where they are not counted on any rank.
    """
    known = np.full(contexts.shape, -1)
    whole: list[Array] = []  # (P, K, ..) each
    for k, statistic in enumerate(_statistics(shard, pool)):
        own = _own_places(shard, k, contexts[:, k], ranks)
        arrays = [
            *_own_inputs(shard, statistic, k, contexts[own, k]),
            *(tensor.numpy() for tensor in statistic.observed(contexts[own, k], ngrams[own, k])),
        ]
        places, *arrays = (np.concatenate(ranks.to_main(array)) for array in (own, *arrays))
        if not ranks.is_main:
            continue
        if not whole:
            arrays[0] = np.concatenate((arrays[0], np.zeros_like(arrays[0])), 1)
            whole = [np.zeros((*contexts.shape, *array.shape[1:]), array.dtype) for array in arrays]
        else:
            before = whole[0][places, k - 1, : arrays[0].shape[1]]  # the suffix is the context that is one shorter
            arrays[0] = np.concatenate((arrays[0], before), 1)
        known[places, k] = 0
        for array, rows in zip(whole, arrays, strict=True):
            array[places, k] = rows
    for total in whole[TOTAL : TOTAL + 1]:
        np.maximum(total, 1, out=total)
    return [torch.from_numpy(array) for array in whole], known


def _counts_of_counts(shard: Shard, ranks: Ranks) -> list[Array]:
    """Of both kinds of counts, for each level, all ranks together."""
    levels = zip(shard.levels, shard.adjusted, strict=True)
    own = np.stack([[counts_of_counts(level.count), counts_of_counts(adjusted)] for level, adjusted in levels])
    total = np.sum(ranks.of_all(own), 0)
    return [*own[:WHOLE_LENGTHS], *total[WHOLE_LENGTHS:]]


def _own_places(shard: Shard, k: int, contexts: Integers, ranks: Ranks) -> Integers:
    """The places whose contexts of k symbols are counted and this rank's: rank 0's if every rank has them."""
    if k < WHOLE_LENGTHS:
        return np.flatnonzero((contexts >= 0) & ranks.is_main)
    own = shard.contexts(k)
    return np.flatnonzero((contexts >= own.start) & (contexts < own.stop))


def _statistics(shard: Shard, pool: Workers) -> Iterator[ContextStatistics]:
    """The statistics of the contexts of each level, one after the other, because they take much memory."""
    for (level, contexts), adjusted in zip(with_contexts(shard.levels), shard.adjusted, strict=True):
        yield statistics_of_level(level, adjusted, contexts, pool)


def _own_inputs(shard: Shard, statistic: ContextStatistics, k: int, rows: Integers) -> tuple[Array, Array]:
    """The features of contexts of k symbols, and their last symbols."""
    symbol = shard.levels[k - 1].symbol[rows].astype(np.int64) if k else np.zeros_like(rows)
    return statistic.features[rows], symbol


def shared_estimates(shard: Shard, gate: Gate, ranks: Ranks, pool: Workers) -> list[Estimate]:
    """The estimates of a rank's levels with the discounts of a trained gate."""
    estimates: list[Estimate] = []
    shorter = np.zeros((0, 0), np.float32)  # features of the contexts that are one symbol shorter
    for k, statistic in enumerate(_statistics(shard, pool)):
        estimates.append(empty_estimate(statistic))
        own = shard.contexts(k) if k >= WHOLE_LENGTHS else slice(0, len(estimates[k].backoff))
        first = shard.starts[k - 1] if k >= WHOLE_LENGTHS else 0  # the number of the first of them among all ranks'
        size = shard.sizes[k - 1] if k else 1
        for begin in _chunks(first, first + own.stop - own.start, ranks):
            low, high = (min(max(at - first, 0) + own.start, own.stop) for at in (begin, begin + CONTEXTS_PER_CHUNK))
            inputs = _inputs(shard, statistic, shorter, k, np.arange(low, high), ranks)
            at = slice(low - own.start + first - begin, high - own.start + first - begin)
            features, symbol = _padded(inputs, at, max(0, min(CONTEXTS_PER_CHUNK, size - begin)))
            outputs = gate(features, symbol, torch.tensor([k]))
            statistic.estimate(low, high, estimates[k], *(output.numpy()[at] for output in outputs))
        shorter = statistic.features
    return estimates


def _chunks(first: int, end: int, ranks: Ranks) -> range:
    """Where the chunks begin that first..end is in; further ones where other ranks have more."""
    begin = first // CONTEXTS_PER_CHUNK
    count = -(-end // CONTEXTS_PER_CHUNK) - begin
    count = int(np.max(ranks.of_all(np.array([count]))))
    return range(begin * CONTEXTS_PER_CHUNK, (begin + count) * CONTEXTS_PER_CHUNK, CONTEXTS_PER_CHUNK)


def _inputs(
    shard: Shard, statistic: ContextStatistics, shorter: Numbers, k: int, rows: Integers, ranks: Ranks
) -> tuple[Tensor, Tensor]:
    """The same as `gate.context_inputs`; the features of suffixes are asked of the ranks that own these."""
    own, symbol = _own_inputs(shard, statistic, k, rows)
    suffixes = shard.levels[k - 1].suffix[rows] if k > 1 else np.zeros_like(rows)
    if k == 0:
        suffix = np.zeros_like(own)
    elif k <= WHOLE_LENGTHS:
        suffix = shorter[suffixes]
    else:
        suffix = ranks.ask(shard.owners[k - 1][rows], suffixes, lambda asked: shorter[asked])
    return torch.from_numpy(np.concatenate((own, suffix), 1)), torch.from_numpy(symbol)


def _padded(inputs: Sequence[Tensor], at: slice, size: int) -> list[Tensor]:
    """Tensors of `size` rows that have the inputs at these and 0 elsewhere."""
    padded = [tensor.new_zeros(size, *tensor.shape[1:]) for tensor in inputs]
    for tensor, part in zip(padded, inputs, strict=True):
        tensor[at] = part
    return padded


def parts_on_main(shard: Shard, estimates: Sequence[Estimate], ranks: Ranks) -> Iterator[Part]:
    """On rank 0, what the levels of all ranks add to the tensors of the model. All ranks go through it together."""
    for k, ((level, contexts), estimate) in enumerate(zip(with_contexts(shard.levels), estimates, strict=True)):
        part = Part(level.symbol, children_counts(level, contexts).astype(np.int32), estimate.mass, estimate.backoff)
        if k >= WHOLE_LENGTHS:
            own = shard.contexts(k)
            part = part._replace(children=part.children[own], backoff=part.backoff[own])
            part = Part(*(np.concatenate(ranks.to_main(column)) for column in part))
        yield part
