"""The engine of mixtures: an engine for each member, and the combination of their log-probabilities.

Shapes: B streams, K members, V vocabulary.
"""

from collections.abc import Callable, Sequence

import numpy as np
from typing_extensions import override

from charlm.inference.engine import Engine, EngineState, LogProbs, Tokens
from charlm.models.mixture import Mixture


class MixtureEngine(Engine):
    """The state is a list of the members' states."""

    def __init__(self, model: Mixture, open_member: Callable[..., Engine]) -> None:
        """`open_member` opens the engine of a member."""
        super().__init__(model)
        self.members = [open_member(member) for member in model.each()]
        compiled = any(member.backend == "compiled" for member in self.members)
        self.backend = "compiled" if compiled else "eager"
        self.combine = model.combination.on_arrays()

    @override
    def start(self, streams: int) -> list[EngineState]:
        return [member.start(streams) for member in self.members]

    @override
    def read(self, tokens: Sequence[int] | Tokens, state: list[EngineState]) -> tuple[LogProbs, list[EngineState]]:
        return self._combined([member.read(tokens, part) for member, part in zip(self.members, state, strict=True)])

    @override
    def step(self, tokens: Tokens, state: list[EngineState]) -> tuple[LogProbs, list[EngineState]]:
        return self._combined([member.step(tokens, part) for member, part in zip(self.members, state, strict=True)])

    def _combined(self, results: list[tuple[LogProbs, EngineState]]) -> tuple[LogProbs, list[EngineState]]:
        stacked = np.stack([log_probs for log_probs, _ in results], 1)  # (B, K, V)
        with np.errstate(over="ignore", invalid="ignore"):  # callers check for NaN
            return self.combine(stacked), [state for _, state in results]

    @override
    def join(self, states: Sequence[list[EngineState]]) -> list[EngineState]:
        parts = zip(*states, strict=True)
        return [member.join(part) for member, part in zip(self.members, parts, strict=True)]

    @override
    def select(self, state: list[EngineState], streams: Sequence[int] | Tokens) -> list[EngineState]:
        return [member.select(part, streams) for member, part in zip(self.members, state, strict=True)]
