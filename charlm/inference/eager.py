"""The engine that works for every architecture, on any device: `model.forward` with one token of each stream.

Shapes: B streams, N tokens, V vocabulary.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from typing_extensions import override

from charlm.inference.engine import Engine, LogProbs, Tokens, reading
from charlm.models.base import State, device_of, select

TOKENS_PER_CALL = 1024
"""A longer prompt is read in several calls."""


class Group(NamedTuple):
    """Streams whose states have equal shapes, so that one call steps them all."""

    streams: Tokens  # ascending
    state: State


Groups = tuple[Group, ...]


class EagerEngine(Engine):
    """The state is one group, or several if streams have read texts of different lengths."""

    backend = "eager"

    @override
    def start(self, streams: int) -> Groups:
        with reading(self.model):
            return (Group(np.arange(streams), self.model.initial_state(streams)),)

    @override
    def read(self, tokens: Sequence[int] | Tokens, state: Groups) -> tuple[LogProbs, Groups]:
        ((streams, leaves),) = state
        stream = torch.from_numpy(np.array(tokens, np.int64)).to(device_of(self.model)).unsqueeze(0)  # (1, N)
        with reading(self.model):
            for begin in range(0, stream.shape[1] - 1, TOKENS_PER_CALL):
                window = stream[:, begin : begin + TOKENS_PER_CALL + 1]
                _, leaves = self.model.score(window[:, :-1], window[:, 1:], leaves)
            log_probs, leaves = self.model(stream[:, -1:], leaves)
            return log_probs[:, -1].cpu().numpy(), (Group(streams, leaves),)

    @override
    def step(self, tokens: Tokens, state: Groups) -> tuple[LogProbs, Groups]:
        device, result, after = device_of(self.model), np.empty((len(tokens), self.vocab_size), np.float32), []
        with reading(self.model):
            for streams, leaves in state:
                column = torch.from_numpy(tokens[streams]).to(device).unsqueeze(1)  # (B, 1)
                log_probs, leaves = self.model(column, leaves)
                result[streams] = log_probs[:, -1].cpu().numpy()
                after.append(Group(streams, leaves))
        return result, _merged(after) if len(after) > 1 else tuple(after)

    @override
    def join(self, states: Sequence[Groups]) -> Groups:
        groups, begin = [], 0
        for state in states:
            groups += [Group(streams + begin, leaves) for streams, leaves in state]
            begin += sum(len(streams) for streams, _ in state)
        return _merged(groups)

    @override
    def select(self, state: Groups, streams: Sequence[int] | Tokens) -> Groups:
        selected, device, groups = np.asarray(streams, np.int64), device_of(self.model), []
        for members, leaves in state:
            new_streams = np.flatnonzero(np.isin(selected, members))
            if len(new_streams):
                rows = torch.from_numpy(np.searchsorted(members, selected[new_streams])).to(device)
                groups.append(Group(new_streams, select(leaves, rows)))
        return tuple(groups)


def _merged(groups: Iterable[Group]) -> Groups:
    """The same streams with groups of equal shapes merged."""
    by_shape: dict[tuple[torch.Size, ...], list[Group]] = {}
    for group in groups:
        by_shape.setdefault(tuple(leaf.shape[1:] for leaf in group.state), []).append(group)
    merged = []
    for equal in by_shape.values():
        streams = np.concatenate([group.streams for group in equal])
        order = streams.argsort()
        state = tuple(torch.cat(leaves) for leaves in zip(*(group.state for group in equal), strict=True))
        if len(equal) > 1:
            state = select(state, torch.from_numpy(order).to(state[0].device if state else "cpu"))
        merged.append(Group(streams[order], state))
    return tuple(merged)
