"""What the coder asks for: how much of the range each next id gets, the same on both sides.

Shapes: B streams, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from charlm.inference import Engine, Tokens, open_engine
from charlm.models.base import LanguageModel

Weights = npt.NDArray[np.float64]


class Predictor(Protocol):
    """Gives every id a weight; its probability is the weight's share of `total`."""

    total: float

    @property
    def backend(self) -> str:
        """What computes, as the compressed file records it."""

    @property
    def threads(self) -> int:
        """With how many threads."""

    def start(self, streams: int) -> Any:
        """The state of B streams that have read nothing."""

    def step(self, tokens: Tokens, state: Any) -> tuple[Weights, Any]:
        """Read one token of each stream, (B,): the weights of what comes next, (B, V), and the state after them."""


class EnginePredictor:
    """The probabilities of a model, as its engine computes them, in float64."""

    total = 1.0

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.backend, self.threads = engine.backend, engine.threads
        self.start = engine.start

    def step(self, tokens: Tokens, state: Any) -> tuple[Weights, Any]:
        """The exponentials of the engine's log-probabilities."""
        log_probs, state = self._engine.step(tokens, state)
        return np.exp(log_probs, dtype=np.float64), state


@contextmanager
def opened(model: LanguageModel, backend: str = "auto", threads: int = 1) -> Iterator[EnginePredictor]:
    """The predictor of a model while torch computes with so many threads.

    Raises UsageError for a backend that this model or machine cannot have.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield EnginePredictor(open_engine(model, backend))
    finally:
        torch.set_num_threads(before)
