"""Counting by several processes: each owns the n-grams whose first two symbols are in its range.

All ranks read the text and sort the windows of their own ranges, so no n-gram travels. An n-gram and the longer ones
that begin with it are on one rank; the n-gram without its first symbol may be on another. Those of one and two symbols
are few, and every rank has them all. What is counted does not depend on the number of ranks.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from charlm.models.ngram.counting import (
    UNBOUNDED,
    Level,
    Rows,
    branch_of,
    joined_rows,
    rows_of_symbols,
    symbol_counts,
    unigram_rows,
)
from charlm.models.ngram.windows import Code, Integers, Windows, agreed, code, distinct_windows
from charlm.progress import Tell
from charlm.ranks import Array, Ranks
from charlm.threads import Workers

WHOLE_LENGTHS = 2  # n-grams of so many symbols are on every rank
ONE_WORD = 8  # windows of so many symbols fit into one word


@dataclass(frozen=True)
class Shard:
    """The n-grams that one rank has, one entry for each length.

    `levels` have rows of their own, and of two symbols those of all ranks: these are the parents of what is longer.
    """

    levels: list[Level]  # `suffix`, from three symbols on, is a row of another rank:
    owners: list[Integers]  # (M,) which
    adjusted: list[Integers]  # (M,) as `adjusted_counts` gives them
    starts: list[int]  # how many n-grams lower ranks own; 0 for one symbol
    owned: list[int]  # how many this rank owns
    sizes: list[int]  # how many all ranks own

    def contexts(self, k: int) -> slice:
        """The rows of the contexts of k symbols, k at least 2, that this rank owns."""
        start = self.starts[k - 1] if k == WHOLE_LENGTHS else 0
        return slice(start, start + self.owned[k - 1])


def count_shard(
    symbols: Integers,
    alphabet: int,
    order: int,
    ranks: Ranks,
    pool: Workers,
    tell: Tell,
    max_ngrams: int = UNBOUNDED,
    max_of_all: int = UNBOUNDED,
    max_windows: int = UNBOUNDED,
) -> Shard:
    """The n-grams that `counting.count_ngrams` counts, of 2 symbols or more, shared among `ranks`.

    The longest lengths are left out if a rank had more than `max_ngrams` n-grams otherwise, or all `max_of_all`.
    """
    order = min(order, len(symbols))
    codebook, counts = code(alphabet + 1), symbol_counts(symbols, alphabet)
    unigrams = int(np.count_nonzero(counts))

    def windows(order: int) -> list[Windows]:
        parts = distinct_windows(symbols, order, codebook, max_ngrams - unigrams, max_windows, pool, tell, ranks)
        return agreed(parts, max_ngrams - unigrams, max_of_all - unigrams, ranks)

    tried = min(order, ONE_WORD) if max_ngrams < UNBOUNDED else order  # often that is too long already
    parts = windows(tried)
    if parts[0].rows.shape[1] == tried < order:
        del parts
        parts = windows(order)
    return _shard(counts, codebook, parts, ranks, pool)


def _shard(counts: Integers, codebook: Code, parts: list[Windows], ranks: Ranks, pool: Workers) -> Shard:
    row_of = rows_of_symbols(counts)
    rows = joined_rows(list(pool.map(lambda windows: branch_of(windows, row_of, codebook), parts)))
    owned = np.array([len(row.parent) for row in rows])
    by_rank = np.stack(ranks.of_all(owned))  # (ranks, lengths from 2 on)
    starts = by_rank[: ranks.rank].sum(0)
    bigrams = Rows(*(np.concatenate(ranks.of_all(column)) for column in rows[0]))
    for level in rows[1:2]:
        np.add(level.parent, int(starts[0]), out=level.parent)
    unigrams = unigram_rows(counts, codebook)
    levels, owners, adjusted = _linked([unigrams, bigrams, *rows[1:]], by_rank[:, 0].cumsum(), ranks)
    size = len(unigrams.symbol)
    return Shard(
        levels, owners, adjusted, [0, *starts.tolist()], [size, *owned.tolist()], [size, *by_rank.sum(0).tolist()]
    )


def _linked(rows: list[Rows], ends: Integers, ranks: Ranks) -> tuple[list[Level], list[Integers], list[Integers]]:
    """The levels with their suffixes, who owns these, and the adjusted counts; rank r owns the bigrams up to ends[r].

    A suffix is found as the child of the suffix of the parent, by the rank that owns both.
    """
    radix, keys = int(rows[0].symbol[-1]) + 1, np.zeros(0, np.int64)
    levels: list[Level] = []
    owners: list[Integers] = []
    adjusted: list[Integers] = []
    for k, row in enumerate(rows):
        preceding = np.zeros(len(keys), np.int64)
        if k < WHOLE_LENGTHS:
            owner: Integers = np.zeros(0, np.int16)
            suffix = np.searchsorted(rows[0].symbol, row.symbol)
        else:
            questions = levels[-1].suffix[row.parent].astype(np.int64) * radix + row.symbol
            if k == WHOLE_LENGTHS:
                suffix = np.searchsorted(keys, questions).astype(np.int32)
                owner = np.searchsorted(ends, suffix, side="right").astype(np.int16)
            else:
                owner = owners[-1][row.parent]
                suffix = ranks.ask(owner, questions, _Finder(keys, preceding).find)
        if k == 1:
            preceding += np.bincount(suffix, minlength=len(keys))
        elif k == WHOLE_LENGTHS:
            preceding += np.sum(ranks.of_all(np.bincount(suffix, minlength=len(keys))), 0)
        if k:
            adjusted.append((preceding if k == 1 else np.maximum(preceding, 1)).astype(row.occurring.dtype))
        levels.append(Level(*row, suffix))
        owners.append(owner)
        keys = row.parent.astype(np.int64) * radix + row.symbol
    return levels, owners, [*adjusted, rows[-1].occurring]


class _Finder(NamedTuple):
    """Finds the rows of n-grams by their keys, ascending, and counts how often each is asked for."""

    keys: Integers
    asked: Integers

    def find(self, keys: Array) -> Array:
        """The row of each key, all of which are there."""
        rows = np.searchsorted(self.keys, keys)
        np.add(self.asked, np.bincount(rows, minlength=len(self.asked)), out=self.asked)
        return rows.astype(np.int32)
