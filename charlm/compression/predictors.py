"""What the coder asks for: how much of the range each next id gets, the same on both sides.

Shapes: B streams, V vocabulary.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from charlm.inference import Engine, Tokens
from charlm.models import Mixture

LIBRARIES, COMPILERS = ("torch", "numpy"), ("numba", "llvmlite")
"""Those of every engine, and those of compiled engines and of models whose `forward` is compiled."""

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
        """Whether it learns while it reads ("counts") or not ("none")."""

    @property
    def max_streams(self) -> int | None:
        """How many streams it steps together; None: any number."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """The packages whose versions decide the last bits of its probabilities."""

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
        self.adapt = "counts" if engine.model.adapts else "none"
        models = tuple(engine.model.each()) if isinstance(engine.model, Mixture) else (engine.model,)
        self.max_streams = min((limit for model in models if (limit := model.max_streams)), default=None)
        compiled = engine.backend == "compiled" or any(model.by_numba for model in models)
        self.libraries = (*LIBRARIES, *COMPILERS) if compiled else LIBRARIES
        self.start = engine.start

    def step(self, tokens: Tokens, state: Any) -> tuple[Weights, Any]:
        """The exponentials of the engine's log-probabilities."""
        log_probs, state = self._engine.step(tokens, state)
        return np.exp(log_probs, dtype=np.float64), state
