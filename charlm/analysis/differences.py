"""Where two models differ by more than chance.

Shapes: N characters, W words.
"""

from statistics import NormalDist

import numpy as np

from charlm.analysis.surprisal import Floats, Integers, Passage

CONFIDENCE = 0.95  # that none of the passages shown differs by chance
MIN_SHARE = 0.1  # of the dearer model's bits that the other must save
MIN_WORDS = 5  # in a passage: fewer tell nothing of the spread


def clear_differences(
    text: str, bits: Floats, other_bits: Floats, *, length: int = 100, count: int = 2
) -> tuple[tuple[Passage, ...], tuple[Passage, ...]]:
    """The passages where the first model saves most bits, and those where the other does; at most `count` of each.

    text has N characters, bits and other_bits are the `character_bits` (N,) of two readings of it. The passages, about
    `length` characters each, begin and end with words and do not overlap. One is left out if its difference is within
    noise: the words of a passage are a sample of differences, whose sum must be further from zero than its standard
    error explains, at a level that allows for all passages of the text (Bonferroni). So is a difference
    of less than a tenth of the bits.
    """
    saved, begins = other_bits - bits, _word_begins(text)
    words = np.add.reduceat(saved, begins) if len(saved) else saved  # (W,)
    bounds = np.append(begins, len(text))
    stops = np.searchsorted(bounds, bounds[:-1] + length, side="right") - 1  # of the passage that each word begins
    stops = np.maximum(stops, np.arange(len(words)) + 1)
    totals, errors, sizes = _sums(words, stops)
    limit = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / (2 * max(1, len(text) // length)))
    free = (sizes >= MIN_WORDS) & (np.abs(totals) > limit * errors)
    dearer = np.maximum(*(_totals(np.add.reduceat(of_one, begins), stops) for of_one in (bits, other_bits)))
    free &= np.abs(totals) >= MIN_SHARE * dearer
    found: tuple[list[Passage], list[Passage]] = ([], [])
    for begin in (-np.abs(totals)).argsort(kind="stable").tolist():
        side = found[0] if totals[begin] > 0 else found[1]
        if not free[begin] or len(side) == count:
            continue
        stop = int(stops[begin])
        here = slice(int(bounds[begin]), int(bounds[stop]))
        side.append(Passage(here.start, here.stop, float(bits[here].sum()), float(other_bits[here].sum())))
        free &= (np.arange(len(words)) >= stop) | (stops <= begin)
    return tuple(found[0]), tuple(found[1])


def _word_begins(text: str) -> Integers:
    """Where words begin, each with the white space after it: the first character, and every other after white space."""
    space = np.array([character.isspace() for character in text], dtype=bool)
    begins = np.flatnonzero(~space[1:] & space[:-1]) + 1
    return np.unique(np.concatenate([[0], begins])).astype(np.int64)


def _sums(words: Floats, stops: Integers) -> tuple[Floats, Floats, Integers]:
    """Of the passage that begins at each word (W,): its sum, the standard error of the sum, and its number of words."""
    sizes, totals = stops - np.arange(len(words)), _totals(words, stops)
    spread = (_totals(words**2, stops) - totals**2 / sizes).clip(min=0.0)
    return totals, np.sqrt(sizes * spread / (sizes - 1).clip(min=1)), sizes


def _totals(words: Floats, stops: Integers) -> Floats:
    """The sum over the words of the passage that begins at each word, both (W,)."""
    sums = np.concatenate([[0.0], words.cumsum()])
    totals: Floats = sums[stops] - sums[:-1]
    return totals
