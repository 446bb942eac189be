"""The contexts of a place in a text, as hashes, and the numbers that are carried along the text for them.

A place knows the last REACH symbols themselves, and of all before them what `State` counts.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from charlm.models.contexts.spelling import KINDS, LOWER, NEWLINE, PUNCTUATION, SPACE, UPPER
from charlm.models.contexts.tables import CARRIED, CONTEXTS, MATCHES, REACH, Array

F = TypeVar("F", bound=Callable[..., Any])
Number = Any
"""An integer or a float of a width that numba finds out."""

(
    WORD,  # hash of the word so far, 0 outside words
    LAST_WORD,
    WORD_BEFORE,
    THIRD_WORD,
    IN_WORD,  # letters of the word so far; outside words it counts down from 0
    COLUMN,
    LINE_LENGTH,  # of the line before
    LENGTH_BEFORE,  # and of the one before that
    FIRST,  # symbol of the line that is no space, plus 1
    FIRST_WORD,
    INDENT,
    FIELDS,  # spaces and punctuation marks of the line so far
    FIELD,  # hash of the symbols since the last of these
    PARAGRAPH,  # first symbol of the first line after an empty one
    SHAPE,  # kinds of the last 16 symbols, 3 bits each
    MATCH,  # place of the training text that may go on as this text does; 0: none
    MATCHED,  # symbols that have agreed since the match began, or since it last failed
    MISSED,  # symbols that have not
    READ,  # symbols read so far
) = range(CARRIED)

SHORT_MATCH, LONG_MATCH, MOST_MISSED = 5, 12, 8
MOST_AGREED = 32

njit: Any = numba.njit
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}


def inner(function: F) -> F:
    """A function that only compiled ones call, and that becomes part of each: were it called, the copy that all use
    would be that of whatever was compiled or loaded first, and copies differ in their last bits.
    """
    return cast(F, njit(**OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)(function))


def kernel(function: F) -> F:
    """A function that Python calls, compiled once on a machine."""
    return cast(F, njit(cache=True, **OPTIONS)(function))


@inner
def mix(x: Number, y: Number) -> Number:
    """A hash of the hash x and a number y, both uint64."""
    x = (x ^ np.uint64(y)) * np.uint64(0x9E3779B97F4A7C15)
    return x ^ (x >> np.uint64(29))


@inner
def symbol_at(h: Array, t: int, back: int, start: int) -> Number:
    """The symbol read `back` places before h[t], plus 2; 1 before the beginning."""
    return np.uint64(h[t - back] + 2) if t - back >= start else np.uint64(1)


@inner
def advance(symbol: int, carried: Array, kinds: Array, folded: Array) -> None:
    """Read a symbol: change what is carried in place."""
    s, kind = carried, kinds[symbol]
    s[READ] += 1
    if kind in (UPPER, LOWER):
        s[WORD] = np.int64(mix(np.uint64(s[WORD]), np.uint64(folded[symbol] + 1)))
        s[IN_WORD] = s[IN_WORD] + 1 if s[IN_WORD] > 0 else 1
    else:
        if s[WORD] != 0:
            s[THIRD_WORD], s[WORD_BEFORE], s[LAST_WORD] = s[WORD_BEFORE], s[LAST_WORD], s[WORD]
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


@inner
def followers(h: Array, t: int, start: int) -> tuple[Number, Number, Number, int, Number]:
    """What came after the places within reach that end as h[:t + 1] does.

    Three hashes of what came after the last two places that agree in 1 symbol, in 2, in 3; then the longest agreement,
    0 to MOST_AGREED, and the symbol that came after the last place that agrees so far, -1 where none does.
    """
    first = second = third = np.uint64(0)
    ones = twos = threes = longest = 0
    follower = np.int64(-1)
    for back in range(1, min(REACH - MOST_AGREED, t - start)):
        if h[t - back] != h[t]:
            continue
        after = np.uint64(h[t - back + 1] + 1)
        if ones < 2:
            first, ones = mix(first, after), ones + 1
        if h[t - back - 1] != h[t - 1]:
            continue
        agreed = 2
        while agreed < MOST_AGREED and t - back - agreed >= start and h[t - back - agreed] == h[t - agreed]:
            agreed += 1
        if twos < 2:
            second, twos = mix(second, after), twos + 1
        if agreed > 2 and threes < 2:
            third, threes = mix(third, after), threes + 1
        if agreed > longest:
            longest, follower = agreed, np.int64(h[t - back + 1])
    return first, second, third, longest, follower


@inner
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


@inner
def context_hashes(h: Array, t: int, start: int, s: Array, folded: Array, hashes: Array) -> Number:
    """The hash of each context after h[t] into hashes (CONTEXTS,); returns what stands above, as `above` does."""
    one = np.uint64(1)
    c1, c2, c3 = symbol_at(h, t, 0, start), symbol_at(h, t, 1, start), symbol_at(h, t, 2, start)
    c4, c5 = symbol_at(h, t, 3, start), symbol_at(h, t, 4, start)
    word, last, before = (
        np.uint64(s[WORD]),
        np.uint64(s[LAST_WORD]),
        np.uint64(s[WORD_BEFORE]),
    )
    up, right, left, further = above(h, t, start, s)
    over, begun = mix(one, up), mix(one, np.uint64(s[FIRST]))
    after_1, after_2, after_3, longest, follower = followers(h, t, start)
    echo = mix(mix(one, np.uint64(follower + 2)), np.uint64(min(longest, 20)))
    x = hashes[0] = one
    for order in range(1, 7):  # the last 1 to 6 symbols, then 8
        x = hashes[order] = mix(x, symbol_at(h, t, order - 1, start))
    hashes[7] = mix(mix(x, symbol_at(h, t, 6, start)), symbol_at(h, t, 7, start))
    here = mix(word, c1 if s[WORD] == 0 else np.uint64(0))
    hashes[8] = here
    hashes[9] = mix(here, last)
    hashes[10] = mix(mix(here, last), before)
    hashes[11] = mix(here, before + one)
    hashes[12] = mix(mix(last, c1), np.uint64(s[IN_WORD] + 64))
    hashes[13] = mix(one, c2)  # with gaps
    hashes[14] = mix(mix(one, c3), c2)
    hashes[15] = mix(mix(one, c1), c3)
    hashes[16] = mix(mix(mix(one, c2), c3), c4)
    hashes[17] = mix(mix(mix(one, c1), c3), c5)
    hashes[18] = mix(mix(mix(one, c1), c2), c4)
    hashes[19] = mix(over, np.uint64(min(s[COLUMN], 255)))  # the line before
    hashes[20] = mix(over, c1)
    hashes[21] = mix(mix(mix(over, right), c1), left)
    hashes[22] = mix(mix(over, further), c1)
    hashes[23] = mix(mix(begun, c1), c2)  # the line so far
    hashes[24] = mix(mix(mix(one, np.uint64(s[INDENT])), np.uint64(min(s[COLUMN] - s[INDENT], 3))), c1)
    hashes[25] = mix(np.uint64(s[FIRST_WORD]), here)
    hashes[26] = mix(mix(one, np.uint64(s[FIELDS])), np.uint64(s[FIELD]))
    hashes[27] = mix(mix(one, np.uint64(s[SHAPE] & 0xFFFFFF)), c1)  # shapes
    fold = one
    for back in range(5):
        fold = mix(fold, np.uint64(folded[h[t - back]] + 2) if t - back >= start else one)
    hashes[28] = fold
    hashes[29] = mix(np.uint64(s[SHAPE] & 0xFFFFFFFFF), one)
    for back in range(5, 7):
        fold = mix(fold, np.uint64(folded[h[t - back]] + 2) if t - back >= start else one)
    hashes[36] = fold
    hashes[30] = mix(after_1, c1)
    hashes[31] = mix(mix(after_2, c1), c2)
    hashes[33] = mix(after_1, word)
    hashes[32] = echo
    hashes[34] = mix(echo, c1)
    hashes[35] = mix(mix(mix(after_3, c1), c2), c3)
    for k in range(CONTEXTS):
        hashes[k] = mix(mix(hashes[k], np.uint64(k + 1)), np.uint64(77))
    return up


@inner
def selectors(h: Array, t: int, start: int, s: Array, kinds: Array, up: Number, chosen: Array) -> None:
    """What weight set each mixer takes at this place, as far as it is the same at all nodes, into chosen (MIXERS,)."""
    c1 = np.int64(h[t])
    c2 = np.int64(h[t - 1]) if t > start else 0
    kind_above = np.int64(kinds[up - np.uint64(2)]) if up > 1 else 1
    chosen[1] = c1
    chosen[4] = min(s[IN_WORD] + 15, 31) * KINDS + np.int64(kinds[c2])
    chosen[5] = min(s[COLUMN], 31) * KINDS + kind_above
    chosen[6] = c2
    chosen[7] = s[SHAPE] & 0x1FF


@inner
def match_level(s: Array) -> Number:
    """What is known of the match, 1 to MATCHES - 1; 0: there is none."""
    if s[MATCH] == 0:
        return 0
    if s[MISSED] > 0:
        return min(27 + min(s[MATCHED], 15) // 3, MATCHES - 1)
    return s[MATCHED] + 1 if s[MATCHED] < 16 else min(25, 17 + (s[MATCHED] - 16) // 4)


@inner
def follow_match(h: Array, t: int, start: int, s: Array, text: Array, places: Array, place: int) -> None:
    """After h[t] was read: go on with the match or look for a longer one; if place > 0, h[t] is text[place - 1]."""
    if s[MATCH] > 0:
        if text[s[MATCH]] == h[t]:
            s[MATCHED] = min(s[MATCHED] + 1, 63)
            if s[MISSED] > 0 and s[MATCHED] >= 16:
                s[MISSED] = 0
        else:
            s[MISSED] += 1
            s[MATCHED] = 0
        s[MATCH] += 1
        if s[MISSED] > MOST_MISSED or s[MATCH] >= len(text):
            s[MATCH] = s[MISSED] = s[MATCHED] = 0
    if t - start < LONG_MATCH:
        return
    x, mask = np.uint64(1), np.uint64(len(places) - 1)
    for back in range(SHORT_MATCH):
        x = mix(x, np.uint64(h[t - back] + 1))
    short = np.int64((x >> np.uint64(20)) & mask)
    for back in range(SHORT_MATCH, LONG_MATCH):
        x = mix(x, np.uint64(h[t - back] + 1))
    long = np.int64((x >> np.uint64(20)) & mask)
    if s[MATCH] == 0 or s[MATCHED] < LONG_MATCH:
        found = places[long]
        if found == 0 and (s[MATCH] == 0 or s[MISSED] > 0):
            found = places[short]
        length = 0
        while (
            length < 32
            and t - length >= start
            and found - 1 - length >= 0
            and text[found - 1 - length] == h[t - length]
        ):
            length += 1
        if 0 < found < len(text) and length >= SHORT_MATCH and (s[MATCH] == 0 or length > s[MATCHED]):
            s[MATCH], s[MATCHED], s[MISSED] = found, length, 0
    if place > 0:
        places[short] = places[long] = place
