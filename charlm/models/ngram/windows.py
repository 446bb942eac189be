"""The distinct windows (n-grams of the longest length) of a text, sorted and counted.

A window is packed into one 64-bit word by a code that preserves the order of the n-grams, so one vectorised sort orders
the n-grams of all lengths. The code has a variable length, in digits of four bits: frequent symbols take one digit,
so that 8 to 12 characters fit; the few windows that do not fit continue in further words. Of a large text, one range
of words after another is collected and sorted. Threads share the work, because NumPy sorts without holding the global
interpreter lock: each packs a piece of the text, then sorts a part of the range. The result does not depend on the
number of ranges and threads.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from charlm.progress import Tell
from charlm.ranks import BY_ITSELF, Ranks
from charlm.threads import Workers

Integers = npt.NDArray[np.integer[Any]]
WINDOWS_PER_CHUNK = 1 << 15  # packed at a time, small enough for the processor's cache
MIN_WINDOWS_PER_THREAD = 1 << 17
SAMPLED_SYMBOLS = 8  # of a window, to find out how many different ones there are
SHARES_PER_THREAD = 2
"""More than one, because shares are not quite equal and other programs may slow down one of the threads."""
CONTINUATION_BITS = np.uint64(0x8888_8888_8888_8888)  # the top bit of each digit: set if the symbol has another digit
ALL_BITS = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


class Code(NamedTuple):
    """A word for each symbol, ascending: its digits, base 8, from the top; all but the last have their top bit set."""

    words: Integers  # (A,) uint64
    bits: Integers  # (A,) uint64, how many of the 64 are used

    def symbols(self) -> tuple[Integers, int]:
        """A table from the top bits of a word to its first symbol, and the number of these bits."""
        width = int(self.bits.max())
        runs = np.diff(self.words >> np.uint64(64 - width), append=np.uint64(1 << width))
        symbols = np.arange(len(runs), dtype=np.min_scalar_type(len(runs)))
        return np.repeat(symbols, runs.astype(np.int64)), width


def code(alphabet: int) -> Code:
    """The shortest such code for `alphabet` symbols; frequent symbols are to take those of few bits."""
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
    """The ids (A,) that occur; ids[s] is that of symbol s. Frequent ids get symbols with short words."""
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


def distinct_windows(
    symbols: Integers,
    order: int,
    codebook: Code,
    max_prefixes: int,
    max_windows: int,
    pool: Workers,
    tell: Tell,
    ranks: Ranks = BY_ITSELF,
) -> list[Windows]:
    """The distinct windows, one entry for each range; of several `ranks`, each returns some of the ranges, in order.

    They are shortened until this rank has at most `max_prefixes` different prefixes of two symbols or more.
    """
    if pool.threads > 1:
        max_windows = max_windows * 4 // 5  # threads copy their shares of the range
    pairs = _sampled_pairs(symbols, codebook)
    low, high = _own_range(symbols, codebook, ranks)
    own = pairs[(pairs >= low) & (pairs < high)]
    size = len(symbols) * len(own) // max(1, len(pairs)) if ranks.size > 1 else len(symbols)  # of the range, about
    passes = max(1, -(-size // max_windows))
    shares = min(pool.threads, 1 + size // passes // MIN_WINDOWS_PER_THREAD)
    shares *= 1 if shares == 1 else SHARES_PER_THREAD
    inner = own[np.arange(1, passes * shares) * len(own) // (passes * shares)]
    bounds = np.concatenate(([low], np.unique(inner[inner > low]), [high]))
    parts: list[Windows] = []
    for first in range(0, len(bounds) - 1, shares):
        for done, windows in enumerate(
            _of_range(symbols, order, codebook, bounds[first : first + shares + 1], shares, pool), first + 1
        ):
            tell(done / len(bounds))
            parts.append(_shortened(windows, order))
            while order > 2 and sum(_prefixes(part, order) for part in parts) > max_prefixes:
                order -= 1
                parts = [_shortened(part, order) for part in parts]
    return parts


def agreed(parts: list[Windows], max_prefixes: int, max_of_all: int, ranks: Ranks) -> list[Windows]:
    """The windows of all ranks, shortened to one length at which no rank has too many prefixes, nor all together."""
    order = int(np.min(ranks.of_all(np.array([parts[0].rows.shape[1]]))))
    while True:
        parts = [_shortened(part, order) for part in parts]
        prefixes = ranks.of_all(np.array([sum(_prefixes(part, order) for part in parts)]))
        if order <= 2 or (np.max(prefixes) <= max_prefixes and np.sum(prefixes) <= max_of_all):
            return parts
        order -= 1


def _of_range(
    symbols: Integers, order: int, codebook: Code, bounds: Integers, shares: int, pool: Workers
) -> Iterator[Windows]:
    """The windows between the first and the last bound, one entry for each pair of neighbouring bounds."""
    places = pairwise(len(symbols) * share // shares for share in range(shares + 1))
    pieces = list(pool.map(partial(_packed, symbols, order, codebook, bounds[0], bounds[-1]), places))
    return pool.map(partial(_distinct, symbols, order, codebook, pieces), pairwise(bounds))


def _sampled_pairs(symbols: Integers, codebook: Code) -> Integers:
    """The words of pairs of neighbouring symbols at places all over the text, sorted."""
    sample = np.arange(0, len(symbols) - 1, max(1, len(symbols) >> 16))
    first, second = symbols[sample], symbols[sample + 1]
    return np.sort(codebook.words[first] | codebook.words[second] >> codebook.bits[first])


def _own_range(symbols: Integers, codebook: Code, ranks: Ranks) -> tuple[Any, Any]:
    """The words [low, high) of the windows of one rank, both words of pairs of symbols.

    All ranks have about as many different windows, which take more time and memory than their repetitions.
    """
    if ranks.size == 1:
        return np.uint64(0), ALL_BITS
    sample = np.arange(0, len(symbols), max(1, len(symbols) >> 18))
    words, used = np.zeros(len(sample), np.uint64), np.zeros(len(sample), np.uint64)
    for k in range(SAMPLED_SYMBOLS):
        symbol = symbols.take(sample + k, mode="clip")
        words |= codebook.words[symbol] >> used
        used += codebook.bits[symbol]
        if k == 1:
            pairs = words.copy()
    distinct = pairs[np.unique(words, return_index=True)[1]]
    bounds = [np.uint64(0), *(distinct[len(distinct) * rank // ranks.size] for rank in range(1, ranks.size)), ALL_BITS]
    return bounds[ranks.rank], bounds[ranks.rank + 1]


class _Packed(NamedTuple):
    """The windows that begin in a piece of the text, unsorted."""

    words: Integers  # of those that fit one
    places: Integers  # where the others begin
    long_words: Integers  # their first words


def _packed(symbols: Integers, order: int, codebook: Code, low: Any, high: Any, places: tuple[int, int]) -> _Packed:
    """The windows that begin at `places`, [begin, end), and whose words are in [low, high).

    A window that the end of the text cuts short is treated as one that does not fit.
    """
    begin, end = places
    packed, filled = np.empty(end - begin, np.uint64), 0
    long, long_words = [], []
    for at in range(begin, end, WINDOWS_PER_CHUNK):
        size = min(WINDOWS_PER_CHUNK, end - at)
        piece = symbols[at : at + size + order - 1]
        beyond = size + order - 1 - len(piece)
        piece = np.pad(piece, (0, beyond), constant_values=len(codebook.words) - 1)
        words, bits = codebook.words[piece], codebook.bits[piece]
        windows, used = words[:size].copy(), bits[:size].copy()
        there: Any = np.arange(size)
        for k in range(1, order):
            if k == 2:  # bounds are words of pairs, so the first two symbols decide whether a window is in the range
                inside = (windows >= low) & (windows < high)
                if not inside.all():
                    there = np.flatnonzero(inside)
                    windows, used = windows[there], used[there]
            where = slice(k, k + size) if len(there) == size else there + k
            windows |= words[where] >> used
            used += bits[where]
        inside = (windows >= low) & (windows < high)
        fits = (used <= 64) & (there < size - beyond)
        long.append(at + there[inside & ~fits])
        long_words.append(windows[inside & ~fits])
        windows = windows[inside & fits]
        packed[filled : filled + len(windows)] = windows
        filled += len(windows)
    return _Packed(packed[:filled], np.concatenate(long), np.concatenate(long_words))


def _distinct(symbols: Integers, order: int, codebook: Code, pieces: list[_Packed], bounds: tuple[Any, Any]) -> Windows:
    """The distinct windows in the pieces whose words are in [low, high). A single piece is sorted in place."""
    packed, places = pieces[0].words, pieces[0].places
    if len(pieces) > 1:
        packed = np.concatenate([_between(piece.words, piece.words, *bounds) for piece in pieces])
        places = np.concatenate([_between(piece.places, piece.long_words, *bounds) for piece in pieces])
    packed.sort()
    heads = _heads(packed)
    words = packed[heads]
    small = np.min_scalar_type(-len(symbols))
    counts = np.diff(heads, append=len(packed)).astype(small)
    long_words, long_counts, rows = _long(symbols, places, order, codebook)
    at = np.searchsorted(words, long_words)
    words = np.insert(words, at, long_words)
    counts = np.insert(counts, at, long_counts.astype(small))
    shared = _shared(words)
    long = at + np.arange(len(at))
    same = np.flatnonzero(long_words[1:] == long_words[:-1]) + 1
    shared[long[same]] = (rows[same] == rows[same - 1]).argmin(1)
    return Windows(words, counts, shared, long, rows)


def _between(values: Integers, words: Integers, low: Any, high: Any) -> Integers:
    """The values whose words are in [low, high)."""
    chunks = [slice(begin, begin + WINDOWS_PER_CHUNK) for begin in range(0, len(words), WINDOWS_PER_CHUNK)]
    return np.concatenate(
        [values[:0], *(values[chunk][(words[chunk] >= low) & (words[chunk] < high)] for chunk in chunks)]
    )


def _long(symbols: Integers, places: Integers, order: int, codebook: Code) -> tuple[Integers, Integers, Integers]:
    """The distinct windows at these places, sorted: their first words, counts and symbols (L, order)."""
    rows = np.full((len(places), order), len(codebook.words) - 1, symbols.dtype)
    for k in range(order):
        there = places + k < len(symbols)
        rows[there, k] = symbols[places[there] + k]
    used = np.zeros(len(places), np.uint64)
    words = np.zeros((order * int(codebook.bits.max()) // 64 + 2, len(places)), np.uint64)
    for column in rows.T:
        word, left = used // 64, used % 64
        np.bitwise_or.at(words, (word, np.arange(len(places))), codebook.words[column] >> left)
        np.bitwise_or.at(words, (word + 1, np.arange(len(places))), codebook.words[column] << 64 - left)
        used += codebook.bits[column]
    order_ = np.lexsort(words[::-1])
    rows = rows[order_]
    heads = np.flatnonzero(np.append(True, (rows[1:] != rows[:-1]).any(1))[: len(rows)])
    return words[0, order_[heads]], np.diff(heads, append=len(rows)), rows[heads]


def _heads(words: Integers) -> npt.NDArray[np.int64]:
    """The index at which each run of equal words begins."""
    return np.flatnonzero(np.append(True, words[1:] != words[:-1])[: len(words)])


def _shared(words: Integers) -> Integers:
    """How many symbols each word, if it differs from the one before, begins with as that one does; 0 for the first."""
    shared = np.zeros(len(words), np.uint8)
    for begin in range(0, len(words), WINDOWS_PER_CHUNK):
        part = words[begin : begin + WINDOWS_PER_CHUNK]
        previous = words[begin - 1 : begin - 1 + len(part)] if begin else np.append(~words[:1], part[:-1])
        differ = part ^ previous
        for shift in (1, 2, 4, 8, 16, 32, 3):  # sets all bits from the first that differs on, and the rest of its digit
            differ |= differ >> shift if shift != 3 else differ << shift
        shared[begin : begin + WINDOWS_PER_CHUNK] = np.bitwise_count(~(part | differ) & CONTINUATION_BITS)
    return shared


def _shortened(windows: Windows, order: int) -> Windows:
    """The distinct windows of `order` symbols, given those of `order` symbols or more."""
    if windows.rows.shape[1] == order:
        return windows
    heads = np.flatnonzero(windows.shared < order)
    long = np.flatnonzero(windows.shared[windows.long] < order)
    return Windows(
        windows.words[heads],
        np.add.reduceat(windows.counts, heads),
        windows.shared[heads],
        np.searchsorted(heads, windows.long[long]),
        windows.rows[long, :order],
    )


def _prefixes(windows: Windows, order: int) -> int:
    """The number of different n-grams of 2 to `order` symbols that the windows begin with."""
    return int((order - np.maximum(windows.shared, 1)).sum(dtype=np.int64))
