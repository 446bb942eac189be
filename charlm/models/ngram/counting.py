"""Counting every n-gram of a text up to an order: a trie in flat arrays, built by sorting the windows of the text.

A window is packed into one 64-bit word by a code whose words sort as the n-grams do, so that one vectorised sort puts
the n-grams of all lengths in order at once. The code is a variable-length one, in digits of four bits: frequent symbols
take one digit, which makes 8 to 12 characters fit; the few windows that do not fit go on in further words. Of a text
too large for that at once, one range of the words after another is collected and sorted. Nothing loops over the text.

The n-grams without their first symbol (suffix links) are looked up for the longest n-grams alone, in order, which is
quick; those of the shorter ones follow, for the suffix of a prefix is the prefix of the suffix. What is counted and
why: Heafield et al. 2013, Scalable Modified Kneser-Ney Language Model Estimation.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from charlm.progress import Tell

Integers = npt.NDArray[np.integer[Any]]
MOST = 1 << 62  # no bound
CHUNK = 1 << 15  # windows packed at a time: they stay in the processor's cache
LAST = np.uint64(0x8888_8888_8888_8888)  # the bit of each digit that says: this symbol goes on
ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


@dataclass(frozen=True)
class Level:
    """The distinct n-grams of one length, each after its prefix: M of them, one row each.

    At length 1 there is a row for each symbol that occurs, its parent is 0 and its suffix its own row.
    """

    parent: Integers  # (M,) ascending: row of the n-gram without its last symbol, one level down
    symbol: Integers  # (M,) the last symbol, ascending within a parent
    count: Integers  # (M,) how often it occurs
    suffix: Integers  # (M,) row of the n-gram without its first symbol, one level down

    def __len__(self) -> int:
        return len(self.parent)


class Code(NamedTuple):
    """A word for each symbol, ascending: its digits, base 8, from the top; all but the last have their top bit set."""

    words: Integers  # (A,) uint64
    bits: Integers  # (A,) uint64, how many of the 64 are used

    def symbols(self) -> tuple[Integers, int]:
        """What stands at the front of a word, looked up by so many of its top bits."""
        width = int(self.bits.max())
        runs = np.diff(self.words >> np.uint64(64 - width), append=np.uint64(1 << width))
        symbols = np.arange(len(runs), dtype=np.min_scalar_type(len(runs)))
        return np.repeat(symbols, runs.astype(np.int64)), width


def code(alphabet: int) -> Code:
    """The shortest such code for so many symbols; those with few bits are for the frequent ones."""
    words: list[Integers] = []
    bits: list[Integers] = []
    prefixes: Integers = np.zeros(1, np.uint64)
    while (missing := alphabet - sum(len(part) for part in words)) > 0:
        used = np.uint64(4 * len(words))
        digits = np.arange(8, dtype=np.uint64) << (np.uint64(60) - used)
        grown = (prefixes[:, None] | digits).ravel()
        words.append(grown[:missing])
        bits.append(np.full(len(words[-1]), used + np.uint64(4)))
        prefixes = grown | np.uint64(1 << 63) >> used
    order = np.argsort(np.concatenate(words))
    return Code(np.concatenate(words)[order], np.concatenate(bits)[order])


def alphabet_of(frequencies: Integers) -> Integers:
    """The tokens that occur, the rank of each as a symbol chosen so that the frequent ones have short words."""
    occurring = np.flatnonzero(frequencies)
    ranked = occurring[np.argsort(-frequencies[occurring], kind="stable")]
    ids = np.zeros_like(ranked)
    ids[np.argsort(code(len(ids) + 1).bits[:-1], kind="stable")] = ranked
    return ids


class Windows(NamedTuple):
    """The distinct n-grams of the longest length in order: U of them. L are long, their words not all of them."""

    words: Integers  # (U,) uint64, the first 64 bits of each
    counts: Integers  # (U,)
    shared: Integers  # (U,) how many symbols each begins with as the one before did
    long: Integers  # (L,) which
    rows: Integers  # (L, order) their symbols; A lies beyond the end of the text


def count_ngrams(
    symbols: Integers, alphabet: int, order: int, most: int = MOST, room: int = MOST, tell: Tell = lambda _: None
) -> list[Level]:
    """All n-grams of `symbols` (N,) of length 1 to `order`, no longer than the text; of fewer lengths if that keeps
    them to `most`. About `room` windows of the text, no more, are held at once. `tell` is told the fraction done.

    Symbols are 0..alphabet-1. It takes least time and memory if `alphabet_of` has chosen them.
    """
    order = min(order, len(symbols))
    if most < MOST and order > 8:  # many texts stop before 8, up to which a window fits a word
        levels = count_ngrams(symbols, alphabet, 8, most, room, tell)
        if len(levels) < 8 or sum(map(len, levels)) >= most:
            return levels
    book = code(alphabet + 1)
    return _trie(_counted(symbols, order, book, most, room, tell), book, symbols[-order:])


def _counted(symbols: Integers, order: int, book: Code, most: int, room: int, tell: Tell) -> Windows:
    """The windows of the whole text, range by range; all cut shorter when their prefixes come to more than `most`."""
    parts: list[Windows] = []
    bounds = _bounds(symbols, book, room)
    for done, (low, high) in enumerate(pairwise(bounds)):
        tell(done / len(bounds))
        part = _distinct(symbols, order, book, low, high, parts[-1].words[-1:] if parts else None)
        parts += [part] * bool(len(part.words))
        while order > 2 and sum(int((order - part.shared).sum(dtype=np.int64)) for part in parts) > most:
            order -= 1
            parts = [_shortened(part, order) for part in parts]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _bounds(symbols: Integers, book: Code, room: int) -> Integers:
    """Words that part the windows into ranges of about `room`, each between two pairs of symbols."""
    sample = np.arange(0, len(symbols) - 1, max(1, len(symbols) >> 16))
    first, second = symbols[sample], symbols[sample + 1]
    pairs = np.sort(book.words[first] | book.words[second] >> book.bits[first])
    inner = pairs[np.arange(1, -(-len(symbols) // room)) * len(pairs) // -(-len(symbols) // room)]
    return np.unique(np.concatenate((np.zeros(1, np.uint64), inner, np.full(1, ALL))))


def _distinct(symbols: Integers, order: int, book: Code, low: Any, high: Any, before: Integers | None) -> Windows:
    """The distinct windows whose words are in [low, high); `before` is the word that came last in the range below."""
    packed, places = _packed(symbols, order, book, low, high)
    packed.sort()
    heads = _heads(packed)
    words = packed[heads]
    small = np.min_scalar_type(-len(symbols))
    counts = np.diff(heads, append=len(packed)).astype(small)
    long_words, long_counts, rows = _long(symbols, places, order, book)
    at = np.searchsorted(words, long_words)
    words = np.insert(words, at, long_words)
    counts = np.insert(counts, at, long_counts.astype(small))
    shared = _shared(words, before)
    long = at + np.arange(len(at))
    same = np.flatnonzero(long_words[1:] == long_words[:-1]) + 1
    shared[long[same]] = (rows[same] == rows[same - 1]).argmin(1)
    return Windows(words, counts, shared, long, rows)


def _packed(symbols: Integers, order: int, book: Code, low: Any, high: Any) -> tuple[Integers, Integers]:
    """Words of the windows that fit one and are in [low, high), unsorted; and the places of the others in the range.

    A window that the end of the text cuts short counts as one that does not fit.
    """
    packed, filled, places = np.empty(len(symbols), np.uint64), 0, []
    for begin in range(0, len(symbols), CHUNK):
        size = min(CHUNK, len(symbols) - begin)
        piece = symbols[begin : begin + size + order - 1]
        beyond = size + order - 1 - len(piece)
        piece = np.pad(piece, (0, beyond), constant_values=len(book.words) - 1)
        words, bits = book.words[piece], book.bits[piece]
        windows, used = words[:size].copy(), bits[:size].copy()
        there: Any = np.arange(size)
        for k in range(1, order):
            if k == 2:  # the bounds lie between pairs, so the pairs tell which windows are in the range
                inside = (windows >= low) & (windows < high)
                if not inside.all():
                    there = np.flatnonzero(inside)
                    windows, used = windows[there], used[there]
            where = slice(k, k + size) if len(there) == size else there + k
            windows |= words[where] >> used
            used += bits[where]
        inside = (windows >= low) & (windows < high)
        fits = (used <= 64) & (there < size - beyond)
        places.append(begin + there[inside & ~fits])
        windows = windows[inside & fits]
        packed[filled : filled + len(windows)] = windows
        filled += len(windows)
    return packed[:filled], np.concatenate(places)


def _long(symbols: Integers, places: Integers, order: int, book: Code) -> tuple[Integers, Integers, Integers]:
    """Of the windows at these places, sorted and each once: the first word, the count, the symbols (L, order)."""
    rows = np.full((len(places), order), len(book.words) - 1, symbols.dtype)
    for k in range(order):
        there = places + k < len(symbols)
        rows[there, k] = symbols[places[there] + k]
    used = np.zeros(len(places), np.uint64)
    words = np.zeros((order * int(book.bits.max()) // 64 + 2, len(places)), np.uint64)
    for column in rows.T:
        word, left = used // 64, used % 64
        np.bitwise_or.at(words, (word, np.arange(len(places))), book.words[column] >> left)
        np.bitwise_or.at(words, (word + 1, np.arange(len(places))), book.words[column] << 64 - left)
        used += book.bits[column]
    order_ = np.lexsort(words[::-1])
    rows = rows[order_]
    heads = np.flatnonzero(np.append(True, (rows[1:] != rows[:-1]).any(1))[: len(rows)])
    return words[0, order_[heads]], np.diff(heads, append=len(rows)), rows[heads]


def _heads(words: Integers) -> npt.NDArray[np.int64]:
    """Where each run of equal words begins."""
    return np.flatnonzero(np.append(True, words[1:] != words[:-1])[: len(words)])


def _shared(words: Integers, before: Integers | None) -> Integers:
    """With how many of the symbols of the word before each word begins, where they differ."""
    shared = np.zeros(len(words), np.uint8)
    before = ~words[:1] if before is None else before
    for begin in range(0, len(words), CHUNK):
        part = words[begin : begin + CHUNK]
        previous = words[begin - 1 : begin - 1 + len(part)] if begin else np.append(before, part[:-1])
        differ = part ^ previous
        for shift in (1, 2, 4, 8, 16, 32, 3):  # all bits from the first that differs, and the rest of its digit
            differ |= differ >> shift if shift != 3 else differ << shift
        shared[begin : begin + CHUNK] = np.bitwise_count(~(part | differ) & LAST)
    return shared


def _shortened(windows: Windows, order: int) -> Windows:
    """The distinct n-grams of a shorter length."""
    heads = np.flatnonzero(windows.shared < order)
    long = np.flatnonzero(windows.shared[windows.long] < order)
    return Windows(
        windows.words[heads],
        np.add.reduceat(windows.counts, heads),
        windows.shared[heads],
        np.searchsorted(heads, windows.long[long]),
        windows.rows[long, :order],
    )


def _joined(parts: list[Windows]) -> Windows:
    starts = np.cumsum([0, *(len(part.words) for part in parts)])
    words, counts, shared, long, rows = zip(*parts, strict=True)
    moved = [where + start for where, start in zip(long, starts, strict=False)]
    return Windows(*map(np.concatenate, (words, counts, shared, moved, rows)))


class _Rows(NamedTuple):
    """A level while its suffixes are still to be found."""

    parent: Integers
    symbol: Integers
    occurring: Integers


def _trie(windows: Windows, book: Code, end: Integers) -> list[Level]:
    """The levels, from the shortest n-grams to the windows themselves; `end`: the symbols at the end of the text."""
    order = windows.rows.shape[1]
    symbols, width = book.symbols()
    starts = np.append(0, np.cumsum(windows.counts, dtype=np.int64))
    node = np.zeros(len(windows.words), np.int32)  # of each window, the row of its prefix
    used = np.zeros(1, np.uint64)  # of each row, the bits of its symbols
    rows: list[_Rows] = []
    for k in range(order):
        begins = windows.shared <= k
        ended = windows.long[windows.rows[:, k] == len(book.words) - 1]  # behind the end of the text
        begins[ended] = False
        heads = np.flatnonzero(begins)
        parent = node[heads]
        used = used[parent]
        symbol = symbols[windows.words[heads] << used >> np.uint64(64 - width)]
        deep = np.flatnonzero(begins[windows.long])
        symbol[np.searchsorted(heads, windows.long[deep])] = windows.rows[deep, k]
        used += book.bits[symbol]
        count = np.diff(starts[heads], append=starts[-1]).astype(windows.counts.dtype)
        before = np.searchsorted(heads, ended) - 1
        np.subtract.at(count, before[before >= 0], 1)  # which the row before has taken for its own
        rows.append(_Rows(parent, symbol, count))
        if k + 2 == order:
            prefixes = windows.words[heads] & ~(ALL >> used)
        if k + 1 < order:
            np.cumsum(begins, out=node)
            node -= 1
    if order == 1:
        return [Level(*rows[0], np.arange(len(heads)))]
    words = windows.words[heads] & ~(ALL >> used)
    words <<= book.bits[symbols[words >> np.uint64(64 - width)]]
    with ThreadPoolExecutor() as pool:
        found = pool.map(partial(np.searchsorted, prefixes), np.array_split(words, 1 + len(words) // CHUNK))
        longest = np.concatenate(list(found)).astype(np.int32)
    deep = np.flatnonzero(used > 64)
    longest[deep] = _walk(rows, windows.rows[np.searchsorted(windows.long, heads[deep]), 1:])
    return _linked(rows, longest, end)


def _linked(rows: list[_Rows], longest: Integers, end: Integers) -> list[Level]:
    """The levels with their suffixes, given those of the longest n-grams."""
    suffixes = [longest]
    for k in range(len(rows) - 1, 1, -1):  # those of length k
        parent = rows[k].parent
        begins = np.flatnonzero(np.diff(parent, prepend=-1))
        suffix = np.full(len(rows[k - 1].parent), -1, np.int32)
        suffix[parent[begins]] = rows[k - 1].parent[suffixes[-1][begins]]
        if len(begins) < len(suffix):  # the end of the text, if it occurs nowhere else, has nothing behind it
            suffix[suffix < 0] = _walk(rows, end[None, len(end) - k + 1 :])
        suffixes.append(suffix)
    suffixes.append(np.arange(len(rows[0].symbol)))
    return [Level(*row, suffix) for row, suffix in zip(rows, reversed(suffixes), strict=True)]


def _walk(rows: list[_Rows], ngrams: Integers) -> Integers:
    """The rows of n-grams (L, n), which all occur."""
    node: Integers = np.searchsorted(rows[0].symbol, ngrams[:, 0])
    radix = int(rows[0].symbol[-1]) + 1
    for row, symbol in zip(rows[1:], ngrams.T[1:], strict=False) if len(ngrams) else ():
        node = np.searchsorted(row.parent.astype(np.int64) * radix + row.symbol, node * radix + symbol)
    return node
