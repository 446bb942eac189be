"""Several processes that share one piece of work and exchange arrays. A process alone exchanges nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Answer = Callable[[Array], Array]


@dataclass(frozen=True)
class Ranks:
    """The processes, numbered from 0. All call the same methods in the same order.

    What several exchange, `charlm.training.World` sends with torch.distributed.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which prints and saves."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """Which of so many rows are this rank's; all ranks' are contiguous and in order."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def exchange(self, parts: Sequence[Array]) -> list[Array]:
        """Send parts[r] to rank r; returns what each rank sent. Of one exchange, all arrays have one type and width."""
        assert self.size == 1
        return list(parts)

    def of_all(self, array: Array) -> list[Array]:
        """The arrays of all ranks."""
        return self.exchange([array] * self.size)

    def to_main(self, array: Array) -> list[Array]:
        """On rank 0 the arrays of all ranks, elsewhere empty ones."""
        return self.exchange([array, *[array[:0]] * (self.size - 1)])

    def from_main(self, array: Array) -> Array:
        """The array of rank 0; the others give one of the same type and width."""
        return self.of_all(array if self.is_main else array[:0])[0]

    def ask(self, ranks: Array, questions: Array, answer: Answer) -> Array:
        """The answers of ranks[i] to questions[i], for all i: `answer` maps questions to as many answers."""
        order = np.argsort(ranks, kind="stable")
        ends = np.searchsorted(ranks[order], np.arange(1, self.size))
        replies = self.exchange([answer(asked) for asked in self.exchange(np.split(questions[order], ends))])
        answers = np.concatenate(replies)
        result = np.empty_like(answers)
        result[order] = answers
        return result


BY_ITSELF = Ranks()
