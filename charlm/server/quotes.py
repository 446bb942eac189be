"""What of a text occurs word for word in a model's training text, for POST /api/quotes and /api/why."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

from charlm.corpus import reopen
from charlm.errors import CharlmError
from charlm.server.errors import ApiError
from charlm.server.library import ServedModel

MIN_QUOTE_CHARACTERS = 32
"""The length from which on a passage counts as quoted."""
BLOCK_CHARACTERS = MIN_QUOTE_CHARACTERS // 2
"""Every passage of MIN_QUOTE_CHARACTERS contains a block that begins at a multiple of this."""
MAX_OCCURRENCES = 256
"""Occurrences of a block in the training text that are tried."""
MAX_TRAINING_CHARACTERS = 1 << 26
"""The length of the longest training text that is searched."""
MAX_CACHED_TEXTS = 2
MAX_CONTEXTS, MAX_PLACES = 5, 3
"""The longest contexts that are counted, and the places that are shown of one."""
PLACE_CHARACTERS = 30
"""The characters that are shown on either side of a place."""


@dataclass(frozen=True)
class Quotation:
    """A passage of a text, from character `begin` to `end`, and the line of the training text where it begins."""

    begin: int
    end: int
    line: int  # its number, from 1
    source: str  # its text


@dataclass(frozen=True)
class CountedContext:
    """A context in the training text: how often it occurs, and how often the character asked about follows it."""

    text: str
    count: int
    followed: int


@dataclass(frozen=True)
class Place:
    """A place in the training text, `match` with what stands on either side, and the number of its line."""

    line: int
    before: str
    match: str
    after: str


class TrainingTexts:
    """The training texts of models. Thread-safe."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._lock = threading.Lock()

    def quotations(self, model: ServedModel, text: str) -> list[Quotation]:
        """The passages that occur in the model's training text. Raises ApiError if that cannot be read again."""
        return list(quotations(text, self._text_of(model)))

    def counted(self, model: ServedModel, context: str, character: str) -> tuple[list[CountedContext], list[Place]]:
        """A context and shorter ends of it, longest first, and places where the character follows the longest that it
        follows anywhere. Raises ApiError if the text cannot be read again.
        """
        training = self._text_of(model)
        contexts = [context[begin:] for begin in range(min(len(context), MAX_CONTEXTS))]
        counts = [
            CountedContext(one, occurrences(one, training), occurrences(one + character, training)) for one in contexts
        ]
        longest = next((one.text for one in counts if one.followed), None)
        return counts, [] if longest is None else list(_places(longest + character, training))

    def _text_of(self, model: ServedModel) -> str:
        described = model.run.history.corpus or {}
        key = str(described.get("sha256"))
        with self._lock:
            if key not in self._texts:
                self._texts[key] = _read(described)
                while len(self._texts) > MAX_CACHED_TEXTS:
                    del self._texts[next(iter(self._texts))]
            return self._texts[key]


def _read(described: object) -> str:
    try:
        training = reopen(described).learned.training
        if training.characters > MAX_TRAINING_CHARACTERS:
            raise ApiError("the training text is too long to be searched", code="no_training_text", status=404)
        return "".join(training.chunks())
    except (CharlmError, OSError):
        raise ApiError(
            "the training text is not where it was, or is another by now", code="no_training_text", status=404
        ) from None


def quotations(text: str, training: str) -> Iterator[Quotation]:
    """The longest passages of at least MIN_QUOTE_CHARACTERS that occur in both, in order, none overlapping."""
    end = 0  # of the last passage
    for block in range(0, len(text) - BLOCK_CHARACTERS + 1, BLOCK_CHARACTERS):
        if block < end:
            continue
        matches = (_match(text, training, end, block, place) for place in _occurrences(text, training, block))
        length, begin, place = max(matches, key=itemgetter(0), default=(0, 0, 0))
        if length >= MIN_QUOTE_CHARACTERS:
            end = begin + length
            line_begin, line_end = training.rfind("\n", 0, place) + 1, training.find("\n", place)
            line = training[line_begin : line_end if line_end >= 0 else None]
            yield Quotation(begin, end, training.count("\n", 0, place) + 1, line)


def _occurrences(text: str, training: str, block: int) -> Iterator[int]:
    """The first MAX_OCCURRENCES places in the training text of the block that begins at `block` in the text."""
    place = -1
    for _ in range(MAX_OCCURRENCES):
        place = training.find(text[block : block + BLOCK_CHARACTERS], place + 1)
        if place < 0:
            return
        yield place


def _match(text: str, training: str, first: int, block: int, place: int) -> tuple[int, int, int]:
    """The longest match around a block, from `first` on: its length, and where it begins in both texts."""
    before = _common_prefix(text[first:block][::-1], training[max(0, place - block + first) : place][::-1])
    after = _common_prefix(text[block:], training[place : place + len(text) - block])
    return before + after, block - before, place - before


def occurrences(passage: str, training: str) -> int:
    """How often a passage occurs, overlaps included."""
    if not any(passage.startswith(passage[begin:]) for begin in range(1, len(passage))):  # it cannot overlap itself
        return training.count(passage)
    count, place = 0, training.find(passage)
    while place >= 0:
        count, place = count + 1, training.find(passage, place + 1)
    return count


def _places(passage: str, training: str) -> Iterator[Place]:
    """The first MAX_PLACES places of a passage."""
    begin = -1
    for _ in range(MAX_PLACES):
        if (begin := training.find(passage, begin + 1)) < 0:
            return
        end = begin + len(passage)
        before, after = training[max(0, begin - PLACE_CHARACTERS) : begin], training[end : end + PLACE_CHARACTERS]
        yield Place(training.count("\n", 0, begin) + 1, before, passage, after)


def _common_prefix(a: str, b: str) -> int:
    """The length of the longest common prefix of two strings."""
    return next((n for n, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))
