"""The n-gram in integers: the same weights, and so the same compressed file, on every machine.

What was counted is taken as fixed-point numbers, once; then there are only additions, multiplications and shifts of
integers. Nothing is computed in floating point but by the coder, which is given integers below 2^53 and adds and
scales them in float64, exactly as IEEE 754 says. The cache, which weighs what it finds by a network, is left out.

Shapes: B streams, K contexts, V vocabulary.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from charlm.compression.predictors import Weights
from charlm.errors import UsageError
from charlm.inference import Tokens
from charlm.models import LanguageModel
from charlm.models.ngram import NGram

BACKEND = "integer"
BITS = 30  # of a probability: those of two are multiplied in 64
FIXED_ONE = 1 << BITS

Integers = npt.NDArray[np.int64]


class IntegerNGram:
    """P(w | h) = mass(h w) + backoff(h) P(w | h'), in units of 2^-30, rounded down; every id has one unit at least."""

    total, backend, threads, adapt, in_parallel = float(FIXED_ONE), BACKEND, 1, "none", True

    def __init__(self, model: LanguageModel) -> None:
        """Raises UsageError for what is no n-gram."""
        if not isinstance(model, NGram):
            raise UsageError(f"{BACKEND} is for n-grams: {type(model).__name__} is none; leave it out", "backend")
        self._model = model.frozen()
        self._mass, self._backoff, self._unigram = map(_fixed, (model.mass, model.backoff, model.unigram))
        self._first = model.first.cpu().numpy()
        self._tokens = model.ids.cpu().numpy()[model.symbol.cpu().numpy()]

    def start(self, streams: int) -> tuple[Tensor, ...]:
        """The nodes of no contexts, (B, K)."""
        return self._model.initial_state(streams)

    def step(self, tokens: Tokens, state: Any) -> tuple[Weights, Any]:
        """Walk to the contexts that end with each token, by looking up integers, and add up what they give."""
        column = torch.from_numpy(tokens).unsqueeze(1)
        with torch.inference_mode():
            _, state = self._model.score(column, column, state)
        weights = np.stack([self._weights(contexts) for contexts in state[0].tolist()])
        return np.maximum(weights, 1).astype(np.float64), state

    def _weights(self, contexts: list[int]) -> Integers:
        """(V,), from the nodes of one stream's contexts, the shortest first; -1 where one was never seen."""
        weights = self._unigram
        for node in contexts:
            if node >= 0:
                begin, end = self._first[node] - 1, self._first[node + 1] - 1
                weights = weights * self._backoff[node] >> BITS
                weights[self._tokens[begin:end]] += self._mass[begin:end]
        return weights


def _fixed(numbers: Tensor) -> Integers:
    """Probabilities in units of 2^-30, rounded to the nearest: exact in float64, so the same everywhere."""
    fixed: Integers = np.rint(numbers.cpu().numpy().astype(np.float64) * FIXED_ONE).astype(np.int64)
    return fixed
