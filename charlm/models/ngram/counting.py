"""Counting every n-gram of a text up to an order: a trie in flat arrays, built by sorting packed windows.

As many symbols as fit are packed into one 64-bit word, so that one sort of the words puts the n-grams of all those
lengths in order at once; longer n-grams are packed behind the rank of their prefix, round by round. Nothing loops over
the text. The n-grams without their first symbol (suffix links) come from one more sort of the distinct n-grams a level,
after Heafield et al. 2013 (Scalable Modified Kneser-Ney Language Model Estimation), who sort in the same two orders.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.integer[Any]]
CHUNK = 1 << 15  # windows packed at a time: they stay in the processor's cache


@dataclass(frozen=True)
class Level:
    """The distinct n-grams of one length in lexicographic order: M of them, one row each.

    At length 1, row s is the symbol s, and its suffix, the empty n-gram followed by s, is counted as row s too.
    """

    parent: Integers  # (M,) row of the n-gram without its last symbol, one level down
    symbol: Integers  # (M,) the last symbol
    count: Integers  # (M,) how often it occurs
    suffix: Integers  # (M,) row of the n-gram without its first symbol, one level down

    def __len__(self) -> int:
        return len(self.parent)


def count_ngrams(symbols: Integers, order: int, most: int | None = None) -> list[Level]:
    """All n-grams of `symbols` (N,) of length 1 to `order`, no longer than the text; of fewer lengths if that keeps
    them to `most`.

    Symbols are 0..A-1, each occurs, and symbols[0] is 0, which occurs elsewhere at most at the end.
    """
    bits = (int(symbols.max()) + 1).bit_length()
    levels: list[Level] = []
    first: Integers = np.zeros(0, np.int64)  # of each n-gram in the last level, its first symbol
    for parent, symbol, count in _tries(symbols, min(order, len(symbols)), bits):
        if most and levels and sum(map(len, levels)) + len(parent) > most:
            break
        if not levels:
            first = suffix = symbol
        else:
            unpreceded = len(levels) > 1 or symbols[-1] != 0  # does row 0, that begins with symbol 0, follow nothing?
            shorter = levels[-1].suffix if len(levels) > 1 else np.zeros_like(first)
            first = first[parent]
            suffix = _suffixes(shorter[parent], symbol, first, bits) + np.int32(unpreceded)
        levels.append(Level(parent, symbol, count, suffix))
    return levels


def _tries(symbols: Integers, order: int, bits: int) -> Iterator[tuple[Integers, Integers, Integers]]:
    """(parent, symbol, count) of the levels 1 to `order`."""
    stream: Integers = np.zeros(len(symbols) + order, np.uint16 if bits <= 16 else np.uint32)  # 0 lies beyond the end
    stream[: len(symbols)] = symbols
    stream[: len(symbols)] += 1
    rank: Integers = np.zeros(len(symbols), np.uint64)  # of the window at each place, among those of the length done
    done = nodes = 0
    while done < order:
        span = min(order - done, (64 - nodes.bit_length()) // bits)
        windows: Integers = rank
        for begin in range(0, len(windows), CHUNK):
            part = windows[begin : begin + CHUNK]
            for at in range(begin + done, begin + done + span):
                part <<= bits
                part |= stream[at : at + len(part)]
        done += span
        places = np.argsort(windows) if done < order else None
        if places is None:
            windows.sort()
        else:
            windows = windows[places]
        heads = _heads(windows)
        times = np.diff(heads, append=len(windows))
        windows = windows[heads]
        node: Integers = (windows >> bits * span if nodes else np.zeros_like(windows)).astype(np.int32)
        for shift in range(bits * (span - 1), -1, -bits):
            heads = _heads(windows >> shift)
            symbol = (windows[heads] >> shift).astype(np.int64) & (1 << bits) - 1
            count = np.add.reduceat(times, heads) if len(heads) else times
            inside = symbol > 0
            heads = heads[inside]
            yield node[heads], (symbol[inside] - 1).astype(np.int32), count[inside]
            begins = np.zeros(len(windows), np.int32)
            begins[heads] = 1
            node = np.cumsum(begins, dtype=np.int32) - 1
            nodes = len(heads)
        if places is not None:
            rank[places] = np.repeat(node, times)
            rank = rank[: len(symbols) - done + 1].copy()


def _heads(words: Integers) -> npt.NDArray[np.int64]:
    """Where each run of equal words begins."""
    return np.flatnonzero(np.append(True, words[1:] != words[:-1])[: len(words)])


def _suffixes(parent: Integers, symbol: Integers, first: Integers, bits: int) -> Integers:
    """For n-grams in order, the rank of each without its first symbol, which is (parent, symbol), among all such."""
    words = (parent.astype(np.uint64) << bits | symbol.astype(np.uint64)) << bits | first.astype(np.uint64)
    words.sort()
    own = (words & (1 << bits) - 1).astype(np.uint16 if bits <= 16 else np.uint32)
    words >>= bits
    rank = np.zeros(len(words), np.int32)
    np.cumsum(words[1:] != words[:-1], out=rank[1:])
    suffix: Integers = rank[np.argsort(own, kind="stable")]  # in order of the first symbol, then of the rest
    return suffix
