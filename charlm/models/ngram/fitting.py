"""Fitting an n-gram model: map tokens to symbols, count n-grams, and tune the estimator, the order and the cache.

Shapes: K = order - 1 contexts.
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from charlm.config import Settings, setting
from charlm.errors import UsageError
from charlm.models.ngram.cache import DEFAULT_WINDOW, MAX_WINDOW, Cache, ObservedMatches, observe_matches
from charlm.models.ngram.counting import Level, count_ngrams
from charlm.models.ngram.estimation import (
    FIXED_SMOOTHERS,
    SMOOTHERS,
    TUNED_SMOOTHERS,
    Estimator,
    ValidationSlice,
    best_order,
    nats_per_place,
    tune_cache,
)
from charlm.models.ngram.matching import look_up, sampled
from charlm.models.ngram.smoothing import Discounts, Estimate, Numbers
from charlm.models.ngram.trie import tensors_of
from charlm.models.ngram.windows import Integers, alphabet_of
from charlm.progress import Listener
from charlm.ranks import BY_ITSELF, Ranks
from charlm.threads import Workers, workers

MAX_AUTO_ORDER = 12  # the highest order tried where the order is chosen on the validation slice
TOKENS_PER_CHUNK = 1 << 20
BYTES_PER_WINDOW = 16  # memory for each window of the text that is sorted at the same time
BYTES_PER_NGRAM = 64  # memory for each n-gram while the model is built
BYTES_PER_SHARED_NGRAM = 40  # memory of rank 0 for each n-gram of all ranks, as their estimates become a model
TUNING_BYTES_PER_NGRAM = 256  # memory for each n-gram while the gate is trained

PROBE_TOKENS = 100_000  # the beginning of the text, which is counted to estimate the time of a whole `fit`
COUNTING_PASSES, TUNING_TOKENS = 4.7, 2_000_000
"""The cost of `fit`, as a number of tokens counted: per token of the text, and for tuning gate and cache. Two idle
cores took 5.8 and 11.4 s for plays of 300 KB and 1 MB; each of the first 100,000 tokens took 1.7 us to count."""
PARALLEL_SHARE = 0.7  # of the processor time of `fit` on 30 million characters: what its threads share


@dataclass(frozen=True)
class NGramConfig(Settings):
    """The settings of an n-gram model."""

    order: int | None = setting(
        None,
        "n-gram length, context and prediction",
        min=1,
        max=16,
        unset=f"chosen on the validation slice, up to {MAX_AUTO_ORDER}",
    )
    smoothing: str | None = setting(  # None: the table was imported
        "gated", "how counts become probabilities", choices=SMOOTHERS
    )
    cache: int | None = setting(
        None,
        "last tokens of the text being read in which earlier cases of the context are looked for; 0: none",
        min=0,
        max=MAX_WINDOW,
        unset=f"{DEFAULT_WINDOW} with gated smoothing, else 0",
    )
    memory: float = setting(
        2.0,
        "gigabytes that counting may take besides the text; where no order is given, sets how long n-grams get",
        min=0.1,
    )

    @property
    def cache_window(self) -> int:
        """The tokens of the cache; 0 without one."""
        return self.cache if self.cache is not None else DEFAULT_WINDOW * (self.smoothing == "gated")


def fitting_seconds(config: NGramConfig, vocab_size: int, tokens: Integers) -> float:
    """About how long it takes to fit a model to the tokens, from counting the first of them."""
    piece = tokens[:PROBE_TOKENS]
    ids, symbols = to_symbols([piece], vocab_size)
    begun = time.perf_counter()
    count_ngrams(symbols, len(ids), config.order or MAX_AUTO_ORDER)
    per_token = (time.perf_counter() - begun) / max(1, len(piece))
    passes = COUNTING_PASSES * len(tokens) + TUNING_TOKENS * (config.smoothing == "gated")
    return per_token * passes * (1 - PARALLEL_SHARE + PARALLEL_SHARE / torch.get_num_threads())


def to_symbols(parts: Sequence[Integers], vocab_size: int) -> tuple[Integers, Integers]:
    """The ids (A,) that occur, and the parts in one array (N,) of symbols: symbol s stands for ids[s]."""
    frequencies: Integers = np.zeros(vocab_size, np.int64)
    chunks = [
        part[begin : begin + TOKENS_PER_CHUNK] for part in parts for begin in range(0, len(part), TOKENS_PER_CHUNK)
    ]
    for chunk in chunks:
        frequencies += np.bincount(chunk, minlength=vocab_size)
    ids = alphabet_of(frequencies)
    codes: Integers = np.zeros(vocab_size, np.min_scalar_type(len(ids)))
    codes[ids] = np.arange(len(ids))
    symbols: Integers = np.empty(sum(map(len, parts)), codes.dtype)
    begin = 0
    for chunk in chunks:
        symbols[begin : begin + len(chunk)] = codes[chunk]
        begin += len(chunk)
    return ids, symbols


def with_whole_alphabet(symbols: Integers, alphabet: int) -> Integers:
    """The symbols, followed by each symbol of the alphabet that does not occur, so that counting sees all of them."""
    missing = np.ones(alphabet, bool)
    for begin in range(0, len(symbols), TOKENS_PER_CHUNK):
        missing[symbols[begin : begin + TOKENS_PER_CHUNK]] = False
    return np.append(symbols, missing.nonzero()[0].astype(symbols.dtype)) if missing.any() else symbols


def uniform_base(alphabet: int, vocab_size: int) -> Numbers:
    """(A,): P of each symbol before anything is counted. All ids that do not occur share the weight of one symbol."""
    return np.full(alphabet, 1 / (alphabet + (vocab_size > alphabet)))


def count_within_memory(
    config: NGramConfig,
    symbols: Integers,
    alphabet: int,
    order: int,
    bytes_per_ngram: int,
    pool: Workers,
    progress: Listener,
) -> list[Level]:
    """The n-grams of 1 to `order` symbols; of fewer where those would take more than `config.memory`."""
    memory = int(config.memory * 1e9)
    progress("counting", 0.0)
    return count_ngrams(
        symbols,
        alphabet,
        order,
        memory // bytes_per_ngram,
        memory // BYTES_PER_WINDOW,
        pool,
        lambda fraction: progress("counting", fraction),
    )


def estimate_table(
    config: NGramConfig,
    vocab_size: int,
    ids: Integers,
    symbols: Integers,
    estimator: Estimator,
    order: int,
    progress: Listener,
) -> tuple[dict[str, Tensor], list[Discounts | None]]:
    """Count the symbols and estimate the tensors of the table; also returns the discounts of each length."""
    with workers() as pool:
        levels = count_within_memory(config, symbols, len(ids), order, BYTES_PER_NGRAM, pool, progress)
    check_order(config, order, len(levels), len(symbols))
    progress("estimating", 0.0)
    base = uniform_base(len(ids), vocab_size)
    estimates = estimator(levels, base)
    unigram = unigram_probabilities(ids, vocab_size, estimates[0])
    return tensors_of(ids, levels, estimates, unigram), [estimate.discounts for estimate in estimates]


def check_order(config: NGramConfig, order: int, counted: int, symbols: int) -> None:
    """Raises UsageError if the order that the user asks for is not what could be counted."""
    if config.order and counted < min(order, symbols):
        raise UsageError(
            f"{order} has more n-grams here than fit in `memory={config.memory:g}` (gigabytes): "
            f"allow more, or take `order={counted}`",
            "order",
        )


def unigram_probabilities(ids: Integers, vocab_size: int, unigrams: Estimate) -> Numbers:
    """(V,): P of each id without context."""
    base, unseen = uniform_base(len(ids), vocab_size), vocab_size - len(ids)
    unigram = np.full(vocab_size, unigrams.backoff[0] * base[0] / max(1, unseen))
    unigram[ids] = unigrams.mass + unigrams.backoff[0] * base
    return unigram


def tune(
    config: NGramConfig,
    vocab_size: int,
    symbols: Integers,
    alphabet: int,
    split: int,
    pool: Workers,
    progress: Listener,
) -> tuple[Estimator, int, Cache | None, float | None]:
    """Choose the estimator, the order and the cache, if there is one, on the validation slice symbols[split:].

    The last value is the cross-entropy of the slice in nats per token; None if nothing is tuned or the slice is empty.
    """
    smoothing, order = config.smoothing, config.order
    assert smoothing is not None
    window = config.cache_window
    estimator, interpolation = FIXED_SMOOTHERS.get(smoothing), None
    if estimator and order and not window:
        return estimator, order, None, None
    ngram_bytes = TUNING_BYTES_PER_NGRAM if smoothing == "gated" else BYTES_PER_NGRAM
    levels = count_within_memory(
        config, symbols[:split], alphabet, order or MAX_AUTO_ORDER, ngram_bytes, pool, progress
    )
    contexts, ngrams = look_up(levels, alphabet, symbols, split)
    held_out = ValidationSlice(levels, uniform_base(len(levels[0]), vocab_size), contexts, ngrams)
    if estimator is None:
        tune_smoother = TUNED_SMOOTHERS[smoothing]
        estimator, interpolation = tune_smoother(
            held_out, pool, lambda fraction: progress(f"tuning {smoothing}", fraction)
        )
    if not order and len(contexts):  # the gate itself discounts long contexts that do not help
        order = len(levels) if smoothing == "gated" else best_order(held_out, estimator)
    order = order or MAX_AUTO_ORDER
    held_out = held_out.shortened(order)
    interpolation = interpolation or held_out.looked_up(estimator(held_out.levels, held_out.base))
    observed = matches_in_slice(config, symbols, split, pool)
    return estimator, order, *with_cache(config, vocab_size, held_out, interpolation, observed, progress)


def matches_in_slice(
    config: NGramConfig, symbols: Integers, split: int, pool: Workers, ranks: Ranks = BY_ITSELF
) -> Iterable[ObservedMatches]:
    """The cache's matches in the validation slice symbols[split:]; none without a cache."""
    text = np.append(symbols[:1], symbols[split:])
    window = config.cache_window
    return observe_matches(text, window, sampled(1, len(text)), pool, ranks) if window else ()


def with_cache(
    config: NGramConfig,
    vocab_size: int,
    held_out: ValidationSlice,
    interpolation: tuple[Numbers, Numbers],
    observed: Iterable[ObservedMatches],
    progress: Listener,
) -> tuple[Cache | None, float | None]:
    """The cache, if there is one, tuned on the matches observed in the slice; the slice's nats.

    `interpolation`: mass and back-off of the table there, both (P, K).
    """
    cache, nats = None, nats_per_place(held_out.probability(*interpolation))
    if window := config.cache_window:
        cache, nats = tune_cache(
            window, observed, held_out, *interpolation, lambda fraction: progress("tuning the cache", fraction)
        )
    if not len(held_out.contexts):
        return cache, None
    unseen = float((held_out.ngrams[:, 0] < 0).mean())
    nats += unseen * math.log(max(1, vocab_size - len(held_out.base)))
    return cache, nats  # ids that do not occur share the probability of one symbol
