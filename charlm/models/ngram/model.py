"""The n-gram model: a table of probabilities and back-off weights, and a cache that it may have.

Shapes: B streams, T time steps, V vocabulary, K = order - 1 contexts.
"""

import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from charlm.config import BOUNDARY, Settings
from charlm.memory import return_freed_memory
from charlm.models.base import CountingModel, State
from charlm.models.ngram.cache import Cache, TableFeatures
from charlm.models.ngram.counting import count_ngrams
from charlm.models.ngram.estimation import Estimator
from charlm.models.ngram.fitting import (
    MAX_AUTO_ORDER,
    NGramConfig,
    estimate_table,
    to_symbols,
    tune,
    with_whole_alphabet,
)
from charlm.models.ngram.shard_fitting import SharedFit
from charlm.models.ngram.trie import check, children, keys_of, walk
from charlm.models.ngram.windows import Integers
from charlm.progress import Listener, silent
from charlm.ranks import Ranks
from charlm.threads import workers

CACHE_PREFIX = "cache_"  # of the names of the cache's tensors

PROBE_TOKENS = 100_000  # the beginning of the text, which is counted to estimate the time of a whole `fit`
COUNTING_PASSES, TUNING_TOKENS = 4.7, 2_000_000
"""The cost of `fit`, as a number of tokens counted: per token of the text, and for tuning gate and cache. Two idle
cores took 5.8 and 11.4 s for plays of 300 KB and 1 MB; each of the first 100,000 tokens took 1.7 us to count."""
PARALLEL_SHARE = 0.7  # of the processor time of `fit` on 30 million characters: what its threads share


