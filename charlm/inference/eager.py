"""The engine of every architecture: `model.forward` for one token of each stream, on any device.

Shapes: B streams, N tokens, V vocabulary.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from typing_extensions import override

from charlm.inference.engine import Engine, LogProbs, Tokens, reading
from charlm.models.base import State, device_of, select

CHUNK = 1024
"""Tokens of a prompt that are read in one call."""


class Group(NamedTuple):
    """Streams whose states have equal shapes, so that one call reads them all."""

    streams: Tokens  # ascending
    state: State


Groups = tuple[Group, ...]


class EagerEngine(Engine):
    """Its state is one group, or several where streams have read texts of different lengths."""

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
            for begin in range(0, stream.shape[1] - 1, CHUNK):
                window = stream[:, begin : begin + CHUNK + 1]
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
        wanted, device, groups = np.asarray(streams, np.int64), device_of(self.model), []
        for members, leaves in state:
            here = np.flatnonzero(np.isin(wanted, members))
            if len(here):
                rows = torch.from_numpy(np.searchsorted(members, wanted[here])).to(device)
                groups.append(Group(here, select(leaves, rows)))
        return tuple(groups)


def _merged(groups: Iterable[Group]) -> Groups:
    """The same streams, those of equal shapes in one group."""
    by_shape: dict[tuple[torch.Size, ...], list[Group]] = {}
    for group in groups:
        by_shape.setdefault(tuple(leaf.shape[1:] for leaf in group.state), []).append(group)
    merged = []
    for alike in by_shape.values():
        streams = np.concatenate([group.streams for group in alike])
        order = streams.argsort()
        state = tuple(torch.cat(leaves) for leaves in zip(*(group.state for group in alike), strict=True))
        if len(alike) > 1:
            state = select(state, torch.from_numpy(order).to(state[0].device if state else "cpu"))
        merged.append(Group(streams[order], state))
    return tuple(merged)
