"""Passages in which two models differ by more than chance.

Shapes: N characters, W words, P passages.
"""

from itertools import islice
from statistics import NormalDist

import numpy as np

from charlm.analysis.surprisal import Floats, Integers, Passage

CONFIDENCE = 0.95  # probability that none of the passages differs by chance
MIN_SAVED_SHARE = 0.1  # bits saved, as a share of the bits of the model that needs more
MIN_WORDS = 5  # in a passage; the variance of fewer is not known well enough


def clear_differences(
    text: str, bits: Floats, other_bits: Floats, *, length: int = 100, count: int = 2
) -> tuple[tuple[Passage, ...], tuple[Passage, ...]]:
    """The passages in which the first model saves most bits, and those in which the other does; at most `count` each.

    text has N characters; bits and other_bits are the `character_bits` (N,) of two readings of it. The text is cut into
    passages of whole words, of at most `length` characters unless a word is longer. The words of a passage are a
    sample of differences: their sum must be significant by Student's t test, with a level divided by the number of
    passages (Bonferroni), and at least a tenth of the bits of the model that needs more.
    """
    if not text:
        return (), ()
    begins = _word_begins(text)
    bounds = np.append(begins, len(text))
    firsts = _passage_begins(bounds, length)  # (P,): the first word of each passage
    sizes = np.diff(np.append(firsts, len(begins)))
    words = np.add.reduceat(other_bits - bits, begins)  # (W,)
    totals = np.add.reduceat(words, firsts)
    squares = (np.add.reduceat(words**2, firsts) - totals**2 / sizes).clip(min=0.0)
    freedom = (sizes - 1).clip(min=1)
    errors = np.sqrt(sizes * squares / freedom)
    clear = (sizes >= MIN_WORDS) & (np.abs(totals) > _critical_t(1 - CONFIDENCE, len(firsts), freedom) * errors)
    passage_bits = [np.add.reduceat(each, bounds[firsts]) for each in (bits, other_bits)]
    clear &= np.abs(totals) >= MIN_SAVED_SHARE * np.maximum(*passage_bits)
    edges = np.append(bounds[firsts], len(text)).tolist()

    def best(saved: Floats) -> tuple[Passage, ...]:
        order = (n for n in (-saved).argsort(kind="stable").tolist() if clear[n] and saved[n] > 0)
        return tuple(
            Passage(edges[n], edges[n + 1], float(passage_bits[0][n]), float(passage_bits[1][n]))
            for n in islice(order, count)
        )

    return best(totals), best(-totals)


def _word_begins(text: str) -> Integers:
    """The first character of each word; a word includes the white space after it."""
    space = np.array([character.isspace() for character in text], dtype=bool)
    begins = np.flatnonzero(~space[1:] & space[:-1]) + 1
    return np.unique(np.concatenate([[0], begins])).astype(np.int64)


def _passage_begins(bounds: Integers, length: int) -> Integers:
    """The first characters of words and the end of the last one (W + 1,) -> the first word of each passage (P,)."""
    firsts, word = list[int](), 0
    while word < len(bounds) - 1:
        firsts.append(word)
        word = max(word + 1, int(np.searchsorted(bounds, bounds[word] + length, side="right")) - 1)
    return np.array(firsts, dtype=np.int64)


def _critical_t(level: float, tests: int, freedom: Integers) -> Floats:
    """The two-sided critical value of Student's t for each number of degrees of freedom, by Wallace (1959)."""
    z = NormalDist().inv_cdf(1 - level / (2 * tests))
    corrected = z * (8 * freedom + 3) / (8 * freedom + 1)
    critical: Floats = np.sqrt(freedom * np.expm1(corrected**2 / freedom))
    return critical
