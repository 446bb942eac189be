"""The n-gram model: a table of probabilities and back-off weights, and a cache that it may have.

Shapes: B streams, T time steps, V vocabulary, K = order - 1 contexts.
"""

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
from charlm.models.ngram.estimation import Estimator
from charlm.models.ngram.fitting import (
    NGramConfig,
    estimate_table,
    fitting_seconds,
    to_symbols,
    tune,
    with_whole_alphabet,
)
from charlm.models.ngram.shard_fitting import SharedFit
from charlm.models.ngram.trie import check, children, keys_of, nothing_counted, walk
from charlm.models.ngram.windows import Integers
from charlm.progress import Listener, silent
from charlm.ranks import Ranks
from charlm.threads import workers

CACHE_PREFIX = "cache_"  # of the names of the cache's tensors


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
        self.config, self.vocab_size = config, vocab_size
        self.cache: Cache | None = None
        self._install(nothing_counted(vocab_size))

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
            early = [with_whole_alphabet(symbols[:split], len(ids))] if before else []
            for text in (*early, symbols):
                tensors, length = shared.table(ids, text, gate, order)
                if ranks.is_main:
                    self._install(tensors)
                    self.fit_results = {"discounts": [None] * length}
                    if before and text is not symbols:
                        before(self)

    @override
    def estimated_seconds(self, tokens: np.ndarray[Any, Any]) -> float:
        """Measured on the beginning of the text; right within a factor of two."""
        return fitting_seconds(self.config, self.vocab_size, tokens)

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
        own, of_cache = _divided(tensors)
        if of_cache:
            model._install_cache(Cache.from_tensors(of_cache))
        check(own, vocab_size)
        model._install(own)
        return model

    def _install(self, tensors: dict[str, Tensor]) -> None:
        """Take over the tensors of a fitted model, and derive the tables for looking up nodes."""
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        alphabet = len(self.ids)
        codes = torch.full((self.vocab_size,), alphabet)
        codes[self.ids] = torch.arange(alphabet)
        self.register_buffer("codes", codes, persistent=False)
        keys = keys_of(self.first.numpy(), self.symbol.numpy(), alphabet)
        self.register_buffer("keys", torch.from_numpy(keys), persistent=False)

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
        """Without the distributions."""
        contexts, ngrams = self._nodes(tokens, targets, state[0])
        probability = _probability(self, targets, contexts, ngrams)
        if not self.cache:
            return probability.log(), (contexts[:, -1],)
        probability, history = self.cache.mix_targets(
            probability, targets, TableFeatures.of(contexts, self.backoff), tokens, state[1]
        )
        return probability.log(), (contexts[:, -1], history)

    def _nodes(self, tokens: Tensor, targets: Tensor, contexts: Tensor) -> tuple[Tensor, Tensor]:
        """The contexts after each token, and these extended by its target, both (B, T, K)."""
        K = self.order - 1
        if torch.equal(tokens[:, 1:], targets[:, :-1]):  # one walk finds both
            nodes = self._walk(torch.cat((tokens, targets[:, -1:]), 1), contexts, self.order)
            return nodes[:, :-1, :K], nodes[:, 1:, 1:]
        contexts = self._walk(tokens, contexts, K)
        return contexts, children(self.keys, len(self.ids), contexts, self.codes[targets].unsqueeze(-1))

    def matched(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T) -> (B, T): the length of the longest counted n-gram that ends with each token; 0 if there is none."""
        nodes = self._walk(tokens, state[0], self.order)
        return (nodes >= 0).sum(2), (nodes[:, -1, : self.order - 1],)

    def _walk(self, tokens: Tensor, contexts: Tensor, longest: int) -> Tensor:
        return walk(self.keys, len(self.ids), self.codes[tokens], contexts, longest)


def _divided(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of the table, and those of the cache by the names that it gives them."""
    of_table = {name: tensor for name, tensor in tensors.items() if not name.startswith(CACHE_PREFIX)}
    of_cache = {name.removeprefix(CACHE_PREFIX): tensors[name] for name in tensors if name not in of_table}
    return of_table, of_cache


def _probability(model: NGram, targets: Tensor, contexts: Tensor, ngrams: Tensor) -> Tensor:
    """(B, T): P of the targets after the nodes of contexts (B, T, K), which they extend to the nodes `ngrams`."""
    probability = model.unigram[targets]
    for context, ngram in zip(contexts.unbind(2), ngrams.unbind(2), strict=True):
        weight = torch.where(context >= 0, model.backoff.take(context.clamp(min=0)), 1.0)
        mass = torch.where(ngram >= 0, model.mass.take((ngram - 1).clamp(min=0)), 0.0)
        probability = mass + weight * probability
    return probability


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
