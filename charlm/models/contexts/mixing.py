"""The probability of a turn at a node of the tree: what each context says of it, mixed by small networks.

Every context gives two numbers, stretch(p) = ln(p / (1 - p)) of what its slot or run is worth and of the slot itself.
MIXERS mixers, each with a weight set that something about the place selects, make a probability of them; one more mixer
makes one of theirs; two adjustments correct it (Mahoney's paq8 and lpaq describe such networks). Each weight goes a
step along the gradient of ln P after each turn.

Shapes: A symbols, C contexts, I inputs.
"""

import math

import numpy as np

from charlm.jit import inner_on_tuples
from charlm.models.contexts.carried import MATCH
from charlm.models.contexts.hashing import Number, context_hashes, entry_of, match_level, mix, selectors, text_at
from charlm.models.contexts.tables import (
    CONTEXTS,
    DEPTHS,
    EMPTY_SLOT,
    INPUTS,
    LEVEL_OF,
    LEVELS,
    MIXERS,
    RUN_LENGTHS,
    STEPS,
    Array,
    Model,
    Place,
)

MIXED = 255  # in place of how often a symbol has followed
NONE, ONE_SYMBOL, SLOT = 0, 1, 2  # what there is of a context
MAX_RUN_UPDATES = 30  # of a slot, for a run that becomes mixed
MIN_PROBABILITY = np.float32(1e-5)  # of a turn
MAX_STRETCHED = np.float32(12.0)
GRID_END = np.float32(STEPS - 1.001)  # of the adjustments, just inside the last step

STRETCHED = np.log((np.arange(4096) + 0.5) / (4095.5 - np.arange(4096))).astype(np.float32)


@inner_on_tuples
def squash(x: Number) -> Number:
    """1 / (1 + e^-x)."""
    return np.float32(1) / (np.float32(1) + np.float32(math.exp(-x)))


@inner_on_tuples
def stretch(p: Number) -> Number:
    """ln(p / (1 - p)), from a table."""
    return STRETCHED[np.int64(p * np.float32(4095.99))]


@inner_on_tuples
def check_of(x: Number) -> Number:
    """8 bits of a hash, never 0."""
    check = x & np.uint64(255)
    return check if check else np.uint64(1)


@inner_on_tuples
def find_run(runs: Array, x: Number) -> Number:
    """Where a context stands; -1: nowhere."""
    entry, check = entry_of(x, len(runs)), np.uint32(check_of(x))
    for near in range(4):
        if runs[entry ^ near] & np.uint32(255) == check:
            return entry ^ near
    return -1


@inner_on_tuples
def put_run(runs: Array, i: int, x: Number, symbol: int, often: int) -> None:
    """A context that a symbol has followed so often, at i or, if that is -1, in place of the rarest near it."""
    if i < 0:
        entry = entry_of(x, len(runs))
        fewest: Number = 256
        for near in range(4):
            there = np.int64(runs[entry ^ near] >> np.uint32(8)) & 255 if runs[entry ^ near] else -1
            if there < fewest:
                i, fewest = entry ^ near, there
    runs[i] = np.uint32(symbol << 16 | often << 8 | np.int64(check_of(x)))


@inner_on_tuples
def find_slot(checks: Array, x: Number) -> Number:
    """Where a context at a node stands; -1: nowhere."""
    entry, check = entry_of(x, len(checks)), np.uint8(check_of(x))
    for near in range(4):
        if checks[entry ^ near] == check:
            return entry ^ near
    return -1


@inner_on_tuples
def look_up(x: Number, m: Model) -> tuple[Number, Number]:
    """Where a context at a node stands among this text's slots, -1: nowhere; and its slot, or else the model's."""
    i = find_slot(m.checks, x)
    if i >= 0:
        return i, m.slots[i]
    j = find_slot(m.base_checks, x)
    return i, m.base_slots[j] if j >= 0 else EMPTY_SLOT


@inner_on_tuples
def put_slot(slots: Array, checks: Array, i: int, x: Number, value: Number) -> None:
    """A slot at i or, if that is -1, in place of what was updated least near it."""
    if i < 0:
        entry = entry_of(x, len(checks))
        fewest: Number = 4096
        for near in range(4):
            updates = np.int64(slots[entry ^ near] & np.uint32(1023)) if checks[entry ^ near] else -1
            if updates < fewest:
                i, fewest = entry ^ near, updates
        checks[i] = np.uint8(check_of(x))
    slots[i] = value


@inner_on_tuples
def updated(slot: Number, turn: Number, max_updates: Number) -> Number:
    """The slot after one turn more: P goes 1 / (n + 1.5) of the way, n updates before."""
    n, p = np.int64(slot & np.uint32(1023)), np.int64(slot >> np.uint32(10))
    p += np.int64(((4194303 if turn else 0) - p) / (n + 1.5))
    return np.uint32(p << 10 | min(n + 1, max_updates))


