"""Reading one token after another with a model that no longer changes: the base of decoding, compressing and serving.

Shapes: B streams, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from charlm.models.base import LanguageModel, evaluating

Tokens = npt.NDArray[np.int64]
LogProbs = npt.NDArray[np.float32]
EngineState = Any
"""What an engine remembers of B streams: a value, never changed once it was returned, readable by its engine only."""


class Engine(ABC):
    """A model with its weights laid out for reading; `open_engine` makes one.

    The same calls give the same bits, whatever else the process computed before, as long as `backend` and `threads`
    are the same. Compiled code says the same bits of a stream whatever streams are beside it; what torch multiplies
    depends on the number of rows. Streams of one state may have read texts of different lengths.
    """

    backend: str
    """"eager" (`model.forward`, any device) or "compiled" (numba)."""

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.threads = model, torch.get_num_threads()

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.model.vocab_size

    @abstractmethod
    def start(self, streams: int) -> EngineState:
        """The state of B streams before anything has been read. Texts begin with `charlm.config.BOUNDARY`."""

    @abstractmethod
    def read(self, tokens: Sequence[int] | Tokens, state: EngineState) -> tuple[LogProbs, EngineState]:
        """Read one or more tokens of a single stream: (1, V), ln P of what comes next, and the state after them."""

    @abstractmethod
    def step(self, tokens: Tokens, state: EngineState) -> tuple[LogProbs, EngineState]:
        """Read one token of each stream, (B,) int64: (B, V), ln P of what comes next, and the state after them."""

    @abstractmethod
    def join(self, states: Sequence[EngineState]) -> EngineState:
        """One state of all the streams of several, in order."""

    @abstractmethod
    def select(self, state: EngineState, streams: Sequence[int] | Tokens) -> EngineState:
        """The state of the given streams, in that order; may drop, repeat and re-order them."""


@contextmanager
def reading(model: LanguageModel) -> Iterator[None]:
    """No gradients and no dropout; the model is left as it was."""
    with torch.inference_mode():
        if model.training:
            with evaluating(model):
                yield
        else:
            yield
