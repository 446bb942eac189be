"""What a model of contexts has learned, as arrays that the kernel reads and changes.

Shapes: A symbols, C contexts, I inputs of a mixer, N tokens of the text that was counted.
"""

import math
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

CONTEXTS = 37
REACH = 4096  # symbols that a place looks back at
INPUTS = 80  # two of each context, two of the match, a constant; the rest is 0: vector instructions take eights
MIXERS = 8
LEVELS = 16  # of how often a slot was updated
STEPS = 33  # of a stretched probability, from -8 to 8
RUN_LENGTHS = 16  # of how often a context was followed by one symbol only
DEPTHS = 4  # of a node, told apart in what runs are worth
MATCHES = 40  # of how long the match is
SETS = (0, 4, 2 * MATCHES, 72, 32 * 6, 32 * 6, 0, 512)
"""Weight sets of each mixer; where 0, and for each of the 4, one for every symbol."""
LEVEL_OF = np.array([n if n < 5 else min(LEVELS - 1, int(5 + 2 * math.log2(n / 5))) for n in range(1024)], np.uint8)
NOTHING, TRUST_ONLY, ALL = range(3)
"""What is learned: nothing; how far to trust what is counted; that and the counts."""
EMPTY_SLOT = np.uint32(1 << 31)  # probability one half, no updates


class Counts(NamedTuple):
    """What was counted. Hashed tables have a power of two of entries and are searched four entries at a time.

    runs        (R,) uint32: a context that one symbol has followed: the symbol << 16 | how often << 8 | check;
                MIXED in place of how often: several symbols have
    slots       (S,) uint32: a mixed context at a node of the tree: P(1) in units of 2^-22 << 10 | updates
    checks      (S,) uint8: which of the contexts and nodes with the same entry it is; 0: none
    text        (N,) int32: the symbols that were counted
    places      where the last 5 symbols, or 12, were met last
    """

    runs: Array
    slots: Array
    checks: Array
    text: Array
    places: Array


class Trust(NamedTuple):
    """How far to trust what was counted.

    slot_map    what slots turned out to be worth, by context, updates and probability
    run_map     the same of runs: P(the symbol comes again) by context, how often, and depth of the node
    match_map   the same of the match, by its length
    weights     (sets, I) of the first layer's mixers
    final       (A, MIXERS) of the second layer's, by node
    adjust_1    last adjustments (E STEPS,) by node and the last symbol, and by node and the last two
    adjust_2
    """

    slot_map: Array
    run_map: Array
    match_map: Array
    weights: Array
    final: Array
    adjust_1: Array
    adjust_2: Array

    def copied(self) -> "Trust":
        """The same in arrays of its own, to learn in."""
        return Trust(*(array.copy() for array in self))


class Model(NamedTuple):
    """All that the kernel knows before it reads, and what it changes when it learns: this text's counts, and the trust.

    It is one flat tuple, since the kernel takes its arrays by name everywhere.
    """

    kinds: Array  # (A + 2,) uint8 of each symbol, and of the two that stand for all others and for the boundary
    folded: Array  # (A + 2,) int32: the symbol in lower case
    nodes: Array  # of the tree, see `Tree`
    bits: Array
    depth: Array
    parents: Array
    levels: Array
    offsets: Array  # see `set_offsets`
    base_runs: Array  # counted before this text
    base_slots: Array
    base_checks: Array
    base_text: Array
    base_places: Array
    runs: Array  # counted in this text
    slots: Array
    checks: Array
    text: Array
    places: Array
    slot_map: Array  # trust
    run_map: Array
    match_map: Array
    weights: Array
    final: Array
    adjust_1: Array
    adjust_2: Array


def set_offsets(symbols: int) -> Array:
    """(MIXERS + 1,): the first weight set of each mixer, then the end."""
    sizes = [symbols + 1, 4 * (symbols + 1), *SETS[2:6], symbols + 1, SETS[7]]
    return np.cumsum([0, *sizes], dtype=np.int64)


def bits_for(entries: float, max_bits: int) -> int:
    """The power of two that holds so many entries, at least 2^10 and at most 2^max_bits."""
    return min(max_bits, max(10, math.ceil(math.log2(max(1.0, entries)))))