class NGram(CountingModel):
    """Predicts from the last order - 1 tokens, by the counts of what followed them in the training text.

    The n-grams form a trie, see `trie`. The state holds, for k = 1 .. K, the node of the last k tokens, -1 if they were
    not counted; and with a cache, the last tokens themselves. The tensors of the table do not depend on the cache.
    """

    Config = NGramConfig
    config: NGramConfig
    parameters_are = "n-grams"
    shares_counting = True
    chunk: ClassVar[int] = 1 << 17

    ids: Tensor  # (A,) int64: the token that each symbol stands for
    levels: Tensor  # (order + 1,) int64: the first node of each length, then the end
    first: Tensor  # (C + 1,) int32: first child of each node that can be a context, then the end
    symbol: Tensor  # (M,) uint8 or int32
    mass: Tensor  # (M,) float32
    backoff: Tensor  # (C,) float32
    unigram: Tensor  # (V,) float32: P of each id without context, including ids that do not occur
    codes: Tensor  # (V,) int64: the symbol of each id, A for ids that do not occur
    keys: Tensor  # (M + 1,) int64: see `keys_of`

    def __init__(self, config: NGramConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.cache: Cache | None = None
        empty = torch.zeros(0)
        self._install(
            {
                "ids": empty.long(),
                "levels": torch.ones(1, dtype=torch.int64),
                "first": torch.ones(2, dtype=torch.int32),
                "symbol": empty.byte(),
                "mass": empty,
                "backoff": torch.ones(1),
                "unigram": torch.full((vocab_size,), 1 / vocab_size),
            }
        )

    @property
    def order(self) -> int:
        """The length of the longest n-grams; 1 before `fit`."""
        return max(1, len(self.levels) - 1)

    @property
    @override
    def chosen(self) -> Mapping[str, Any]:
        return {"order": self.order, "cache": int(self.cache.window[0]) if self.cache else 0}

    @property
    @override
    def parameters_count(self) -> int:
        return len(self.symbol)

    @property
    @override
    def adapts(self) -> bool:
        return self.cache is not None

    @override
    def frozen(self) -> "NGram":
        if not self.adapts:
            return self
        model = copy(self)
        model._buffers = {name: table for name, table in self._buffers.items() if not name.startswith(CACHE_PREFIX)}
        model.cache, model.config = None, replace(self.config, cache=0)
        return model

    @override
    def fit(
        self,
        tokens: np.ndarray[Any, Any],
        validation: np.ndarray[Any, Any],
        progress: Listener = silent,
        before: Callable[[CountingModel], None] | None = None,
    ) -> None:
        """The text counted is the boundary, `tokens`, then `validation`.

        With kenlm smoothing another boundary follows, which is the </s> that KenLM predicts at the end.
        """
        boundary = np.array([BOUNDARY], tokens.dtype)
        parts = [boundary, tokens, validation, boundary[: self.config.smoothing == "kenlm"]]
        progress("counting", 0.0)
        ids, symbols = to_symbols(parts, self.vocab_size)
        with workers() as pool:
            tuned = tune(self.config, self.vocab_size, symbols, len(ids), 1 + len(tokens), pool, progress)
        estimator, order, cache, self.validation_nats = tuned
        return_freed_memory()
        self._install_cache(cache)
        if before is not None:
            self._estimate(ids, with_whole_alphabet(symbols[: 1 + len(tokens)], len(ids)), estimator, order, progress)
            before(self)
        self._estimate(ids, symbols, estimator, order, progress)

    @override
    def fit_together(
        self,
        ranks: Ranks,
        tokens: np.ndarray[Any, Any],
        validation: np.ndarray[Any, Any],
        progress: Listener = silent,
        before: Callable[[CountingModel], None] | None = None,
    ) -> None:
        """Gated n-grams are shared among the processes; those of another smoothing rank 0 counts alone."""
        length, split = 1 + len(tokens) + len(validation), 1 + len(tokens)
        if ranks.size == 1 or not SharedFit.suits(self.config, length):
            super().fit_together(ranks, tokens, validation, progress, before)
            return
        ids, symbols = to_symbols([np.array([BOUNDARY], tokens.dtype), tokens, validation], self.vocab_size)
        with workers() as pool:
            shared = SharedFit(self.config, self.vocab_size, len(ids), ranks, pool, progress)
            gate, order, cache, self.validation_nats = shared.tune(symbols, split)
            self._install_cache(cache)
            texts = [with_whole_alphabet(symbols[:split], len(ids))] if before else []
            for text in (*texts, symbols):
                return_freed_memory()
                tensors, length = shared.table(ids, text, gate, order)
                if not ranks.is_main:
                    continue
                self.fit_results = {"discounts": [None] * length}
                self._install(tensors)
                if before and text is not symbols:
                    before(self)

    @override
    def estimated_seconds(self, tokens: np.ndarray[Any, Any]) -> float:
        """Measured on the beginning of the text; right within a factor of two."""
        piece = tokens[:PROBE_TOKENS]
        ids, symbols = to_symbols([piece], self.vocab_size)
        begun = time.perf_counter()
        count_ngrams(symbols, len(ids), self.config.order or MAX_AUTO_ORDER)
        per_token = (time.perf_counter() - begun) / max(1, len(piece))
        passes = COUNTING_PASSES * len(tokens) + TUNING_TOKENS * (self.config.smoothing == "gated")
        return per_token * passes * (1 - PARALLEL_SHARE + PARALLEL_SHARE / torch.get_num_threads())

    def _estimate(self, ids: Integers, symbols: Integers, estimator: Estimator, order: int, progress: Listener) -> None:
        """Count these symbols, of which s stands for ids[s], and take over the table estimated from them."""
        tensors, discounts = estimate_table(self.config, self.vocab_size, ids, symbols, estimator, order, progress)
        self.fit_results = {"discounts": discounts}
        self._install(tensors)
        progress("estimating", 1.0)

    @classmethod
    @override
    def from_tensors(cls, config: Settings, vocab_size: int, tensors: Mapping[str, Tensor]) -> "NGram":
        assert isinstance(config, NGramConfig)
        model = cls(config, vocab_size)
        expected = {name: tensor.dtype for name, tensor in model.state_dict().items()}
        of_cache = {name: tensor for name, tensor in tensors.items() if name.startswith(CACHE_PREFIX)}
        tensors = {name: tensor for name, tensor in tensors.items() if name not in of_cache}
        if of_cache:
            of_cache = {name.removeprefix(CACHE_PREFIX): tensor for name, tensor in of_cache.items()}
            model._install_cache(Cache.from_tensors(of_cache))
        types = {name: tensor.dtype for name, tensor in tensors.items()}
        if types not in (expected, expected | {"symbol": torch.int32}):
            raise ValueError("the weights are not those of an n-gram model")
        check(tensors, vocab_size)
        model._install(dict(tensors))
        return model

    def _install(self, tensors: dict[str, Tensor]) -> None:
        """Take over the tensors of a fitted model, and derive the tables for looking up nodes."""
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        alphabet = len(self.ids)
        codes = torch.full((self.vocab_size,), alphabet)
        codes[self.ids] = torch.arange(alphabet)
        keys = torch.from_numpy(keys_of(self.first.numpy(), self.symbol.numpy(), alphabet))
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("keys", keys, persistent=False)

    def _install_cache(self, cache: Cache | None) -> None:
        """Take over a cache; its weights are saved with the table."""
        self.cache = cache
        for name, tensor in cache.tensors().items() if cache else ():
            self.register_buffer(CACHE_PREFIX + name, tensor)

    @override
    def seen_ids(self) -> Tensor:
        """The ids that were counted; all of them before `fit`."""
        return (self.codes < len(self.ids)) | (len(self.ids) == 0)

    @override
    def initial_state(self, streams: int) -> State:
        contexts = torch.full((streams, self.order - 1), -1, device=self.keys.device)
        return (contexts, self.cache.initial_state(streams, self.vocab_size)) if self.cache else (contexts,)

    @override
    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        contexts = self._walk(tokens, state[0], self.order - 1)  # (B, T, K)
        probs = _distributions(self, contexts.flatten(0, 1)).view(*tokens.shape, -1)
        if not self.cache:
            return probs.log(), (contexts[:, -1],)
        probs, history = self.cache.mix(probs, TableFeatures.of(contexts, self.backoff), tokens, state[1])
        return probs.log(), (contexts[:, -1], history)

    @override
    def score(self, tokens: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        """Without the distributions. If the targets are the next tokens, one walk finds contexts and n-grams."""
        K = self.order - 1
        if torch.equal(tokens[:, 1:], targets[:, :-1]):
            nodes = self._walk(torch.cat((tokens, targets[:, -1:]), 1), state[0], self.order)
            contexts, ngrams = nodes[:, :-1, :K], nodes[:, 1:, 1:]  # both (B, T, K)
        else:
            contexts = self._walk(tokens, state[0], K)
            ngrams = children(self.keys, len(self.ids), contexts, self.codes[targets].unsqueeze(-1))
        probability = self.unigram[targets]
        for context, ngram in zip(contexts.unbind(2), ngrams.unbind(2), strict=True):
            weight = torch.where(context >= 0, self.backoff.take(context.clamp(min=0)), 1.0)
            mass = torch.where(ngram >= 0, self.mass.take((ngram - 1).clamp(min=0)), 0.0)
            probability = mass + weight * probability
        if not self.cache:
            return probability.log(), (contexts[:, -1],)
        probability, history = self.cache.mix_targets(
            probability, targets, TableFeatures.of(contexts, self.backoff), tokens, state[1]
        )
        return probability.log(), (contexts[:, -1], history)

    def matched(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T) -> (B, T): the length of the longest counted n-gram that ends with each token; 0 if there is none."""
        nodes = self._walk(tokens, state[0], self.order)
        return (nodes >= 0).sum(2), (nodes[:, -1, : self.order - 1],)

    def _walk(self, tokens: Tensor, contexts: Tensor, longest: int) -> Tensor:
        return walk(self.keys, len(self.ids), self.codes[tokens], contexts, longest)


def _distributions(model: NGram, contexts: Tensor) -> Tensor:
    """(N, K) nodes -> (N, V): P of every token after them."""
    counted = contexts >= 0
    backoff = torch.where(counted, model.backoff[contexts], 1.0)
    left = torch.nn.functional.pad(backoff, (0, 1), value=1.0).flip(1).cumprod(1).flip(1)  # (N, K + 1)
    result = model.unigram * left[:, :1]  # left[:, k]: the product of the back-off weights of longer contexts
    rows, lengths = counted.nonzero(as_tuple=True)
    nodes = contexts[rows, lengths]
    begin = model.first.index_select(0, nodes).long()
    sizes = model.first.index_select(0, nodes + 1) - begin
    ends = sizes.cumsum(0)
    entry = torch.arange(int(sizes.sum()), device=ends.device)
    owner = torch.searchsorted(ends, entry, right=True)  # repeat_interleave would wake every core for a few entries
    children = entry + (begin - ends + sizes - 1).index_select(0, owner)
    mass = model.mass.index_select(0, children) * left[rows, lengths + 1].index_select(0, owner)
    tokens = model.ids.index_select(0, model.symbol.index_select(0, children).int())
    result.view(-1).index_add_(0, (rows * model.vocab_size).index_select(0, owner) + tokens, mass)
    return result
