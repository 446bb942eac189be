"""Reading a stream of symbols: the one loop that learning, scoring and predicting go through.

Shapes: A symbols, N symbols read.
"""

import math
from typing import Any

import numpy as np

from charlm.models.contexts.hashing import advance, follow_match, inner, kernel
from charlm.models.contexts.mixing import (
    enter,
    learn_symbol,
    learn_turn,
    leave,
    new_place,
    turn_probability,
)
from charlm.models.contexts.tables import ALL, MIXERS, NOTHING, Array


@inner
def path_log_prob(
    symbol: int, learn: int, m: Any, tree: Any, place: Any, offsets: Array, sets: Array, rates: Array, most: int
) -> float:
    """ln P of a symbol, the sum over its path; and learn that it came, if so."""
    total = 0.0
    for step in range(tree.depth[symbol]):
        node, turn = tree.nodes[symbol, step], tree.bits[symbol, step]
        p = turn_probability(node, m, tree, place, offsets, sets)
        total += math.log(p if turn else np.float32(1) - p)
        if learn:
            learn_turn(node, turn, m, place, sets, rates, most, learn == ALL)
    if learn == ALL:
        learn_symbol(symbol, m, tree, place, most)
    return total


@inner
def spread(m: Any, tree: Any, place: Any, offsets: Array, sets: Array, turns: Array, row: Array) -> None:
    """ln P of every symbol into row (A,); turns (A, 2) is room for ln P of the turns."""
    for node in range(len(tree.parents)):
        p = turn_probability(node, m, tree, place, offsets, sets)
        turns[node, 0], turns[node, 1] = math.log(np.float32(1) - p), math.log(p)
    for symbol in range(len(row)):
        total = 0.0
        for step in range(tree.depth[symbol]):
            total += turns[tree.nodes[symbol, step], tree.bits[symbol, step]]
        row[symbol] = total


@kernel
def read(
    h: Array,
    first: int,
    last: int,
    start: int,
    s: Array,
    kinds: Array,
    folded: Array,
    m: Any,
    tree: Any,
    offsets: Array,
    rates: Array,
    most: int,
    learn: int,
    targets: Array,
    scores: Array,
    rows: Array,
) -> None:
    """Read h[first:last], whose text begins at h[start]; s is what is carried, changed in place.

    targets (N,), or (0,): ln P of those into scores (N,). rows (N, A), or (0, A): ln P of all symbols after each.
    With `learn` all is learned that was read, h being m.text: rates (4,) of the mixers, the last mixer, the maps and
    the adjustments; a slot's rate is at least 1 / most.
    """
    place, sets = new_place(len(kinds)), np.zeros(MIXERS, np.int64)
    leaves = len(tree.parents) + 1
    turns = np.zeros((leaves, 2))
    for t in range(first - 1 if learn and first > start else first, last):
        new = t >= first  # the one before was read by an earlier call, which did not know what follows it
        if new:
            advance(h[t], s, kinds, folded)
            follow_match(h, t, start, s, m.text, m.places, t + 1 if learn == ALL else 0)
        follower = h[t + 1] if learn and t + 1 < last and h[t + 1] < leaves else -1
        target = targets[t - first] if new and len(targets) else follower
        if target < 0 and not (new and len(rows)):
            continue
        enter(h, t, start, s, kinds, folded, m, tree, place)
        if new and len(rows):
            spread(m, tree, place, offsets, sets, turns, rows[t - first])
        for number in range(1 if target == follower or follower < 0 else 2):  # the target, then what follows
            symbol = follower if number else target
            if symbol < 0:
                continue
            log_prob = path_log_prob(
                symbol, learn if symbol == follower else NOTHING, m, tree, place, offsets, sets, rates, most
            )
            if number == 0 and new and len(targets):
                scores[t - first] = log_prob
        leave(tree, place)
