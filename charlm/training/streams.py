"""One long text as B parallel streams, read in segments of T."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charlm.config import BOUNDARY

Ids = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Streams:
    """The text cut into `batch` contiguous streams; epoch after epoch the cuts are shifted by a seeded amount.

    `segment(step)` is a pure function of the step, so a resumed run needs no more than its number.
    """

    ids: Ids  # (N,), possibly memory-mapped
    batch: int
    segment_length: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Segments until every stream has reached its end."""
        return max(1, len(self.ids) // (self.batch * self.segment_length))

    def starts_afresh(self, step: int) -> bool:
        """Whether the streams begin anew at this step."""
        return step % self.steps_per_epoch == 0

    def segment(self, step: int) -> tuple[Tensor, Tensor]:
        """Tokens (B, T) and targets (B, T), int64, of a step; the token before the text's first is the boundary."""
        epoch, position = divmod(step, self.steps_per_epoch)
        size = len(self.ids)
        shift = 0 if epoch == 0 else int(np.random.default_rng((self.seed, epoch)).integers(size))
        starts = np.arange(self.batch)[:, None] * (size // self.batch) + shift + position * self.segment_length
        places = starts + np.arange(-1, self.segment_length)  # (B, T+1)
        ids = self.ids[places % size].astype(np.int64)
        ids[places == -1] = BOUNDARY
        both = torch.from_numpy(ids)
        return both[:, :-1], both[:, 1:]


def parallel(ids: Ids, streams: int, segment: int, max_tokens: int) -> Iterator[tuple[Tensor, Tensor]]:
    """`streams` parts of the text, evenly spread, up to `max_tokens` of each, in segments: (tokens, targets)."""
    length = len(ids) // streams
    rows = torch.from_numpy(ids[: length * streams].reshape(streams, length)[:, :max_tokens].astype(np.int64))
    before = torch.cat([torch.full((streams, 1), BOUNDARY), rows[:, :-1]], 1)
    yield from zip(torch.split(before, segment, 1), torch.split(rows, segment, 1), strict=True)
