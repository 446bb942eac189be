"""The contexts of a place in a text, as hashes, and the numbers that are carried along the text for them.

A place knows the last REACH symbols themselves, and of all before them the numbers that `carried` names.
"""

from typing import Any

import numpy as np

from charlm.jit import inner_on_tuples
from charlm.models.contexts.carried import (
    COLUMN,
    FIELD,
    FIELDS,
    FIRST,
    FIRST_WORD,
    HISTORY,
    IN_WORD,
    INDENT,
    LAST_WORD,
    LENGTH_BEFORE,
    LINE_LENGTH,
    MATCH,
    MATCHED,
    MISSED,
    PARAGRAPH,
    READ,
    SHAPE,
    WORD,
    WORD_BEFORE,
)
from charlm.models.contexts.spelling import CHARACTER_KINDS, LOWER, NEWLINE, PUNCTUATION, SPACE, UPPER
from charlm.models.contexts.tables import CONTEXTS, MATCHES, REACH, Array, Model

Number = Any
"""An integer or a float of a width that numba finds out."""

SHORT_MATCH, LONG_MATCH = 5, 12  # symbols by which a match is found
MAX_MISSED = 8  # symbols that a match may fail to predict before it is given up
MAX_MATCHED = 63  # symbols counted
MAX_AGREED = 32  # symbols compared


@inner_on_tuples
def mix(x: Number, y: Number) -> Number:
    """A hash of the hash x and a number y, both uint64."""
    x = (x ^ np.uint64(y)) * np.uint64(0x9E3779B97F4A7C15)
    return x ^ (x >> np.uint64(29))


@inner_on_tuples
def entry_of(x: Number, size: int) -> Number:
    """Where a hash stands in a table of this size, or in one of the three entries near it."""
    return np.int64((x >> np.uint64(20)) & np.uint64(size - 1))


@inner_on_tuples
def symbol_at(h: Array, t: int, back: int, start: int) -> Number:
    """The symbol read `back` places before h[t], plus 2; 1 before the beginning."""
    return np.uint64(h[t - back] + 2) if t - back >= start else np.uint64(1)


@inner_on_tuples
def advance(symbol: int, carried: Array, kinds: Array, folded: Array) -> None:
    """Read a symbol: change what is carried in place."""
    s, kind = carried, kinds[symbol]
    s[READ] += 1
    s[HISTORY] = np.int64(mix(np.uint64(s[HISTORY]), np.uint64(symbol + 1)))
    if kind in (UPPER, LOWER):
        s[WORD] = np.int64(mix(np.uint64(s[WORD]), np.uint64(folded[symbol] + 1)))
        s[IN_WORD] = s[IN_WORD] + 1 if s[IN_WORD] > 0 else 1
    else:
        if s[WORD] != 0:
            s[WORD_BEFORE], s[LAST_WORD] = s[LAST_WORD], s[WORD]
            if s[FIRST_WORD] == 0:
                s[FIRST_WORD] = s[WORD]
            s[WORD] = s[IN_WORD] = 0
        s[IN_WORD] = max(s[IN_WORD] - 1, -15)
    s[SHAPE] = ((s[SHAPE] << 3) | kind) & 0xFFFFFFFFFFFF
    if kind == NEWLINE:
        if s[COLUMN] == 0:
            s[PARAGRAPH] = 0
        elif s[PARAGRAPH] == 0:
            s[PARAGRAPH] = s[FIRST]
        s[LENGTH_BEFORE], s[LINE_LENGTH] = s[LINE_LENGTH], s[COLUMN]
        s[COLUMN] = s[FIRST] = s[INDENT] = s[FIELDS] = s[FIELD] = s[FIRST_WORD] = 0
        return
    if kind == SPACE and s[COLUMN] == s[INDENT]:
        s[INDENT] += 1
    s[COLUMN] += 1
    if s[FIRST] == 0 and s[COLUMN] > s[INDENT]:
        s[FIRST] = symbol + 1
    if kind in (PUNCTUATION, SPACE):
        s[FIELDS] += 1
        s[FIELD] = symbol + 1
    else:
        s[FIELD] = np.int64(mix(np.uint64(s[FIELD]), np.uint64(symbol + 1)))


