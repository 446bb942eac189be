"""What the coder asks for: how much of the range each next id gets, the same on both sides.

Shapes: B streams, V vocabulary.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from charlm.inference import Engine, Tokens

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

    @property
    def adapt(self) -> str:
        """What learns while it reads: "none", "counts" or "all"."""

    @property
    def in_parallel(self) -> bool:
        """Whether many streams together are much faster than one after the other."""

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
        self.adapt, self.in_parallel = engine.model.adaptation, engine.model.in_parallel
        self.start = engine.start

    def step(self, tokens: Tokens, state: Any) -> tuple[Weights, Any]:
        """The exponentials of the engine's log-probabilities."""
        log_probs, state = self._engine.step(tokens, state)
        return np.exp(log_probs, dtype=np.float64), state
