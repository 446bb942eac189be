"""Data-parallel training under torchrun: every rank computes the gradient of its rows of the batch.

The batch is the same for any number of ranks, and so are the sums of gradients up to rounding; all ranks then take the
same optimizer step. Rank 0 reads the clock, tunes mixtures and saves. Nothing is pickled: ranks exchange tensors.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from typing_extensions import override

from charlm.errors import CharlmError
from charlm.models import State
from charlm.ranks import Array, Ranks

MAX_SILENCE = timedelta(minutes=30)
"""A rank that is alive may keep the others waiting so long, as rank 0 does while it counts the n-grams of a mixture.
One that dies after all have met is noticed at once, by its closed connections."""


class RankLost(CharlmError):  # noqa: N818 - what happened
    """Another rank has ended or does not answer."""


@dataclass(frozen=True)
class World(Ranks):
    """The processes that train one model together. A world of one exchanges nothing."""

    device: torch.device | None = None

    @override
    def exchange(self, parts: Sequence[Array]) -> list[Array]:
        if self.size == 1:
            return list(parts)
        data = np.concatenate([np.ascontiguousarray(part).reshape(-1).view(np.uint8) for part in parts])
        sizes = torch.tensor([part.nbytes for part in parts], device=self.device)
        expected = torch.empty_like(sizes)
        with _noticing_losses():
            dist.all_to_all_single(expected, sizes)
            received = torch.empty(int(expected.sum()), dtype=torch.uint8, device=self.device)
            sent = torch.from_numpy(data).to(self.device)
            dist.all_to_all_single(received, sent, expected.tolist(), sizes.tolist())
        like = parts[0]
        arrays = [array.numpy().view(like.dtype) for array in torch.split(received.cpu(), expected.tolist())]
        return [array.reshape(-1, *like.shape[1:]) for array in arrays]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace the tensors, float32 and equally shaped on all ranks, by their sums over the ranks: one message."""
        if self.size == 1 or not tensors:
            return
        sizes = [tensor.numel() for tensor in tensors]
        bucket = torch.cat([tensor.flatten() for tensor in tensors])
        self._exchange(bucket)
        sums = torch.split(bucket, sizes)
        torch._foreach_copy_(list(tensors), [part.view_as(t) for part, t in zip(sums, tensors, strict=True)])

    def total(self, *numbers: float) -> list[float]:
        """The sums of the numbers over the ranks, in float64."""
        if self.size == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        self._exchange(sums)
        return sums.tolist()

    def of_main(self, *numbers: float) -> list[float]:
        """Rank 0's numbers: what it reads from its clock must not differ between ranks that decide by it."""
        return self.total(*(number if self.is_main else 0.0 for number in numbers))

    def text_of_main(self, text: str) -> str:
        """Rank 0's text."""
        data = text.encode()
        (size,) = self.of_main(len(data))
        return bytes(map(int, self.of_main(*(data if self.is_main else bytes(int(size)))))).decode()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        return self.total(float(flag))[0] > 0

    def gather(self, state: State, count: int) -> State:
        """The `count` rows of all ranks, from a state that has this rank's."""
        if self.size == 1:
            return state
        whole = []
        for leaf in state:
            rows = leaf.new_zeros(count, *leaf.shape[1:], dtype=leaf.dtype if leaf.dtype == torch.int64 else None)
            rows = rows.float() if rows.is_floating_point() else rows
            rows[self.rows(count)] = leaf.to(rows.dtype)
            self._exchange(rows)
            whole.append(rows.to(leaf.dtype))
        return tuple(whole)

    def copy_from_main(self, tensors: Sequence[Tensor]) -> None:
        """Replace the tensors by those of rank 0."""
        for tensor in tensors if self.size > 1 else ():
            with _noticing_losses():
                dist.broadcast(tensor, 0)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Lets rank 0 through the block before the others, for whom it may leave a file."""
        if not self.is_main:
            self.total(0.0)
        yield
        if self.is_main:
            self.total(0.0)

    def _exchange(self, tensor: Tensor) -> None:
        with _noticing_losses():
            dist.all_reduce(tensor)


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """The world that torchrun has made by its environment variables; a world of one without it."""
    size = world_size()
    if size == 1:
        yield World()
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # Before the group is made: imported later, as optimizers do, its functions would keep the group as the default of
    # an argument. `destroy_process_group` then leaves the group's threads running, and one of them that needs
    # Python's lock when the interpreter ends aborts the process.
    from torch.distributed import nn  # noqa: F401

    with _noticing_losses():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=MAX_SILENCE)
    world = World(dist.get_rank(), size, device)
    yield world
    world.total(0.0)  # nobody leaves before rank 0 has saved
    dist.destroy_process_group()  # not after an error: it would wait for the rank that was lost


def world_size() -> int:
    """How many processes torchrun has started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def _noticing_losses() -> Iterator[None]:
    try:
        yield
    except RuntimeError as problem:
        raise RankLost("another rank has ended or does not answer") from problem
