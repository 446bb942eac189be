"""Counting every n-gram of a text up to an order: a trie in flat arrays, built from the sorted windows of the text.

The n-grams without their first symbol (suffix links) are looked up for the longest n-grams alone, in order, which is
quick; those of the shorter ones follow from them, because the suffix of a prefix is the prefix of the suffix. See
Heafield et al. 2013, Scalable Modified Kneser-Ney Language Model Estimation. No Python code loops over the text.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from charlm.models.ngram.windows import ALL_BITS, Code, Integers, Windows, code, distinct_windows
from charlm.progress import Tell
from charlm.threads import ALONE, Workers

UNBOUNDED = 1 << 62
WORDS_PER_CHUNK = 1 << 15  # symbols or words processed at a time, small enough for the processor's cache


@dataclass(frozen=True)
class Level:
    """The M distinct n-grams of one length, in lexicographic order, one row each.

    At length 1 there is a row for each symbol that occurs, its parent is 0 and its suffix its own row.
    """

    parent: Integers  # (M,) ascending: row of the n-gram without its last symbol, one level down
    symbol: Integers  # (M,) the last symbol, ascending within a parent
    count: Integers  # (M,) how often it occurs
    suffix: Integers  # (M,) row of the n-gram without its first symbol, one level down

    def __len__(self) -> int:
        return len(self.parent)


def count_ngrams(
    symbols: Integers,
    alphabet: int,
    order: int,
    max_ngrams: int = UNBOUNDED,
    max_windows: int = UNBOUNDED,
    pool: Workers = ALONE,
    tell: Tell = lambda _: None,
) -> list[Level]:
    """All n-grams of `symbols` (N,) of length 1 to `order`, which are at most as long as the text.

    The longest lengths are left out if there were more than `max_ngrams` n-grams otherwise. All threads together hold
    about `max_windows` windows of the text at a time. `tell` is called with the fraction done.
    Symbols are 0..alphabet-1. Symbols chosen by `alphabet_of` take the least time and memory.
    """
    order = min(order, len(symbols))
    if max_ngrams < UNBOUNDED and order > 8:  # often 8 is too long already; windows of up to 8 fit into one word
        levels = count_ngrams(symbols, alphabet, 8, max_ngrams, max_windows, pool, tell)
        if len(levels) < 8 or sum(map(len, levels)) >= max_ngrams:
            return levels
    codebook = code(alphabet + 1)
    counts = symbol_counts(symbols, alphabet)
    max_prefixes = max_ngrams - int(np.count_nonzero(counts))
    parts = distinct_windows(symbols, order, codebook, max_prefixes, max_windows, pool, tell)
    return _trie(parts, counts, codebook, symbols[-order:], pool)


def symbol_counts(symbols: Integers, alphabet: int) -> Integers:
    """(A,): how often each symbol occurs."""
    counts: Integers = np.zeros(alphabet, np.int64)
    for begin in range(0, len(symbols), WORDS_PER_CHUNK):
        counts += np.bincount(symbols[begin : begin + WORDS_PER_CHUNK], minlength=alphabet)
    return counts


class Rows(NamedTuple):
    """A level without its suffixes."""

    parent: Integers
    symbol: Integers
    occurring: Integers


class Branch(NamedTuple):
    """The rows that one range of windows adds to each level but the first."""

    rows: list[Rows]  # one entry for each length; parents are counted from the first row of the range
    prefixes: Integers  # the words of the n-grams one shorter than the longest
    suffixes: Integers  # the words of the longest n-grams without their first symbol
    deep: Integers  # which of these do not fit a word
    deep_symbols: Integers  # (.., order - 1), and their symbols


def _trie(parts: list[Windows], counts: Integers, codebook: Code, end: Integers, pool: Workers) -> list[Level]:
    """The levels, from the shortest n-grams to the windows themselves; `end`: the symbols at the end of the text."""
    order = parts[0].rows.shape[1]
    unigrams = unigram_rows(counts, codebook)
    if order == 1:
        return [Level(*unigrams, np.arange(len(unigrams.symbol)))]
    row_of = rows_of_symbols(counts)
    branches = list(pool.map(lambda windows: branch_of(windows, row_of, codebook), parts))
    rows = [unigrams, *joined_rows(branches)]
    words = codebook.words[unigrams.symbol]
    prefixes = np.concatenate([branch.prefixes for branch in branches]) if order > 2 else words
    longest = np.concatenate(list(pool.map(lambda branch: _suffixes(branch, prefixes, rows), branches)))
    return _linked(rows, longest, end)


def unigram_rows(counts: Integers, codebook: Code) -> Rows:
    """The n-grams of one symbol, given how often each symbol occurs."""
    occurring = np.flatnonzero(counts)
    small = np.min_scalar_type(-int(counts.sum()))
    alphabet = np.min_scalar_type(len(codebook.words))
    return Rows(np.zeros(len(occurring), np.int32), occurring.astype(alphabet), counts[occurring].astype(small))


def rows_of_symbols(counts: Integers) -> Integers:
    """Of each symbol, the row of the n-gram of it alone."""
    return (np.cumsum(counts > 0) - 1).astype(np.int32)


def joined_rows(branches: list[Branch]) -> list[Rows]:
    """The rows of all branches, for each length from 2 on; parents are counted from the first row of the first."""
    rows = []
    for k in range(len(branches[0].rows)):
        levels = [branch.rows[k] for branch in branches]
        starts = np.cumsum([0, *(len(branch.rows[k - 1].parent) for branch in branches)]) if k else [0] * len(levels)
        for level, start in zip(levels, starts, strict=False):
            np.add(level.parent, int(start), out=level.parent)
        rows.append(Rows(*map(np.concatenate, zip(*levels, strict=True))))
    return rows


def branch_of(windows: Windows, row_of: Integers, codebook: Code) -> Branch:
    """The n-grams of two symbols and more; `row_of` each symbol is that of the n-gram of it alone."""
    order = windows.rows.shape[1]
    symbols, width = codebook.symbols()
    starts = np.append(0, np.cumsum(windows.counts, dtype=np.int64))
    first = symbols[windows.words >> np.uint64(64 - width)]
    node = row_of[first]  # of each window, the row of its prefix
    used = codebook.bits[first]  # of each row, the bits of its symbols
    rows: list[Rows] = []
    prefixes = windows.words[:0]
    for k in range(1, order):
        begins = windows.shared <= k
        ended = windows.long[windows.rows[:, k] == len(codebook.words) - 1]  # they reach beyond the end of the text
        begins[ended] = False
        heads = np.flatnonzero(begins)
        parent = node[heads]
        used = used[parent if k > 1 else heads]
        symbol = symbols[windows.words[heads] << used >> np.uint64(64 - width)]
        deep = np.flatnonzero(begins[windows.long])
        symbol[np.searchsorted(heads, windows.long[deep])] = windows.rows[deep, k]
        used += codebook.bits[symbol]
        count = np.diff(starts[heads], append=starts[-1]).astype(windows.counts.dtype)
        before = np.searchsorted(heads, ended) - 1
        np.subtract.at(count, before[before >= 0], 1)  # the difference of `starts` gave them to the row before
        rows.append(Rows(parent, symbol, count))
        if k + 2 == order:
            prefixes = windows.words[heads] & ~(ALL_BITS >> used)
        if k + 1 < order:
            np.cumsum(begins, out=node)
            node -= 1
    words = windows.words[heads] & ~(ALL_BITS >> used)
    words <<= codebook.bits[symbols[words >> np.uint64(64 - width)]]
    deep = np.flatnonzero(used > 64)
    return Branch(rows, prefixes, words, deep, windows.rows[np.searchsorted(windows.long, heads[deep]), 1:])


def _suffixes(branch: Branch, prefixes: Integers, rows: list[Rows]) -> Integers:
    """The rows of the longest n-grams without their first symbol."""
    longest = np.empty(len(branch.suffixes), np.int32)
    for begin in range(0, len(longest), WORDS_PER_CHUNK):
        chunk = slice(begin, begin + WORDS_PER_CHUNK)
        longest[chunk] = np.searchsorted(prefixes, branch.suffixes[chunk])
    longest[branch.deep] = _walk(rows, branch.deep_symbols)
    return longest


def _linked(rows: list[Rows], longest: Integers, end: Integers) -> list[Level]:
    """The levels with their suffixes, derived from those of the longest n-grams."""
    suffixes = [longest]
    for k in range(len(rows) - 1, 1, -1):  # the n-grams of length k
        parent = rows[k].parent
        begins = np.flatnonzero(np.diff(parent, prepend=-1))
        suffix = np.full(len(rows[k - 1].parent), -1, np.int32)
        suffix[parent[begins]] = rows[k - 1].parent[suffixes[-1][begins]]
        if len(begins) < len(suffix):  # the n-gram at the end of the text has no longer one if it occurs only there
            suffix[suffix < 0] = _walk(rows, end[None, len(end) - k + 1 :])
        suffixes.append(suffix)
    suffixes.append(np.arange(len(rows[0].symbol)))
    return [Level(*row, suffix) for row, suffix in zip(rows, reversed(suffixes), strict=True)]


def _walk(rows: list[Rows], ngrams: Integers) -> Integers:
    """The rows of n-grams (L, n), all of which occur."""
    node: Integers = np.searchsorted(rows[0].symbol, ngrams[:, 0])
    radix = int(rows[0].symbol[-1]) + 1
    for row, symbol in zip(rows[1:], ngrams.T[1:], strict=False) if len(ngrams) else ():
        node = np.searchsorted(row.parent.astype(np.int64) * radix + row.symbol, node * radix + symbol)
    return node
