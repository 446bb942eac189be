"""What a model of contexts has learned, as arrays that the kernels read and change.

Shapes: A symbols, C contexts, I inputs of a mixer, N tokens of the training text.
"""

import math
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

CONTEXTS = 37
REACH = 4096  # symbols that a place looks back at
CARRIED = 19  # numbers that are carried along a text, see `hashing`
INPUTS = 80  # two of each context, two of the match, a constant; the rest is 0: vector instructions take eights
MIXERS = 8
LEVELS = 16  # of how often a slot was updated
STEPS = 33  # of a stretched probability, from -8 to 8
RUNS = 16  # of how often a context was followed by one symbol only
DEPTHS = 4  # of a node, told apart in what runs are worth
MATCHES = 40  # of how long the match is
SETS = (0, 4, 2 * MATCHES, 72, 32 * 6, 32 * 6, 0, 512)
"""Weight sets of each mixer; where 0, and for each of the 4, one for every symbol."""
LEVEL_OF = np.array([n if n < 5 else min(LEVELS - 1, int(5 + 2 * math.log2(n / 5))) for n in range(1024)], np.uint8)
NOTHING, WEIGHTS, ALL = range(3)
"""What is learned: nothing; how far to trust what is counted; that and the counts."""
EMPTY_SLOT = np.uint32(1 << 31)  # probability one half, no updates


class Tables(NamedTuple):
    """All that is learned. Hashed tables have a power of two of entries and are searched four entries at a time.

    runs        (R,) uint32: a context that one symbol has followed: the symbol << 16 | how often << 8 | check;
                MIXED in place of how often: several symbols have
    slots       (S,) uint32: a mixed context at a node of the tree: P(1) in units of 2^-22 << 10 | updates
    checks      (S,) uint8: which of the contexts and nodes with the same entry it is; 0: none
    slot_map    what slots turned out to be worth, by context, updates and probability
    run_map     the same of runs: P(the symbol comes again) by context, how often, and depth of the node
    match_map   the same of the match, by its length
    weights     (sets, I) of the first layer's mixers
    final       (A, MIXERS) of the second layer's, by node
    adjust_1    last adjustments (E STEPS,) by node and the last symbol, and by node and the last two
    adjust_2
    text        what was learned from, as symbols
    places      where in the text the last 5 symbols, or 12, were met last
    """

    runs: Array
    slots: Array
    checks: Array
    slot_map: Array
    run_map: Array
    match_map: Array
    weights: Array
    final: Array
    adjust_1: Array
    adjust_2: Array
    text: Array
    places: Array


TRUST = ("slot_map", "run_map", "match_map", "weights", "final", "adjust_1", "adjust_2")
"""The tables that say how far to trust what the others have counted."""


def set_offsets(symbols: int) -> Array:
    """(MIXERS + 1,): the first weight set of each mixer, then the end."""
    sizes = [symbols + 1, 4 * (symbols + 1), *SETS[2:6], symbols + 1, SETS[7]]
    return np.cumsum([0, *sizes], dtype=np.int64)


def bits_for(entries: float, most: int) -> int:
    """The power of two that holds so many entries, at least 2^10 and at most 2^most."""
    return min(most, max(10, math.ceil(math.log2(max(1.0, entries)))))


def new_tables(symbols: int, length: int) -> Tables:
    """Nothing learned yet; sized for a text of so many symbols."""
    grid = 1 / (1 + np.exp(-(np.arange(STEPS) - STEPS // 2) / 2))
    size = bits_for(13 * length, 27)
    adjusted = 1 << bits_for(length / 16, 14)
    weights = np.zeros((int(set_offsets(symbols)[-1]), INPUTS), np.float32)
    weights[:, : 2 * CONTEXTS + 2 : 2] = 0.15
    return Tables(
        runs=np.zeros(1 << bits_for(6 * length, 26), np.uint32),
        slots=np.full(1 << size, EMPTY_SLOT, np.uint32),
        checks=np.zeros(1 << size, np.uint8),
        slot_map=np.tile(grid, CONTEXTS * LEVELS * 3).astype(np.float32),
        run_map=np.full(CONTEXTS * RUNS * DEPTHS, 0.85, np.float32),
        match_map=np.full(MATCHES, 0.8, np.float32),
        weights=weights,
        final=np.full((symbols, MIXERS), 1 / MIXERS, np.float32),
        adjust_1=np.tile(grid, adjusted).astype(np.float32),
        adjust_2=np.tile(grid, adjusted).astype(np.float32),
        text=np.zeros(length, np.int32),
        places=np.zeros(1 << bits_for(length, 24), np.int32),
    )