@inner_on_tuples
def enter(h: Array, t: int, start: int, s: Array, begin: int, links: Array, m: Model, place: Place) -> None:
    """Look up all that is known of the place after h[t]; `leave` before the next one."""
    up = context_hashes(h, t, start, s, m.folded, begin, links, place.hashes)
    selectors(h, t, start, s, m.kinds, up, place.chosen)
    place.order[0] = 0
    for k in range(CONTEXTS):
        i = place.entry[k] = find_run(m.runs, place.hashes[k])
        j = -1 if i >= 0 else find_run(m.base_runs, place.hashes[k])
        if i < 0 and j < 0:
            place.kind[k] = NONE
            continue
        run = m.runs[i] if i >= 0 else m.base_runs[j]
        if k < 8:
            place.order[0] = k
        often = np.int64(run >> np.uint32(8)) & 255
        place.kind[k] = SLOT if often == MIXED else ONE_SYMBOL
        place.often[k] = often
        expect(m, place, k, np.int64(run >> np.uint32(16)), 1)
    place.order[1] = match_level(s)
    if place.order[1]:
        expect(m, place, CONTEXTS, np.int64(text_at(m, s[MATCH])), 1)


@inner_on_tuples
def expect(m: Model, place: Place, k: int, symbol: Number, sign: int) -> None:
    """Mark the path of the symbol that context k expects; sign 0: take the marks away."""
    place.symbol[k] = symbol
    for step in range(m.depth[symbol]):
        place.turn[m.nodes[symbol, step], k] = sign * (1 + m.bits[symbol, step])


@inner_on_tuples
def leave(m: Model, place: Place) -> None:
    """Take all marks away."""
    for k in range(CONTEXTS):
        if place.kind[k] != NONE:
            expect(m, place, k, place.symbol[k], 0)
    if place.order[1]:
        expect(m, place, CONTEXTS, place.symbol[CONTEXTS], 0)


@inner_on_tuples
def gather(node: int, m: Model, place: Place) -> None:
    """The inputs of the mixers at a node, those of the node above having been gathered before.

    Whoever has passed a node has passed those above: what has no slot there is not looked for here.
    """
    x, zero, depth, parent = place.inputs, np.float32(0), m.levels[node], m.parents[node]
    for k in range(CONTEXTS):
        x[2 * k] = x[2 * k + 1] = zero
        place.slot[k] = place.cell[k] = -1
        if place.kind[k] == SLOT:
            place.value[k] = EMPTY_SLOT
            if node == 0 or place.known[parent, k]:
                place.slot[k], place.value[k] = look_up(mix(place.hashes[k], np.uint64(node + 1)), m)
            n = place.value[k] & np.uint32(1023)
            place.known[node, k] = n > 0
            if n > 0:
                p = STRETCHED[place.value[k] >> np.uint32(20)]
                step = min(max(np.int64(p * np.float32(2) + np.float32(STEPS / 2)), 0), STEPS - 1)
                cell = place.cell[k] = ((k * LEVELS + LEVEL_OF[n]) * 3 + place.turn[node, k]) * STEPS + step
                x[2 * k], x[2 * k + 1] = stretch(m.slot_map[cell]), p
        elif place.turn[node, k]:
            level = 0 if depth == 0 else 1 if depth < 3 else 2 if depth < 5 else 3
            cell = place.cell[k] = (k * RUN_LENGTHS + min(place.often[k], RUN_LENGTHS - 1)) * DEPTHS + level
            p = stretch(m.run_map[cell])
            x[2 * k] = p if place.turn[node, k] == 2 else -p
    k = CONTEXTS
    x[2 * k] = np.float32(0.3)
    x[2 * k + 1] = x[2 * k + 2] = zero
    if place.turn[node, k]:
        p = m.match_map[place.order[1]]
        sign = np.float32(1) if place.turn[node, k] == 2 else np.float32(-1)
        x[2 * k + 1], x[2 * k + 2] = sign * stretch(p), sign * (p * np.float32(4) - np.float32(2))


@inner_on_tuples
def weight_sets(node: int, depth: int, place: Place, offsets: Array) -> None:
    """The weight set of each mixer at a node."""
    chosen, sets = place.chosen, place.sets
    sets[0] = node
    sets[1] = chosen[1] * 4 + min(depth, 3)
    sets[2] = (place.order[1] if place.turn[node, CONTEXTS] else 0) * 2 + (depth > 0)
    sets[3] = place.order[0] * 8 + min(depth, 7)
    for j in range(4, MIXERS):
        sets[j] = chosen[j]
    for j in range(MIXERS):
        sets[j] += offsets[j]


