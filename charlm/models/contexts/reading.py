"""Reading a stream of symbols: the one loop that learning, scoring and predicting go through.

Shapes: A symbols, N symbols read.
"""

import math

import numpy as np

from charlm.jit import inner_on_tuples, kernel_on_tuples
from charlm.models.contexts.hashing import advance, follow_match, link
from charlm.models.contexts.mixing import count_symbol, count_turn, enter, learn_trust, leave, turn_probability
from charlm.models.contexts.tables import ALL, NOTHING, Array, Model, Place


@inner_on_tuples
def path_log_prob(symbol: int, learn: int, m: Model, place: Place, rates: Array, max_updates: int) -> float:
    """ln P of a symbol, the sum over its path; and learn that it came, as `learn` says."""
    total = 0.0
    for step in range(m.depth[symbol]):
        node, turn = m.nodes[symbol, step], m.bits[symbol, step]
        p = turn_probability(node, m, place)
        total += math.log(p if turn else np.float32(1) - p)
        if learn != NOTHING:
            learn_trust(node, turn, m, place, rates)
        if learn == ALL:
            count_turn(node, turn, m, place, max_updates)
    if learn == ALL:
        count_symbol(symbol, m, place, max_updates)
    return total


@inner_on_tuples
def spread(m: Model, place: Place, row: Array) -> None:
    """ln P of every symbol into row (A,)."""
    for node in range(len(m.parents)):
        p = turn_probability(node, m, place)
        place.turns[node, 0], place.turns[node, 1] = math.log(np.float32(1) - p), math.log(p)
    for symbol in range(len(row)):
        total = 0.0
        for step in range(m.depth[symbol]):
            total += place.turns[m.nodes[symbol, step], m.bits[symbol, step]]
        row[symbol] = total


@kernel_on_tuples
def read(
    h: Array,
    first: int,
    last: int,
    start: int,
    s: Array,
    m: Model,
    rates: Array,
    max_updates: int,
    learn: int,
    targets: Array,
    scores: Array,
    rows: Array,
    links: Array,
    place: Place,
) -> None:
    """Read h[first:last], whose text begins at h[start]; s is what is carried, changed in place.

    targets (N,), or (0,): ln P of those into scores (N,). rows (N, A), or (0, A): ln P of all symbols after each. With
    `learn` ALL, h being m.text, all is learned that was read: rates (4,) of the mixers, the last mixer, the maps and
    the adjustments; a slot's rate is at least 1 / max_updates. links is room for `link`, as long as what is read and
    looked back at; place is room for what is known of a place.
    """
    leaves, begin = len(m.parents) + 1, last - len(links)
    place.last[:] = -1
    for t in range(begin, first):
        link(h, t, begin, place.last, links)
    for t in range(first - 1 if learn and first > start else first, last):
        new = t >= first  # the one before was read by an earlier call, which did not know what follows it
        if new:
            link(h, t, begin, place.last, links)
            advance(h[t], s, m.kinds, m.folded)
            follow_match(h, t, start, s, m, learn == ALL)
        follower = h[t + 1] if learn and t + 1 < last and h[t + 1] < leaves else -1
        target = targets[t - first] if new and len(targets) else follower
        if target < 0 and not (new and len(rows)):
            continue
        enter(h, t, start, s, begin, links, m, place)
        if new and len(rows):
            spread(m, place, rows[t - first])
        for number in range(1 if target == follower or follower < 0 else 2):  # the target, then what follows
            symbol = follower if number else target
            if symbol < 0:
                continue
            learned = learn if symbol == follower else NOTHING
            log_prob = path_log_prob(symbol, learned, m, place, rates, max_updates)
            if number == 0 and new and len(targets):
                scores[t - first] = log_prob
        leave(m, place)
