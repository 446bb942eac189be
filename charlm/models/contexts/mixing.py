"""The probability of a turn at a node of the tree: what each context says of it, mixed by small networks.

Every context gives two numbers, stretch(p) = ln(p / (1 - p)) of what its slot or run is worth and of the slot itself.
MIXERS mixers, each with a weight set that something about the place selects, make a probability of them; one more mixer
makes one of theirs; two adjustments correct it (Mahoney's paq8 and lpaq describe such networks). Each weight goes a
step along the gradient of ln P after each turn.

Shapes: A symbols, C contexts, I inputs.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from charlm.models.contexts.hashing import (
    MATCH,
    Number,
    context_hashes,
    inner,
    match_level,
    mix,
    selectors,
)
from charlm.models.contexts.tables import (
    CONTEXTS,
    DEPTHS,
    EMPTY_SLOT,
    INPUTS,
    LEVEL_OF,
    LEVELS,
    MIXERS,
    RUNS,
    STEPS,
    Array,
)

MIXED = 255  # in place of how often a symbol has followed
NONE, RUN, SLOT = 0, 1, 2  # what there is of a context
LEAST = np.float32(1e-5)  # probability of a turn
BIGGEST = np.float32(12.0)  # stretched probability

STRETCHED = np.log((np.arange(4096) + 0.5) / (4095.5 - np.arange(4096))).astype(np.float32)


class Place(NamedTuple):
    """What is known of a place before its symbol is: per context, and at the node that is looked at."""

    hashes: Array  # (C,) uint64
    found: Array  # (C,) what there is: NONE, RUN, SLOT
    entry: Array  # (C,) where in `runs`, -1: nowhere
    symbol: Array  # (C + 1,) of a run; the last is the match's
    often: Array  # (C,) how often it has followed
    turn: Array  # (A, C + 1) uint8: 1 + the turn at each node that runs and match expect, 0: none
    chosen: Array  # (MIXERS,) weight sets
    order: Array  # (2,) the highest order that is known, and the level of the match
    inputs: Array  # (I,)
    slot: Array  # (C,) at the node, -1: none
    known: Array  # (A, C) uint8: whether there was one at each node
    cell: Array  # (C,) of `slot_map` or `run_map`, -1: none
    sums: Array  # (MIXERS + 1,) what the mixers say, stretched
    edges: Array  # (2,) cells of the adjustments


@inner
def new_place(symbols: int) -> Any:
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
        np.zeros((symbols, CONTEXTS), np.uint8),
        np.zeros(CONTEXTS, np.int64),
        np.zeros(MIXERS + 1, np.float32),
        np.zeros(2, np.int64),
    )


@inner
def squash(x: Number) -> Number:
    """1 / (1 + e^-x)."""
    return np.float32(1) / (np.float32(1) + np.float32(math.exp(-x)))


@inner
def stretch(p: Number) -> Number:
    """ln(p / (1 - p)), from a table."""
    return STRETCHED[np.int64(p * np.float32(4095.99))]


@inner
def check_of(x: Number) -> Number:
    """8 bits of a hash, never 0."""
    check = x & np.uint64(255)
    return check if check else np.uint64(1)


@inner
def find_run(runs: Array, x: Number) -> Number:
    """Where a context stands; -1: nowhere."""
    base, check = np.int64((x >> np.uint64(20)) & np.uint64(len(runs) - 1)), np.uint32(check_of(x))
    for near in range(4):
        if runs[base ^ near] & np.uint32(255) == check:
            return base ^ near
    return -1


@inner
def add_run(runs: Array, x: Number, symbol: int) -> None:
    """A context that a symbol has followed once; the rarest near it makes room."""
    base = np.int64((x >> np.uint64(20)) & np.uint64(len(runs) - 1))
    best: Number = base
    fewest: Number = 256
    for near in range(4):
        often = np.int64(runs[base ^ near] >> np.uint32(8)) & 255 if runs[base ^ near] else -1
        if often < fewest:
            best, fewest = base ^ near, often
    runs[best] = np.uint32(symbol << 16 | 1 << 8 | np.int64(check_of(x)))


@inner
def find_slot(checks: Array, x: Number) -> Number:
    """Where a context at a node stands; -1: nowhere."""
    base, check = np.int64((x >> np.uint64(20)) & np.uint64(len(checks) - 1)), np.uint8(check_of(x))
    for near in range(4):
        if checks[base ^ near] == check:
            return base ^ near
    return -1


@inner
def slot_of(slots: Array, checks: Array, x: Number) -> Number:
    """Where it stands, now or from now on: what was updated least near it makes room."""
    i = find_slot(checks, x)
    if i >= 0:
        return i
    base = np.int64((x >> np.uint64(20)) & np.uint64(len(checks) - 1))
    best: Number = base
    fewest: Number = 4096
    for near in range(4):
        updates = np.int64(slots[base ^ near] & np.uint32(1023)) if checks[base ^ near] else -1
        if updates < fewest:
            best, fewest = base ^ near, updates
    checks[best] = np.uint8(check_of(x))
    slots[best] = EMPTY_SLOT
    return best


@inner
def update_slot(slots: Array, i: int, turn: Number, most: Number) -> None:
    """One turn more: P goes 1 / (n + 1.5) of the way, n updates before."""
    n, p = np.int64(slots[i] & np.uint32(1023)), np.int64(slots[i] >> np.uint32(10))
    p += np.int64(((4194303 if turn else 0) - p) / (n + 1.5))
    slots[i] = np.uint32(p << 10 | min(n + 1, most))


@inner
def enter(h: Array, t: int, start: int, s: Array, kinds: Array, folded: Array, m: Any, tree: Any, place: Any) -> None:
    """Look up all that is known of the place after h[t]; `leave` before the next one."""
    up = context_hashes(h, t, start, s, folded, place.hashes)
    selectors(h, t, start, s, kinds, up, place.chosen)
    place.order[0] = 0
    for k in range(CONTEXTS):
        i = place.entry[k] = find_run(m.runs, place.hashes[k])
        if i < 0:
            place.found[k] = NONE
            continue
        if k < 8:
            place.order[0] = k
        often = np.int64(m.runs[i] >> np.uint32(8)) & 255
        place.found[k] = SLOT if often == MIXED else RUN
        place.often[k] = often
        expect(tree, place, k, np.int64(m.runs[i] >> np.uint32(16)), 1)
    place.order[1] = match_level(s)
    if place.order[1]:
        expect(tree, place, CONTEXTS, m.text[s[MATCH]], 1)


@inner
def expect(tree: Any, place: Any, k: int, symbol: Number, sign: int) -> None:
    """Mark the path of the symbol that context k expects; sign 0: take the marks away."""
    place.symbol[k] = symbol
    for step in range(tree.depth[symbol]):
        place.turn[tree.nodes[symbol, step], k] = sign * (1 + tree.bits[symbol, step])


@inner
def leave(tree: Any, place: Any) -> None:
    """Take all marks away."""
    for k in range(CONTEXTS):
        if place.found[k] != NONE:
            expect(tree, place, k, place.symbol[k], 0)
    if place.order[1]:
        expect(tree, place, CONTEXTS, place.symbol[CONTEXTS], 0)


@inner
def gather(node: int, m: Any, tree: Any, place: Any) -> None:
    """The inputs of the mixers at a node, those of the node above having been gathered before.

    Whoever has passed a node has passed those above: what has no slot there is not looked for here.
    """
    x, zero, depth, parent = place.inputs, np.float32(0), tree.levels[node], tree.parents[node]
    for k in range(CONTEXTS):
        x[2 * k] = x[2 * k + 1] = zero
        place.slot[k] = place.cell[k] = -1
        if place.found[k] == SLOT:
            i = -1
            if node == 0 or place.known[parent, k]:
                i = place.slot[k] = find_slot(m.checks, mix(place.hashes[k], np.uint64(node + 1)))
            place.known[node, k] = i >= 0
            if i >= 0:
                p, n = STRETCHED[m.slots[i] >> np.uint32(20)], m.slots[i] & np.uint32(1023)
                step = min(max(np.int64(p * np.float32(2) + np.float32(STEPS / 2)), 0), STEPS - 1)
                cell = place.cell[k] = ((k * LEVELS + LEVEL_OF[n]) * 3 + place.turn[node, k]) * STEPS + step
                x[2 * k], x[2 * k + 1] = stretch(m.slot_map[cell]), p
        elif place.turn[node, k]:
            level = 0 if depth == 0 else 1 if depth < 3 else 2 if depth < 5 else 3
            cell = place.cell[k] = (k * RUNS + min(place.often[k], RUNS - 1)) * DEPTHS + level
            p = stretch(m.run_map[cell])
            x[2 * k] = p if place.turn[node, k] == 2 else -p
    k = CONTEXTS
    x[2 * k] = np.float32(0.3)
    x[2 * k + 1] = x[2 * k + 2] = zero
    if place.turn[node, k]:
        p = m.match_map[place.order[1]]
        sign = np.float32(1) if place.turn[node, k] == 2 else np.float32(-1)
        x[2 * k + 1], x[2 * k + 2] = sign * stretch(p), sign * (p * np.float32(4) - np.float32(2))


@inner
def weight_sets(node: int, depth: int, place: Any, offsets: Array, sets: Array) -> None:
    """The weight set of each mixer at a node, into sets (MIXERS,)."""
    chosen = place.chosen
    sets[0] = node
    sets[1] = chosen[1] * 4 + min(depth, 3)
    sets[2] = (place.order[1] if place.turn[node, CONTEXTS] else 0) * 2 + (depth > 0)
    sets[3] = place.order[0] * 8 + min(depth, 7)
    for j in range(4, MIXERS):
        sets[j] = chosen[j]
    for j in range(MIXERS):
        sets[j] += offsets[j]


@inner
def turn_probability(node: int, m: Any, tree: Any, place: Any, offsets: Array, sets: Array) -> Number:
    """P(1) at a node."""
    gather(node, m, tree, place)
    weight_sets(node, tree.levels[node], place, offsets, sets)
    x, total = place.inputs, np.float32(0)
    for j in range(MIXERS):
        w, dot = m.weights[sets[j]], np.float32(0)
        for i in range(INPUTS):
            dot += w[i] * x[i]
        place.sums[j] = max(-BIGGEST, min(BIGGEST, dot))
        total += m.final[node, j] * place.sums[j]
    total = place.sums[MIXERS] = max(-BIGGEST, min(BIGGEST, total))
    at = max(np.float32(0), min(np.float32(STEPS - 1.001), (total + np.float32(8)) * np.float32(2)))
    low = np.int64(at)
    part = at - np.float32(low)
    once = mix(mix(np.uint64(node + 1), np.uint64(place.chosen[1])), np.uint64(5))
    twice = mix(once, np.uint64(place.chosen[6]))
    mask = np.uint64(len(m.adjust_1) // STEPS - 1)
    a = place.edges[0] = np.int64((once >> np.uint64(30)) & mask) * STEPS + low
    b = place.edges[1] = np.int64((twice >> np.uint64(30)) & mask) * STEPS + low
    first = m.adjust_1[a] + part * (m.adjust_1[a + 1] - m.adjust_1[a])
    second = m.adjust_2[b] + part * (m.adjust_2[b + 1] - m.adjust_2[b])
    p = np.float32(0.5) * squash(total) + np.float32(0.25) * (first + second)
    return max(LEAST, min(np.float32(1) - LEAST, p))


@inner
def learn_turn(node: int, turn: int, m: Any, place: Any, sets: Array, rates: Array, most: int, remember: bool) -> None:
    """Learn which way it went at the node that `turn_probability` was asked for last."""
    y = np.float32(turn)
    error = (y - squash(place.sums[MIXERS])) * rates[1]
    for j in range(MIXERS):
        m.final[node, j] += error * place.sums[j]
        w, step = m.weights[sets[j]], (y - squash(place.sums[j])) * rates[0]
        for i in range(INPUTS):
            w[i] += step * place.inputs[i]
    at = max(np.float32(0), min(np.float32(STEPS - 1.001), (place.sums[MIXERS] + np.float32(8)) * np.float32(2)))
    part, rate = at - np.float32(np.int64(at)), rates[3]
    a, b = place.edges[0], place.edges[1]
    m.adjust_1[a] += (y - m.adjust_1[a]) * rate * (np.float32(1) - part)
    m.adjust_1[a + 1] += (y - m.adjust_1[a + 1]) * rate * part
    m.adjust_2[b] += (y - m.adjust_2[b]) * rate * (np.float32(1) - part)
    m.adjust_2[b + 1] += (y - m.adjust_2[b + 1]) * rate * part
    maps = rates[2]
    for k in range(CONTEXTS):
        cell = place.cell[k]
        if place.found[k] == SLOT:
            if cell >= 0:
                m.slot_map[cell] += (y - m.slot_map[cell]) * maps
            i = place.slot[k]
            if remember:
                if i < 0:
                    i = slot_of(m.slots, m.checks, mix(place.hashes[k], np.uint64(node + 1)))
                update_slot(m.slots, i, turn, most)
        elif cell >= 0:
            right = np.float32(place.turn[node, k] == 1 + turn)
            m.run_map[cell] += (right - m.run_map[cell]) * maps
    if place.turn[node, CONTEXTS]:
        level, right = place.order[1], np.float32(place.turn[node, CONTEXTS] == 1 + turn)
        m.match_map[level] += (right - m.match_map[level]) * maps


@inner
def learn_symbol(symbol: int, m: Any, tree: Any, place: Any, most: int) -> None:
    """Learn which symbol followed each context: a run goes on, or becomes mixed."""
    for k in range(CONTEXTS):
        i = place.entry[k]
        if i < 0:
            add_run(m.runs, place.hashes[k], symbol)
        elif place.found[k] == RUN:
            if place.symbol[k] == symbol:
                if place.often[k] < MIXED - 1:
                    m.runs[i] += np.uint32(256)
                continue
            for turns in range(2):
                which, times = (place.symbol[k], min(place.often[k], 30)) if turns == 0 else (symbol, 1)
                for step in range(tree.depth[which]):
                    x = mix(place.hashes[k], np.uint64(tree.nodes[which, step] + 1))
                    slot = slot_of(m.slots, m.checks, x)
                    for _ in range(times):
                        update_slot(m.slots, slot, tree.bits[which, step], most)
            m.runs[i] = np.uint32(symbol << 16 | MIXED << 8 | np.int64(m.runs[i] & np.uint32(255)))
        else:
            m.runs[i] = np.uint32(symbol << 16 | MIXED << 8 | np.int64(m.runs[i] & np.uint32(255)))
