"""Where two models differ by more than chance.

Shapes: N characters, W words, P passages.
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

    text has N characters, bits and other_bits are the `character_bits` (N,) of two readings of it. The text is cut into
    passages of whole words, of at most `length` characters where words allow. Those within noise are left out. The
    words of a passage are a sample of differences: their sum must be further from zero than Student's t allows at a
    level that is divided by the number of passages (Bonferroni), and be at least a tenth of the dearer model's bits.
    """
    if not text:
        return (), ()
    begins = _word_begins(text)
    bounds = np.append(begins, len(text))
    firsts = _passage_begins(bounds, length)  # the number of the word that each passage begins with, (P,)
    sizes = np.diff(np.append(firsts, len(begins)))
    words = np.add.reduceat(other_bits - bits, begins)  # (W,)
    totals = np.add.reduceat(words, firsts)
    spread = (np.add.reduceat(words**2, firsts) - totals**2 / sizes).clip(min=0.0)
    freedom = (sizes - 1).clip(min=1)
    errors = np.sqrt(sizes * spread / freedom)
    clear = (sizes >= MIN_WORDS) & (np.abs(totals) > _critical_t(1 - CONFIDENCE, len(firsts), freedom) * errors)
    costs = [np.add.reduceat(one, bounds[firsts]) for one in (bits, other_bits)]
    clear &= np.abs(totals) >= MIN_SHARE * np.maximum(*costs)
    edges = np.append(bounds[firsts], len(text)).tolist()

    def best(saved: Floats) -> tuple[Passage, ...]:
        order = (n for n in (-saved).argsort(kind="stable").tolist() if clear[n] and saved[n] > 0)
        chosen = [n for n, _ in zip(order, range(count), strict=False)]
        return tuple(Passage(edges[n], edges[n + 1], float(costs[0][n]), float(costs[1][n])) for n in chosen)

    return best(totals), best(-totals)


def _word_begins(text: str) -> Integers:
    """Where words begin, each with the white space after it: the first character, and every other after white space."""
    space = np.array([character.isspace() for character in text], dtype=bool)
    begins = np.flatnonzero(~space[1:] & space[:-1]) + 1
    return np.unique(np.concatenate([[0], begins])).astype(np.int64)


def _passage_begins(bounds: Integers, length: int) -> Integers:
    """(W + 1,) where words begin and the last one ends -> the number of the first word of each passage, (P,)."""
    found, word = list[int](), 0
    while word < len(bounds) - 1:
        found.append(word)
        word = max(word + 1, int(np.searchsorted(bounds, bounds[word] + length, side="right")) - 1)
    return np.array(found, dtype=np.int64)


def _critical_t(level: float, tests: int, freedom: Integers) -> Floats:
    """The two-sided critical value of Student's t for each number of degrees of freedom, by Wallace (1959)."""
    z = NormalDist().inv_cdf(1 - level / (2 * tests))
    corrected = z * (8 * freedom + 3) / (8 * freedom + 1)
    critical: Floats = np.sqrt(freedom * np.expm1(corrected**2 / freedom))
    return critical
