"""Fitting an n-gram model by several processes, as `fitting` does by one: its n-grams are shared, see `shards`."""

from typing import NamedTuple

from torch import Tensor

from charlm.memory import return_freed_memory
from charlm.models.ngram.cache import Cache
from charlm.models.ngram.estimation import ValidationSlice
from charlm.models.ngram.fitting import (
    BYTES_PER_NGRAM,
    BYTES_PER_SHARED_NGRAM,
    BYTES_PER_WINDOW,
    MAX_AUTO_ORDER,
    TUNING_BYTES_PER_NGRAM,
    NGramConfig,
    check_order,
    matches_in_slice,
    uniform_base,
    unigram_probabilities,
    with_cache,
)
from charlm.models.ngram.gate import Gate
from charlm.models.ngram.matching import look_up
from charlm.models.ngram.shard_gate import parts_on_main, shared_estimates, train_shared_gate
from charlm.models.ngram.shards import WHOLE_LENGTHS, Shard, count_shard
from charlm.models.ngram.trie import assembled
from charlm.models.ngram.windows import Integers
from charlm.progress import Listener
from charlm.ranks import Ranks
from charlm.threads import Workers


class SharedFit(NamedTuple):
    """What the ranks have in common while they fit a model of `alphabet` symbols."""

    config: NGramConfig
    vocab_size: int
    alphabet: int
    ranks: Ranks
    pool: Workers
    progress: Listener

    @staticmethod
    def suits(config: NGramConfig, length: int) -> bool:
        """Whether a text of this length gives anything to share: long n-grams, estimated without seeing all others."""
        return config.smoothing == "gated" and min(config.order or MAX_AUTO_ORDER, length) > WHOLE_LENGTHS

    def tune(self, symbols: Integers, split: int) -> tuple[Gate, int, Cache | None, float | None]:
        """The gate and the order and, on rank 0, the cache and the nats of the slice symbols[split:]; see `tune`."""
        shard = self._count(symbols[:split], self.config.order or MAX_AUTO_ORDER, TUNING_BYTES_PER_NGRAM)
        contexts, ngrams = look_up(shard.levels, self.alphabet, symbols, split)
        base = uniform_base(len(shard.levels[0]), self.vocab_size)
        observed = matches_in_slice(self.config, symbols, split, self.pool, self.ranks)
        gate, contexts, *interpolation = train_shared_gate(
            shard, contexts, ngrams, base, self.ranks, self.pool, lambda done: self.progress("tuning gated", done)
        )
        order = self.config.order or (len(shard.levels) if len(contexts) else MAX_AUTO_ORDER)
        if not self.ranks.is_main:
            return gate, order, None, None
        held_out = ValidationSlice(shard.levels, base, contexts, ngrams).shortened(order)
        mass, backoff = interpolation
        return (
            gate,
            order,
            *with_cache(self.config, self.vocab_size, held_out, (mass, backoff), observed, self.progress),
        )

    def table(self, ids: Integers, symbols: Integers, gate: Gate, order: int) -> tuple[dict[str, Tensor], int]:
        """On rank 0, the tensors of the table that is estimated from the symbols; the order on every rank."""
        return_freed_memory()
        shard = self._count(symbols, order, BYTES_PER_NGRAM)
        check_order(self.config, order, len(shard.levels), len(symbols))
        self.progress("estimating", 0.0)
        estimates = shared_estimates(shard, gate, self.ranks, self.pool)
        parts, tensors = parts_on_main(shard, estimates, self.ranks), {}
        if self.ranks.is_main:
            unigram = unigram_probabilities(ids, self.vocab_size, estimates[0])
            tensors = assembled(ids, shard.sizes, parts, unigram)
        for _ in parts:
            pass  # what the others send
        self.progress("estimating", 1.0)
        return tensors, len(shard.levels)

    def _count(self, symbols: Integers, order: int, bytes_per_ngram: int) -> Shard:
        memory = int(self.config.memory * 1e9)
        self.progress("counting", 0.0)
        shard = count_shard(
            symbols,
            self.alphabet,
            order,
            self.ranks,
            self.pool,
            lambda fraction: self.progress("counting", fraction),
            memory // bytes_per_ngram,
            memory // BYTES_PER_SHARED_NGRAM,
            memory // BYTES_PER_WINDOW,
        )
        return_freed_memory()
        return shard
