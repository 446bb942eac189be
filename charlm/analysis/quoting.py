"""The longest passage of a sample that occurs literally in the training text."""

from dataclasses import dataclass

from charlm.corpus import Text
from charlm.progress import Listener, silent


@dataclass(frozen=True)
class Quote:
    """The longest quote."""

    text: str
    place: int  # its first character in the sample
    source: int  # its first character in the training text


def longest_quote(sample: str, training: Text, *, progress: Listener = silent) -> Quote:
    """The longest passage of the sample that occurs in the training text, or one of them; "" if there is none.

    The training text is read chunk by chunk. At each place of the sample, `str.find` looks for a match that is one
    character longer than the best so far; if there is one, it is extended as far as possible. The result is exact.
    """
    best, behind, read = Quote("", 0, 0), "", 0
    for chunk in training.chunks():
        window = behind + chunk
        for place in range(len(sample)):
            while (end := place + len(best.text) + 1) <= len(sample) and (at := window.find(sample[place:end])) >= 0:
                length = _shared(sample[place:], window[at : at + len(sample) - place])
                best = Quote(sample[place : place + length], place, read - len(behind) + at)
        read += len(chunk)
        behind = window[len(window) - min(len(window), len(sample)) :]
        progress("looking for quotes", read / training.characters)
    return best


def _shared(a: str, b: str) -> int:
    """The length of the common prefix of two strings."""
    return next((n for n, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))
