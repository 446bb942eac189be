"""n-grams shared among processes, here threads that exchange arrays: what one process counts, to the byte."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from charlm.models.ngram.counting import UNBOUNDED, count_ngrams
from charlm.models.ngram.model import NGram
from charlm.models.ngram.shards import Shard, count_shard
from charlm.models.ngram.smoothing import adjusted_counts
from charlm.models.ngram.windows import Integers
from charlm.ranks import Array, Ranks
from charlm.threads import ALONE

A = 12


@dataclass(frozen=True)
class Threads(Ranks):
    """Ranks that are threads of one process."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))
    sent: dict[int, list[Array]] = field(default_factory=dict)

    def exchange(self, parts):
        assert len({(part.dtype, part.shape[1:]) for part in parts}) == 1
        self.sent[self.rank] = [part.copy() for part in parts]
        self.barrier.wait(60)
        received = [self.sent[rank][self.rank] for rank in range(self.size)]
        self.barrier.wait(60)
        return received


def by_ranks(size: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """What `work` returns for each of so many ranks."""
    barrier, sent = threading.Barrier(size), {}

    def run(rank: int) -> Any:
        try:
            return work(Threads(rank, size, barrier, sent))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))


def text(length: int) -> Integers:
    """Symbols that recur, and a few that are rare."""
    generator = np.random.default_rng(length)
    phrases = [generator.integers(0, A, 9) for _ in range(12)]
    return np.concatenate([phrases[k] for k in generator.integers(0, 12, length // 9 + 1)])[:length].astype(np.uint8)


def whole(shards: list[Shard], k: int, column: Callable[[Shard], list[Any]]) -> list[int]:
    """A column of the level of k + 1 symbols, of all ranks."""
    return np.concatenate([column(shard)[k] for shard in (shards if k >= 2 else shards[:1])]).tolist()


@pytest.mark.parametrize(("size", "length", "order"), [(2, 900, 6), (3, 900, 10), (5, 60, 3), (4, 5, 4)])
def test_all_ranks_together_have_the_ngrams_of_one_process(size, length, order) -> None:
    symbols = text(length)
    levels = count_ngrams(symbols, A, order)
    shards = by_ranks(size, lambda ranks: count_shard(symbols, A, order, ranks, ALONE, lambda _: None))
    adjusted = adjusted_counts(levels)
    assert [len(shard.levels) for shard in shards] == [len(levels)] * size
    for k, level in enumerate(levels):
        assert whole(shards, k, lambda shard: [level.symbol for level in shard.levels]) == level.symbol.tolist()
        assert whole(shards, k, lambda shard: [level.count for level in shard.levels]) == level.count.tolist()
        assert whole(shards, k, lambda shard: shard.adjusted) == adjusted[k].tolist()
        assert {shard.sizes[k] for shard in shards} == {len(level)}
        if k < 2 or k + 1 == len(levels):
            continue
        rows = np.concatenate([shard.levels[k].suffix for shard in shards])
        owners = np.concatenate([shard.owners[k] for shard in shards])
        starts = np.array([shard.starts[k - 1] if k > 2 else 0 for shard in shards])  # of 2 symbols all have all
        assert (starts[owners] + rows).tolist() == level.suffix.tolist()


@pytest.mark.parametrize(("size", "config"), [(2, {}), (4, {}), (3, {"order": 3, "cache": 0})])
def test_any_number_of_processes_fits_the_same_model(size, config) -> None:
    ids = text(3000).astype(np.int32) + 1

    def fitted(ranks: Ranks) -> tuple[dict[str, torch.Tensor], Any, dict[str, torch.Tensor]]:
        model, before = NGram(NGram.Config(**config), A + 4), {}
        model.fit_together(ranks, ids[:2700], ids[2700:], before=lambda early: before.update(early.state_dict()))
        return model.state_dict(), (model.validation_nats, model.fit_results), before

    tensors, results, before = fitted(Ranks())
    shared_tensors, shared_results, shared_before = by_ranks(size, fitted)[0]
    assert shared_results == results
    for one, other in ((shared_tensors, tensors), (shared_before, before)):
        assert list(one) == list(other)
        assert all(torch.equal(one[name], other[name]) for name in other)


def test_memory_is_that_of_each_process() -> None:
    symbols = text(4000)

    def sizes(max_ngrams: int, max_of_all: int = UNBOUNDED) -> list[list[int]]:
        shards = by_ranks(
            3, lambda ranks: count_shard(symbols, A, 10, ranks, ALONE, lambda _: None, max_ngrams, max_of_all)
        )
        return [shard.owned for shard in shards]

    order = 10  # more than that, because windows that the end of the text cuts short count as longer ones
    most = max(sum(owned[:5]) for owned in sizes(UNBOUNDED))
    limited = sizes(most + order)
    assert {len(owned) for owned in limited} == {5}
    assert max(map(sum, limited)) == most
    total = sum(sum(owned[1:4]) for owned in limited) + limited[0][0]
    assert {len(owned) for owned in sizes(most, total + order)} == {4}


def test_questions_are_answered_by_those_who_are_asked() -> None:
    def ask(ranks: Ranks) -> list[int]:
        questions = np.arange(7)
        return ranks.ask(questions % 3, questions, lambda asked: asked * 10 + ranks.rank).tolist()

    assert by_ranks(3, ask) == [[0, 11, 22, 30, 41, 52, 60]] * 3
