"""Looking up a stretch of text in the counts: the rows of the contexts and of the n-grams at its places."""

from collections.abc import Sequence

import numpy as np

from charlm.models.ngram.counting import Level
from charlm.models.ngram.windows import Integers

SYMBOLS_PER_PIECE = 4096
MAX_PIECES = 32  # of a longer text, evenly spaced pieces are used


def sampled(start: int, end: int) -> list[tuple[int, int]]:
    """(begin, end) of the pieces of start..end that are used: all of them, or MAX_PIECES that are evenly spaced."""
    starts = np.arange(start, end, SYMBOLS_PER_PIECE)
    if len(starts) > MAX_PIECES:
        starts = starts[np.linspace(0, len(starts) - 1, MAX_PIECES).astype(int)]
    return [(begin, min(begin + SYMBOLS_PER_PIECE, end)) for begin in starts.tolist()]


def look_up(levels: Sequence[Level], alphabet: int, stream: Integers, start: int) -> tuple[Integers, Integers]:
    """For the P `sampled` places of stream[start:]: rows of contexts and of n-grams, both (P, K), -1 if not counted.

    Column k - 1 holds the row of the k - 1 symbols before the place, in the level of that length, and the row of the
    n-gram that they form with the symbol at the place. Symbols are 0..alphabet-1.
    """
    keys = [level.parent.astype(np.int64) * alphabet + level.symbol for level in levels]
    contexts: list[Integers] = [np.zeros((0, len(keys)), np.int64)]
    ngrams = contexts.copy()
    for begin, end in sampled(start, len(stream)):
        pair = _look_up_piece(keys, alphabet, stream, begin, end)
        contexts.append(pair[0])
        ngrams.append(pair[1])
    return np.concatenate(contexts), np.concatenate(ngrams)


def _look_up_piece(
    keys: Sequence[Integers], alphabet: int, stream: Integers, begin: int, end: int
) -> tuple[Integers, Integers]:
    lead = max(0, begin - len(keys))
    context: Integers = np.zeros(end - lead, np.int64)
    contexts, ngrams = [], []
    for level_keys in keys:
        ngram_keys = np.where(context >= 0, context * alphabet + stream[lead:end], -1)
        at = np.searchsorted(level_keys, ngram_keys).clip(max=len(level_keys) - 1)
        ngram = np.where(level_keys[at] == ngram_keys, at, -1)
        contexts.append(context[begin - lead :])
        ngrams.append(ngram[begin - lead :])
        context = np.append(-1, ngram[:-1])
    return np.stack(contexts, 1), np.stack(ngrams, 1)
