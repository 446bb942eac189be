"""What a text has word for word from the text that a model learned from."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

from charlm.corpus import reopen
from charlm.errors import CharlmError
from charlm.server.errors import ApiError
from charlm.server.library import ServedModel

SHORTEST = 32
"""Characters of a passage that counts as quoted."""
BLOCK = SHORTEST // 2
"""Every quotation of SHORTEST characters holds a block that begins at a multiple of this."""
MAX_PLACES = 256
"""Places of a block in the training text that are looked at."""
MAX_CHARACTERS = 1 << 26
"""Of a training text that is searched."""
KEPT = 2
"""Training texts in memory."""


@dataclass(frozen=True)
class Quotation:
    """A passage of a text, from character to character, and the line of the training text where it begins."""

    begin: int
    end: int
    line: int
    source: str  # that line


class Sources:
    """The training texts of models. Safe to ask from several threads."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._reading = threading.Lock()

    def quotations(self, model: ServedModel, text: str) -> list[Quotation]:
        """What of the text stands in the model's training text. Raises ApiError where that cannot be read again."""
        return list(quotations(text, self._training(model)))

    def _training(self, model: ServedModel) -> str:
        described = model.run.history.corpus or {}
        key = str(described.get("sha256"))
        with self._reading:
            if key not in self._texts:
                self._texts[key] = _read(described)
                while len(self._texts) > KEPT:
                    del self._texts[next(iter(self._texts))]
            return self._texts[key]


def _read(described: object) -> str:
    try:
        training = reopen(described).learned.training
        if training.characters > MAX_CHARACTERS:
            raise ApiError("the training text is too long to be searched", code="no_training_text", status=404)
        return "".join(training.chunks())
    except (CharlmError, OSError):
        raise ApiError(
            "the training text is not where it was, or is another by now", code="no_training_text", status=404
        ) from None


def quotations(text: str, training: str) -> Iterator[Quotation]:
    """The passages of at least SHORTEST characters that stand in both, in order, none overlapping."""
    done = 0
    for block in range(0, len(text) - BLOCK + 1, BLOCK):
        if block < done or (found := training.find(text[block : block + BLOCK])) < 0:
            continue
        best, tried = (0, 0, 0), 0  # length, where it begins in the text, and in the training text
        while found >= 0 and tried < MAX_PLACES:
            before = _shared(text[done:block][::-1], training[max(0, found - block + done) : found][::-1])
            after = _shared(text[block:], training[found : found + len(text) - block])
            best = max(best, (before + after, block - before, found - before), key=itemgetter(0))
            found, tried = training.find(text[block : block + BLOCK], found + 1), tried + 1
        length, begin, place = best
        if length >= SHORTEST:
            done = begin + length
            first = training.rfind("\n", 0, place) + 1
            last = training.find("\n", place)
            line = training[first : last if last >= 0 else None]
            yield Quotation(begin, done, training.count("\n", 0, place) + 1, line)


def _shared(a: str, b: str) -> int:
    """How many characters two strings begin with that are the same."""
    return next((n for n, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))