@inner_on_tuples
def link(h: Array, t: int, begin: int, last: Array, links: Array) -> None:
    """Note that h[t] stands at t: last (symbols,) is the latest place of each symbol, links where it was before."""
    links[t - begin] = last[h[t]]
    last[h[t]] = t


@inner_on_tuples
def followers(h: Array, t: int, start: int, begin: int, links: Array) -> tuple[Number, Number, Number, int, Number]:
    """What came after the places within reach that end as h[:t + 1] does.

    Three hashes of what came after the last two places that agree in 1 symbol, in 2, in 3; then the longest agreement,
    0 to MAX_AGREED, and the symbol that came after the last place that agrees so far, -1 where none does.
    """
    first = second = third = np.uint64(0)
    ones = twos = threes = longest = 0
    follower = np.int64(-1)
    place = np.int64(links[t - begin])
    while place > start and t - place < REACH - MAX_AGREED:
        after = np.uint64(h[place + 1] + 1)
        if ones < 2:
            first, ones = mix(first, after), ones + 1
        if h[place - 1] == h[t - 1]:
            agreed = 2
            while agreed < MAX_AGREED and place - agreed >= start and h[place - agreed] == h[t - agreed]:
                agreed += 1
            if twos < 2:
                second, twos = mix(second, after), twos + 1
            if agreed > 2 and threes < 2:
                third, threes = mix(third, after), threes + 1
            if agreed > longest:
                longest, follower = agreed, np.int64(h[place + 1])
        place = np.int64(links[place - begin])
    return first, second, third, longest, follower


@inner_on_tuples
def above(h: Array, t: int, start: int, s: Array) -> tuple[Number, Number, Number, Number]:
    """What stands above the next symbol, to its right and left in the line before, and above in the line before that.

    1 where nothing does.
    """
    none = np.uint64(1)
    column, length = s[COLUMN], s[LINE_LENGTH]
    if column > length or length + 2 >= REACH or s[READ] <= length + 1:
        return none, none, none, none
    right = symbol_at(h, t, length - 1, start) if column < length and length > 0 else none
    left = symbol_at(h, t, length + 1, start) if column > 0 else none
    further = none
    if column <= s[LENGTH_BEFORE] and length + s[LENGTH_BEFORE] + 2 < REACH:
        further = symbol_at(h, t, length + 1 + s[LENGTH_BEFORE], start)
    return symbol_at(h, t, length, start), right, left, further


@inner_on_tuples
def context_hashes(
    h: Array, t: int, start: int, s: Array, folded: Array, begin: int, links: Array, hashes: Array
) -> Number:
    """The hash of each context after h[t] into hashes (CONTEXTS,); returns what stands above, as `above` does."""
    symbol_hashes(h, t, start, hashes)
    word_hashes(h, t, start, s, folded, hashes)
    up = line_hashes(h, t, start, s, hashes)
    follower_hashes(h, t, start, s, begin, links, hashes)
    for k in range(CONTEXTS):
        hashes[k] = mix(mix(hashes[k], np.uint64(k + 1)), np.uint64(77))
    return up