@inner_on_tuples
def grid_place(stretched: Number) -> Number:
    """Where a stretched probability lies among the STEPS of an adjustment."""
    return max(np.float32(0), min(GRID_END, (stretched + np.float32(8)) * np.float32(2)))


@inner_on_tuples
def turn_probability(node: int, m: Model, place: Place) -> Number:
    """P(1) at a node."""
    gather(node, m, place)
    weight_sets(node, m.levels[node], place, m.offsets)
    x, total = place.inputs, np.float32(0)
    for j in range(MIXERS):
        w, dot = m.weights[place.sets[j]], np.float32(0)
        for i in range(INPUTS):
            dot += w[i] * x[i]
        place.sums[j] = max(-MAX_STRETCHED, min(MAX_STRETCHED, dot))
        total += m.final[node, j] * place.sums[j]
    total = place.sums[MIXERS] = max(-MAX_STRETCHED, min(MAX_STRETCHED, total))
    at = grid_place(total)
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
    return max(MIN_PROBABILITY, min(np.float32(1) - MIN_PROBABILITY, p))


@inner_on_tuples
def learn_trust(node: int, turn: int, m: Model, place: Place, rates: Array) -> None:
    """Learn which way it went at the node that `turn_probability` was asked for last: mixers, adjustments, maps."""
    y = np.float32(turn)
    error = (y - squash(place.sums[MIXERS])) * rates[1]
    for j in range(MIXERS):
        m.final[node, j] += error * place.sums[j]
        w, step = m.weights[place.sets[j]], (y - squash(place.sums[j])) * rates[0]
        for i in range(INPUTS):
            w[i] += step * place.inputs[i]
    at = grid_place(place.sums[MIXERS])
    part, rate = at - np.float32(np.int64(at)), rates[3]
    a, b = place.edges[0], place.edges[1]
    m.adjust_1[a] += (y - m.adjust_1[a]) * rate * (np.float32(1) - part)
    m.adjust_1[a + 1] += (y - m.adjust_1[a + 1]) * rate * part
    m.adjust_2[b] += (y - m.adjust_2[b]) * rate * (np.float32(1) - part)
    m.adjust_2[b + 1] += (y - m.adjust_2[b + 1]) * rate * part
    maps = rates[2]
    for k in range(CONTEXTS):
        cell = place.cell[k]
        if cell < 0:
            continue
        if place.kind[k] == SLOT:
            m.slot_map[cell] += (y - m.slot_map[cell]) * maps
        else:
            right = np.float32(place.turn[node, k] == 1 + turn)
            m.run_map[cell] += (right - m.run_map[cell]) * maps
    if place.turn[node, CONTEXTS]:
        level, right = place.order[1], np.float32(place.turn[node, CONTEXTS] == 1 + turn)
        m.match_map[level] += (right - m.match_map[level]) * maps


@inner_on_tuples
def count_turn(node: int, turn: int, m: Model, place: Place, max_updates: int) -> None:
    """Count the turn in the slot of each mixed context at that node."""
    for k in range(CONTEXTS):
        if place.kind[k] == SLOT:
            x = mix(place.hashes[k], np.uint64(node + 1))
            i, slot = place.slot[k], place.value[k]
            if slot == EMPTY_SLOT:  # it was not looked for, perhaps
                i, slot = look_up(x, m)
            put_slot(m.slots, m.checks, i, x, updated(slot, turn, max_updates))


@inner_on_tuples
def count_symbol(symbol: int, m: Model, place: Place, max_updates: int) -> None:
    """Count which symbol followed each context: a run goes on, or becomes mixed."""
    for k in range(CONTEXTS):
        x = place.hashes[k]
        often: Number = MIXED
        if place.kind[k] == NONE:
            often = 1
        elif place.kind[k] == ONE_SYMBOL and place.symbol[k] == symbol:
            often = min(place.often[k] + 1, MIXED - 1)
        elif place.kind[k] == ONE_SYMBOL:
            count_path(x, place.symbol[k], min(place.often[k], MAX_RUN_UPDATES), m, max_updates)
            count_path(x, symbol, 1, m, max_updates)
        put_run(m.runs, place.entry[k], x, symbol, often)


@inner_on_tuples
def count_path(x: Number, symbol: Number, times: int, m: Model, max_updates: int) -> None:
    """Count a symbol so many times in the slots of a context along its path."""
    for step in range(m.depth[symbol]):
        at_node = mix(x, np.uint64(m.nodes[symbol, step] + 1))
        i, slot = look_up(at_node, m)
        for _ in range(times):
            slot = updated(slot, m.bits[symbol, step], max_updates)
        put_slot(m.slots, m.checks, i, at_node, slot)
