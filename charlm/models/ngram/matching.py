"""What counts say about a stretch of text: the rows of the contexts and the n-grams that stand at its places."""

from collections.abc import Sequence

import numpy as np

from charlm.models.ngram.counting import Level
from charlm.models.ngram.windows import Integers

PIECE = 4096  # symbols looked up in one go
PIECES = 32  # at most so many, evenly spread


def sampled(start: int, end: int) -> list[tuple[int, int]]:
    """Pieces of start..end, begin and end of each: all or an even sample."""
    starts = np.arange(start, end, PIECE)
    if len(starts) > PIECES:
        starts = starts[np.linspace(0, len(starts) - 1, PIECES).astype(int)]
    return [(begin, min(begin + PIECE, end)) for begin in starts.tolist()]


def matches(levels: Sequence[Level], alphabet: int, stream: Integers, start: int) -> tuple[Integers, Integers]:
    """For the `sampled` places of stream[start:]: rows of contexts and of n-grams, both (P, K), -1 if unseen.

    Column k - 1 has the row of the k - 1 symbols before the place, in the level of that length, and of the n-gram
    that they make with the symbol there. Symbols are 0..alphabet-1.
    """
    keys = [level.parent.astype(np.int64) * alphabet + level.symbol for level in levels]
    contexts: list[Integers] = [np.zeros((0, len(keys)), np.int64)]
    ngrams = contexts.copy()
    for begin, end in sampled(start, len(stream)):
        pair = _match(keys, alphabet, stream, begin, end)
        contexts.append(pair[0])
        ngrams.append(pair[1])
    return np.concatenate(contexts), np.concatenate(ngrams)


def _match(
    keys: Sequence[Integers], alphabet: int, stream: Integers, begin: int, end: int
) -> tuple[Integers, Integers]:
    lead = max(0, begin - len(keys))
    context: Integers = np.zeros(end - lead, np.int64)
    contexts, ngrams = [], []
    for known in keys:
        wanted = np.where(context >= 0, context * alphabet + stream[lead:end], -1)
        at = np.searchsorted(known, wanted).clip(max=len(known) - 1)
        ngram = np.where(known[at] == wanted, at, -1)
        contexts.append(context[begin - lead :])
        ngrams.append(ngram[begin - lead :])
        context = np.append(-1, ngram[:-1])
    return np.stack(contexts, 1), np.stack(ngrams, 1)