def new_counts(length: int, room: int = 1) -> Counts:
    """Nothing counted yet; sized for a text of so many symbols, with `room` times as many entries as usual."""
    size = bits_for(13 * length * room, 27)
    return Counts(
        runs=np.zeros(1 << bits_for(6 * length * room, 26), np.uint32),
        slots=np.zeros(1 << size, np.uint32),
        checks=np.zeros(1 << size, np.uint8),
        text=np.zeros(length, np.int32),
        places=np.zeros(1 << bits_for(length, 24), np.int32),
    )


NO_COUNTS = Counts(
    *(np.zeros(size, kind) for size, kind in zip((4, 4, 4, 0, 4), ("u4", "u4", "u1", "i4", "i4"), strict=True))
)
"""Of no text at all."""


def new_trust(symbols: int, length: int) -> Trust:
    """Before anything was learned from a text of so many symbols."""
    grid = 1 / (1 + np.exp(-(np.arange(STEPS) - STEPS // 2) / 2))
    adjusted = 1 << bits_for(length / 16, 14)
    weights = np.zeros((int(set_offsets(symbols)[-1]), INPUTS), np.float32)
    weights[:, : 2 * CONTEXTS + 2 : 2] = 0.15
    return Trust(
        slot_map=np.tile(grid, CONTEXTS * LEVELS * 3).astype(np.float32),
        run_map=np.full(CONTEXTS * RUN_LENGTHS * DEPTHS, 0.85, np.float32),
        match_map=np.full(MATCHES, 0.8, np.float32),
        weights=weights,
        final=np.full((symbols, MIXERS), 1 / MIXERS, np.float32),
        adjust_1=np.tile(grid, adjusted).astype(np.float32),
        adjust_2=np.tile(grid, adjusted).astype(np.float32),
    )


class Place(NamedTuple):
    """What is known of a place before its symbol is: per context, and at the node that is looked at."""

    hashes: Array  # (C,) uint64
    kind: Array  # (C,) what there is: NONE, ONE_SYMBOL, SLOT
    entry: Array  # (C,) where in the `runs` of this text, -1: not there
    symbol: Array  # (C + 1,) of a run; the last is the match's
    often: Array  # (C,) how often it has followed
    turn: Array  # (A, C + 1) uint8: 1 + the turn at each node that runs and match expect, 0: none
    chosen: Array  # (MIXERS,) weight sets
    order: Array  # (2,) the highest order that is known, and the level of the match
    inputs: Array  # (I,)
    slot: Array  # (C,) where in the `slots` of this text at the node, -1: not there
    value: Array  # (C,) uint32: the slot itself, EMPTY_SLOT: there is none
    known: Array  # (A, C) uint8: whether there was one at each node
    cell: Array  # (C,) of `slot_map` or `run_map`, -1: none
    sums: Array  # (MIXERS + 1,) what the mixers say, stretched
    edges: Array  # (2,) cells of the adjustments
    sets: Array  # (MIXERS,) the weight set of each mixer at the node
    turns: Array  # (A, 2) ln P of the turns at each node
    last: Array  # (A + 2,) int32: the latest place of each symbol


def new_place(symbols: int) -> Place:
    """Room for a place."""
    return Place(
        np.zeros(CONTEXTS, np.uint64),
        np.zeros(CONTEXTS, np.int64),
        np.zeros(CONTEXTS, np.int64),
        np.zeros(CONTEXTS + 1, np.int64),
        np.zeros(CONTEXTS, np.int64),
        np.zeros((symbols, CONTEXTS + 1), np.uint8),
        np.zeros(MIXERS, np.int64),
        np.zeros(2, np.int64),
        np.zeros(INPUTS, np.float32),
        np.zeros(CONTEXTS, np.int64),
        np.zeros(CONTEXTS, np.uint32),
        np.zeros((symbols, CONTEXTS), np.uint8),
        np.zeros(CONTEXTS, np.int64),
        np.zeros(MIXERS + 1, np.float32),
        np.zeros(2, np.int64),
        np.zeros(MIXERS, np.int64),
        np.zeros((symbols, 2)),
        np.zeros(symbols, np.int32),
    )