@inner_on_tuples
def symbol_hashes(h: Array, t: int, start: int, hashes: Array) -> None:
    """0 to 7: the last 0 to 6 symbols, the last 8. 13 to 18: some of the last five."""
    one = np.uint64(1)
    x = hashes[0] = one
    for order in range(1, 7):
        x = hashes[order] = mix(x, symbol_at(h, t, order - 1, start))
    hashes[7] = mix(mix(x, symbol_at(h, t, 6, start)), symbol_at(h, t, 7, start))
    c1, c2, c3 = symbol_at(h, t, 0, start), symbol_at(h, t, 1, start), symbol_at(h, t, 2, start)
    c4, c5 = symbol_at(h, t, 3, start), symbol_at(h, t, 4, start)
    hashes[13] = mix(one, c2)
    hashes[14] = mix(mix(one, c3), c2)
    hashes[15] = mix(mix(one, c1), c3)
    hashes[16] = mix(mix(mix(one, c2), c3), c4)
    hashes[17] = mix(mix(mix(one, c1), c3), c5)
    hashes[18] = mix(mix(mix(one, c1), c2), c4)


@inner_on_tuples
def word_hashes(h: Array, t: int, start: int, s: Array, folded: Array, hashes: Array) -> None:
    """8 to 12: the word so far with those before it. 25: and the first of the line. 27 to 29, 36: shape, lower case."""
    one, c1 = np.uint64(1), symbol_at(h, t, 0, start)
    word, last, before = np.uint64(s[WORD]), np.uint64(s[LAST_WORD]), np.uint64(s[WORD_BEFORE])
    here = hashes[8] = mix(word, c1 if s[WORD] == 0 else np.uint64(0))
    hashes[9] = mix(here, last)
    hashes[10] = mix(mix(here, last), before)
    hashes[11] = mix(here, before + one)
    hashes[12] = mix(mix(last, c1), np.uint64(s[IN_WORD] + 64))
    hashes[25] = mix(np.uint64(s[FIRST_WORD]), here)
    hashes[27] = mix(mix(one, np.uint64(s[SHAPE] & 0xFFFFFF)), c1)
    hashes[29] = mix(np.uint64(s[SHAPE] & 0xFFFFFFFFF), one)
    fold = one
    for back in range(7):
        fold = mix(fold, np.uint64(folded[h[t - back]] + 2) if t - back >= start else one)
        if back == 4:
            hashes[28] = fold
    hashes[36] = fold


@inner_on_tuples
def line_hashes(h: Array, t: int, start: int, s: Array, hashes: Array) -> Number:
    """19 to 22: what stands in the lines before. 23, 24, 26: this line so far. Returns what stands above."""
    one, c1, c2 = np.uint64(1), symbol_at(h, t, 0, start), symbol_at(h, t, 1, start)
    up, right, left, further = above(h, t, start, s)
    over, column = mix(one, up), np.uint64(min(s[COLUMN], 255))
    hashes[19] = mix(over, column)
    hashes[20] = mix(over, c1)
    hashes[21] = mix(mix(mix(over, right), c1), left)
    hashes[22] = mix(mix(over, further), c1)
    hashes[23] = mix(mix(mix(one, np.uint64(s[FIRST])), c1), c2)
    hashes[24] = mix(mix(mix(one, np.uint64(s[INDENT])), np.uint64(min(s[COLUMN] - s[INDENT], 3))), c1)
    hashes[26] = mix(mix(one, np.uint64(s[FIELDS])), np.uint64(s[FIELD]))
    return up


@inner_on_tuples
def follower_hashes(h: Array, t: int, start: int, s: Array, begin: int, links: Array, hashes: Array) -> None:
    """30 to 35: what followed the last places that end as this one does, see `followers`."""
    one, word = np.uint64(1), np.uint64(s[WORD])
    c1, c2, c3 = symbol_at(h, t, 0, start), symbol_at(h, t, 1, start), symbol_at(h, t, 2, start)
    first, second, third, longest, follower = followers(h, t, start, begin, links)
    guess = mix(mix(one, np.uint64(follower + 2)), np.uint64(min(longest, 20)))
    hashes[30] = mix(first, c1)
    hashes[31] = mix(mix(second, c1), c2)
    hashes[32] = guess
    hashes[33] = mix(first, word)
    hashes[34] = mix(guess, c1)
    hashes[35] = mix(mix(mix(third, c1), c2), c3)


