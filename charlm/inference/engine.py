"""The interface of engines, which read a model token by token for decoding, compressing and serving.

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
"""The state of B streams: a value, never mutated after it was returned. Only its own engine can use it."""


class Engine(ABC):
    """A model with its weights laid out for reading; `open_engine` makes one.

    With the same `backend` and `threads`, the same calls give the same bits, whatever the process computed before.
    Compiled engines also give the same bits of a stream whatever other streams are in the batch; torch does not,
    because its products depend on the number of rows. Streams of one state may have read texts of different lengths.
    """

    backend: str
    """"eager" (`model.forward`, any device) or "compiled" (numba)."""

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.threads = model, torch.get_num_threads()

    @property
    def vocab_size(self) -> int:
        """The number of ids, V."""
        return self.model.vocab_size

    @abstractmethod
    def start(self, streams: int) -> EngineState:
        """The state of B streams before any token. Texts begin with `charlm.config.BOUNDARY`."""

    @abstractmethod
    def read(self, tokens: Sequence[int] | Tokens, state: EngineState) -> tuple[LogProbs, EngineState]:
        """Read one or more tokens of a single stream: ln P of the next id, (1, V), and the state after them."""

    @abstractmethod
    def step(self, tokens: Tokens, state: EngineState) -> tuple[LogProbs, EngineState]:
        """Read one token of each stream, (B,) int64: ln P of the next ids, (B, V), and the state after them."""

    @abstractmethod
    def join(self, states: Sequence[EngineState]) -> EngineState:
        """Concatenate the streams of several states, in order."""

    @abstractmethod
    def select(self, state: EngineState, streams: Sequence[int] | Tokens) -> EngineState:
        """The state of the given streams, in that order; they may be dropped, repeated and re-ordered."""


@contextmanager
def reading(model: LanguageModel) -> Iterator[None]:
    """Disable gradients and dropout for a while."""
    with torch.inference_mode():
        if model.training:
            with evaluating(model):
                yield
        else:
            yield
