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
    context_inputs,
    empty_estimate,
    fit_gate,
    statistics_of,
)
from charlm.models.ngram.shards import WHOLE_LENGTHS, Shard
from charlm.models.ngram.smoothing import Estimate, Numbers, counts_of_counts, with_contexts
from charlm.models.ngram.trie import Part, children_counts
from charlm.models.ngram.windows import Integers
from charlm.progress import Tell
from charlm.ranks import Array, Ranks
from charlm.threads import Workers


def train_shared_gate(
    shard: Shard, contexts: Integers, ngrams: Integers, base: Numbers, ranks: Ranks, pool: Workers, tell: Tell
) -> tuple[Gate, Integers, Numbers, Numbers]:
    """Train a gate on P places, whose rows of contexts and n-grams, both (P, K), each rank has looked up in its shard.

    Returns the gate and, on rank 0, rows of contexts that are -1 where these are not counted on any rank, and mass and
    back-off at the places, all (P, K).
    """
    statistics = statistics_of(shard.levels, shard.adjusted, pool)
    gate = Gate(int(shard.levels[0].symbol[-1]) + 1, _counts_of_counts(shard, ranks))
    by_length, known = [], np.full(contexts.shape, -1)
    before = np.zeros((len(contexts), statistics[0].features.shape[1]), np.float32)
    for k in range(len(statistics)):
        places = _own_places(shard, k, contexts[:, k], ranks)
        own, symbol = _own_inputs(shard, statistics, k, contexts[places, k])
        observed = [tensor.numpy() for tensor in statistics[k].observed(contexts[places, k], ngrams[places, k])]
        everywhere = np.concatenate(ranks.to_main(places))
        own, symbol, *observed = (
            _scattered(everywhere, array, len(contexts), ranks) for array in (own, symbol, *observed)
        )
        known[everywhere, k] = 0
        suffix = np.where(known[:, k : k + 1] == 0, before, 0) if k else before
        observed[3] = np.maximum(observed[3], 1)  # the total count, which divides
        by_length.append([torch.from_numpy(a) for a in (np.concatenate((own, suffix), 1), symbol, *observed)])
        before = own
    del statistics
    nothing = np.zeros(0)
    interpolation = fit_gate(gate, by_length, ngrams[:, 0], base, tell) if ranks.is_main else (nothing, nothing)
    for weight in gate.weights:
        weight.copy_(torch.from_numpy(ranks.from_main(weight.numpy())))
    return gate, known, *interpolation


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


def _own_inputs(shard: Shard, statistics: Sequence[ContextStatistics], k: int, rows: Integers) -> tuple[Array, Array]:
    """The features of contexts of k symbols, and their last symbols."""
    symbol = shard.levels[k - 1].symbol[rows].astype(np.int64) if k else np.zeros_like(rows)
    return statistics[k].features[rows], symbol


def _scattered(places: Integers, array: Array, count: int, ranks: Ranks) -> Array:
    """On rank 0, the rows of the arrays of all ranks at their places among `count`, 0 elsewhere."""
    whole = np.zeros((count, *array.shape[1:]), array.dtype)
    whole[places] = np.concatenate(ranks.to_main(array))
    return whole


def shared_estimates(shard: Shard, gate: Gate, ranks: Ranks, pool: Workers) -> list[Estimate]:
    """The estimates of a rank's levels with the discounts of a trained gate."""
    statistics = statistics_of(shard.levels, shard.adjusted, pool)
    estimates = [empty_estimate(statistic) for statistic in statistics]
    for k, statistic in enumerate(statistics):
        own = shard.contexts(k) if k >= WHOLE_LENGTHS else slice(0, len(estimates[k].backoff))
        first = shard.starts[k - 1] if k >= WHOLE_LENGTHS else 0  # the number of the first of them among all ranks'
        size = shard.sizes[k - 1] if k else 1
        for begin in _chunks(first, first + own.stop - own.start, ranks):
            low, high = (min(max(at - first, 0) + own.start, own.stop) for at in (begin, begin + CONTEXTS_PER_CHUNK))
            inputs = _inputs(shard, statistics, k, np.arange(low, high), ranks)
            at = slice(low - own.start + first - begin, high - own.start + first - begin)
            features, symbol = _padded(inputs, at, max(0, min(CONTEXTS_PER_CHUNK, size - begin)))
            outputs = gate(features, symbol, torch.tensor([k]))
            statistic.estimate(low, high, estimates[k], *(output.numpy()[at] for output in outputs))
    return estimates


def _chunks(first: int, end: int, ranks: Ranks) -> range:
    """Where the chunks begin that first..end is in; further ones where other ranks have more."""
    begin = first // CONTEXTS_PER_CHUNK
    count = -(-end // CONTEXTS_PER_CHUNK) - begin
    count = int(np.max(ranks.of_all(np.array([count]))))
    return range(begin * CONTEXTS_PER_CHUNK, (begin + count) * CONTEXTS_PER_CHUNK, CONTEXTS_PER_CHUNK)


def _inputs(
    shard: Shard, statistics: Sequence[ContextStatistics], k: int, rows: Integers, ranks: Ranks
) -> tuple[Tensor, Tensor]:
    """`gate.context_inputs`; the features of suffixes are asked of the ranks that own these."""
    if k <= WHOLE_LENGTHS:
        return context_inputs(shard.levels, statistics, k, rows)
    own, symbol = _own_inputs(shard, statistics, k, rows)
    suffixes = shard.levels[k - 1].suffix[rows]
    suffix = ranks.ask(shard.owners[k - 1][rows], suffixes, lambda asked: statistics[k - 1].features[asked])
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