@inner_on_tuples
def selectors(h: Array, t: int, start: int, s: Array, kinds: Array, up: Number, chosen: Array) -> None:
    """What weight set each mixer takes at this place, as far as it is the same at all nodes, into chosen (MIXERS,)."""
    c1 = np.int64(h[t])
    c2 = np.int64(h[t - 1]) if t > start else 0
    kind_above = np.int64(kinds[up - np.uint64(2)]) if up > 1 else 1
    chosen[1] = c1
    chosen[4] = min(s[IN_WORD] + 15, 31) * CHARACTER_KINDS + np.int64(kinds[c2])
    chosen[5] = min(s[COLUMN], 31) * CHARACTER_KINDS + kind_above
    chosen[6] = c2
    chosen[7] = s[SHAPE] & 0x1FF


@inner_on_tuples
def match_level(s: Array) -> Number:
    """What is known of the match, 1 to MATCHES - 1; 0: there is none."""
    if s[MATCH] == 0:
        return 0
    if s[MISSED] > 0:
        return min(27 + min(s[MATCHED], 15) // 3, MATCHES - 1)
    return s[MATCHED] + 1 if s[MATCHED] < 16 else min(25, 17 + (s[MATCHED] - 16) // 4)


@inner_on_tuples
def text_at(m: Model, place: int) -> Number:
    """A symbol of what was counted: the text of the model, then this one."""
    known = len(m.base_text)
    return m.base_text[place] if place < known else m.text[place - known]


@inner_on_tuples
def last_place(m: Model, x: Number) -> Number:
    """Where the symbols of this hash were met last; 0: nowhere."""
    place = m.places[entry_of(x, len(m.places))]
    return place if place else m.base_places[entry_of(x, len(m.base_places))]


@inner_on_tuples
def go_on(symbol: int, s: Array, m: Model) -> None:
    """After a symbol was read: the match has predicted it, or not."""
    if text_at(m, s[MATCH]) == symbol:
        s[MATCHED] = min(s[MATCHED] + 1, MAX_MATCHED)
        if s[MISSED] > 0 and s[MATCHED] >= 16:
            s[MISSED] = 0
    else:
        s[MISSED] += 1
        s[MATCHED] = 0
    s[MATCH] += 1
    if s[MISSED] > MAX_MISSED or s[MATCH] >= len(m.base_text) + len(m.text):
        s[MATCH] = s[MISSED] = s[MATCHED] = 0


@inner_on_tuples
def follow_match(h: Array, t: int, start: int, s: Array, m: Model, count: bool) -> None:
    """After h[t] was read: go on with the match or look for a longer one. To count: h is m.text."""
    if s[MATCH] > 0:
        go_on(h[t], s, m)
    if t - start < LONG_MATCH:
        return
    short = np.uint64(1)
    for back in range(SHORT_MATCH):
        short = mix(short, np.uint64(h[t - back] + 1))
    long = short
    for back in range(SHORT_MATCH, LONG_MATCH):
        long = mix(long, np.uint64(h[t - back] + 1))
    if s[MATCH] == 0 or s[MATCHED] < LONG_MATCH:
        place = last_place(m, long)
        if place == 0 and (s[MATCH] == 0 or s[MISSED] > 0):
            place = last_place(m, short)
        length = 0
        while (
            length < MAX_AGREED
            and t - length >= start
            and place - 1 - length >= 0
            and text_at(m, place - 1 - length) == h[t - length]
        ):
            length += 1
        if (
            0 < place < len(m.base_text) + len(m.text)
            and length >= SHORT_MATCH
            and (s[MATCH] == 0 or length > s[MATCHED])
        ):
            s[MATCH], s[MATCHED], s[MISSED] = place, length, 0
    if count:
        for x in (short, long):
            m.places[entry_of(x, len(m.places))] = len(m.base_text) + t + 1
