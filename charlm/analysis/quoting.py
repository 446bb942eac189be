"""Is it quoting? The longest stretch of a sample that stands in the training text word for word."""

from dataclasses import dataclass

from charlm.corpus import Text
from charlm.progress import Listener, silent


@dataclass(frozen=True)
class Quote:
    """The longest match: its text, where it begins in the sample, and where in the training text (characters)."""

    text: str
    place: int
    source: int


def longest_quote(sample: str, training: Text, *, progress: Listener = silent) -> Quote:
    """The longest stretch of the sample that occurs in the training text, one of several; "" where none does.

    The training text is read chunk by chunk. At each place of the sample only a match that is longer than the best so
    far is looked for, by a search that skips; so one that is found is extended at once. Exact.
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
    """How many characters two strings begin with that are the same."""
    return next((n for n, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))
