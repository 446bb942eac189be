"""The compiled engine of n-gram models, with and without a cache.

Shapes: B streams, K contexts, V vocabulary, W window of the cache.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from typing_extensions import override

from charlm.config import Settings
from charlm.inference.engine import Engine, LogProbs, Tokens
from charlm.inference.kernels import ngram as kernels
from charlm.inference.kernels.arithmetic import Array, Kernel, load
from charlm.inference.sharing import Sharing
from charlm.models.base import LanguageModel
from charlm.models.ngram import NGram
from charlm.models.ngram.cache import MAX_MATCH, MAX_TRUST, RANK_OF_LENGTH


class NGramState(NamedTuple):
    """The contexts in the table and the state of the cache, see `kernels.ngram`; without a cache W is 0."""

    contexts: Array  # (B, K) int64
    history: Array  # (B, W + 1) int32
    lengths: Array  # (B, W) uint8


class NGramEngine(Engine):
    """Walks the table, then mixes in the cache."""

    backend = "compiled"

    def __init__(self, model: NGram) -> None:
        super().__init__(model)
        self.cache, self.order, self.sharing = model.cache, model.order, Sharing(self.threads)
        self.walk, self.probabilities = load(kernels.walk), load(kernels.probabilities)
        if self.cache:
            self.remember, self.add_matches = load(kernels.remember), load(kernels.add_matches)
            weights = (self.cache.inward, self.cache.left, self.cache.length, self.cache.matched)
            self.weights = tuple(map(np.ascontiguousarray, (*weights, self.cache.outward, self.cache.bias)))
        self.codes, self.ids = model.codes.numpy(), model.ids.numpy()
        self.first, self.symbol = model.first.numpy(), model.symbol.numpy().astype(np.int32)
        self.mass, self.backoff = model.mass.numpy(), model.backoff.numpy()
        self.unigram = model.unigram.float().numpy()

    @override
    def start(self, streams: int) -> NGramState:
        window = int(self.cache.window[0]) if self.cache else 0
        return NGramState(
            np.full((streams, self.order - 1), -1),
            np.full((streams, window + 1), -1, np.int32),
            np.zeros((streams, window), np.uint8),
        )

    @override
    def read(self, tokens: Sequence[int] | Tokens, state: NGramState) -> tuple[LogProbs, NGramState]:
        return self._read(np.array(tokens, np.int64)[:, None], state)

    @override
    def step(self, tokens: Tokens, state: NGramState) -> tuple[LogProbs, NGramState]:
        return self._read(tokens[None], state)

    def _read(self, tokens: Tokens, state: NGramState) -> tuple[LogProbs, NGramState]:
        """Read tokens (N, B), row by row."""
        state = NGramState(*(array.copy() for array in state))
        log_probs = np.empty((tokens.shape[1], self.vocab_size), np.float32)

        def work(begin: int, end: int) -> None:
            contexts, history, lengths = (array[begin:end] for array in state)
            part, p = np.ascontiguousarray(tokens[:, begin:end]), log_probs[begin:end]
            self.walk(part, self.first, self.symbol, self.codes, contexts)
            self.probabilities(contexts, self.first, self.symbol, self.ids, self.mass, self.backoff, self.unigram, p)
            if self.cache:
                self.remember(part, history, lengths, MAX_MATCH)
                self.add_matches(contexts, self.backoff, history, lengths, RANK_OF_LENGTH, self.weights, MAX_TRUST, p)
            with np.errstate(divide="ignore", invalid="ignore"):  # callers check for NaN
                np.log(p, p)

        self.sharing.run(tokens.shape[1], work)
        return log_probs, state

    @override
    def join(self, states: Sequence[NGramState]) -> NGramState:
        return NGramState(*(np.concatenate(arrays) for arrays in zip(*states, strict=True)))

    @override
    def select(self, state: NGramState, streams: Sequence[int] | Tokens) -> NGramState:
        return NGramState(*(array.take(streams, 0) for array in state))


def kernels_of(_kind: type[LanguageModel], _config: Settings) -> list[Kernel]:
    """The kernels that `NGramEngine` loads, the last two for a cache."""
    return [kernels.walk, kernels.probabilities, kernels.remember, kernels.add_matches]
