"""From a text to what an n-gram model is made of: its symbols, its n-grams, how to estimate, and the cache.

Shapes: K = order - 1 contexts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from charlm.config import Settings, setting
from charlm.models.ngram.cache import LARGEST_WINDOW, RECENT, Cache, observe
from charlm.models.ngram.counting import Level, count_ngrams
from charlm.models.ngram.estimation import (
    FIXED,
    LEARNED,
    SMOOTHERS,
    Estimator,
    Slice,
    best_order,
    nats_per_place,
    tune_cache,
)
from charlm.models.ngram.matching import matches, sampled
from charlm.models.ngram.smoothing import Numbers
from charlm.models.ngram.windows import Integers, alphabet_of
from charlm.progress import Listener
from charlm.threads import Workers

LONGEST = 12  # order tried if none is asked for
CHUNK = 1 << 20  # tokens looked at in one go
WINDOW = 16  # bytes of the memory allowed for each window of the text that is sorted at a time
COUNTED = 64  # bytes that an n-gram takes while the model is built
LEARNED_FROM = 256  # and while it is learned what n-grams of which length are worth


@dataclass(frozen=True)
class NGramConfig(Settings):
    """What an n-gram can be told."""

    order: int | None = setting(
        None,
        "n-gram length, context and prediction",
        min=1,
        max=16,
        unset=f"chosen on the validation slice, up to {LONGEST}",
    )
    smoothing: str | None = setting(  # None: nothing was counted here, the table was imported
        "gated", "how counts become probabilities", choices=SMOOTHERS
    )
    cache: int | None = setting(
        None,
        "last tokens of the text being read in which earlier cases of the context are looked for; 0: none",
        min=0,
        max=LARGEST_WINDOW,
        unset=f"{RECENT} with gated smoothing, else 0",
    )
    memory: float = setting(
        2.0,
        "gigabytes that counting may take besides the text; where no order is given, sets how long n-grams get",
        min=0.1,
    )


def symbols_of(parts: Sequence[Integers], vocab_size: int) -> tuple[Integers, Integers]:
    """The tokens that occur, and all parts in one with the place of each among them, its symbol."""
    frequencies: Integers = np.zeros(vocab_size, np.int64)
    chunks = [part[begin : begin + CHUNK] for part in parts for begin in range(0, len(part), CHUNK)]
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


def complete(symbols: Integers, alphabet: int) -> Integers:
    """The symbols, and behind them each that they lack: an n-gram knows its alphabet from its text."""
    lacking = np.ones(alphabet, bool)
    for begin in range(0, len(symbols), CHUNK):
        lacking[symbols[begin : begin + CHUNK]] = False
    return np.append(symbols, lacking.nonzero()[0].astype(symbols.dtype)) if lacking.any() else symbols


def base_of(alphabet: int, vocab_size: int) -> Numbers:
    """P of each symbol seen before anything is counted: all tokens never seen are together one symbol more."""
    return np.full(alphabet, 1 / (alphabet + (vocab_size > alphabet)))


def counted(
    config: NGramConfig, symbols: Integers, alphabet: int, order: int, size: int, pool: Workers, tell: Listener
) -> list[Level]:
    """The n-grams up to an order, or shorter ones where those, of so many bytes each, are too many."""
    allowed = int(config.memory * 1e9)
    tell("counting", 0.0)
    return count_ngrams(
        symbols, alphabet, order, allowed // size, allowed // WINDOW, pool, lambda fraction: tell("counting", fraction)
    )


def tuned(
    config: NGramConfig, vocab_size: int, symbols: Integers, alphabet: int, split: int, pool: Workers, tell: Listener
) -> tuple[Estimator, int, Cache | None, float | None]:
    """What the validation slice, symbols[split:], teaches: how to estimate, up to which order, the cache if any.

    And the nats per token that the slice costs with that; None where there was nothing to learn, or no slice.
    """
    smoothing, order = config.smoothing, config.order
    assert smoothing is not None
    window = config.cache if config.cache is not None else RECENT * (smoothing == "gated")
    estimator, steps = FIXED.get(smoothing), None
    if estimator and order and not window:
        return estimator, order, None, None
    size = LEARNED_FROM if smoothing == "gated" else COUNTED
    levels = counted(config, symbols[:split], alphabet, order or LONGEST, size, pool, tell)
    contexts, ngrams = matches(levels, alphabet, symbols, split)
    held = Slice(levels, base_of(len(levels[0]), vocab_size), contexts, ngrams)
    if estimator is None:
        estimator, steps = LEARNED[smoothing](held, pool, lambda fraction: tell(f"tuning {smoothing}", fraction))
    if not order and len(contexts):  # the gate itself decides what long contexts count
        order = len(levels) if smoothing == "gated" else best_order(held, estimator)
    order = order or LONGEST
    held = held.shortened(order)
    mass, backoff = steps or held.looked_up(estimator(held.levels, held.base))
    cache, nats = None, nats_per_place(held.probability(mass, backoff))
    if window:
        text = np.append(symbols[:1], symbols[split:])
        observed = observe(text, window, sampled(1, len(text)), pool)
        cache, nats = tune_cache(
            window, observed, held, mass, backoff, lambda fraction: tell("tuning the cache", fraction)
        )
    if not len(contexts):
        return estimator, order, cache, None
    unseen = float((ngrams[:, 0] < 0).mean()) * math.log(max(1, vocab_size - len(levels[0])))  # they share one symbol's
    return estimator, order, cache, nats + unseen
