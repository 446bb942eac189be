"""What sampling and beam search share: the prompt is read, and the text that follows is put together and ended.

Shapes: N tokens, V vocabulary.
"""

from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt

from charlm.config import BOUNDARY
from charlm.errors import TrainingFault, UsageError
from charlm.inference import Engine, EngineState, LogProbs
from charlm.tokenizers.base import FIRST_PIECE, StreamDecoder, Tokenizer

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

NEWLINE = "\n"
MIN_SKIPPED, MAX_SKIPPED = 16, 500
"""Ids that are drawn before a text that begins: as many as the longest n-gram has, and then to the end of the line."""


def opening(tokenizer: Tokenizer) -> str:
    """What is read where there is no prompt: the end of a line, or nothing (just the boundary) where a text has none.

    A single line feed, which has no id of its own, is at most the end of the text.
    """
    line_feed = int(tokenizer.encode(NEWLINE)[0])
    learned = line_feed >= FIRST_PIECE or tokenizer.vocab_size == FIRST_PIECE
    return NEWLINE if learned and ord(NEWLINE) in tokenizer.seen else ""


def read(engine: Engine, tokenizer: Tokenizer, prompt: str | None) -> tuple[LogProbs, EngineState]:
    """The log-probabilities (1, V) of what follows the boundary and the prompt, and the state after both.

    Without a prompt (None) the `opening` is read.
    """
    text = opening(tokenizer) if prompt is None else prompt
    return engine.read(np.concatenate([[BOUNDARY], tokenizer.encode(text)], dtype=np.int64), engine.start(1))


def broken() -> TrainingFault:
    """The error for log-probabilities that nothing can be drawn from."""
    return TrainingFault(
        "the model's probabilities are not numbers, so nothing can be drawn from them\n"
        "its weights are broken: go back to an earlier run, or train again with a lower learning rate"
    )


class Continuation:
    """The text of one continuation, id by id: whole characters, until there are `length` or a stop string is complete.

    With `opens` the first lines are left out: MIN_SKIPPED ids, and on to the end of a line. What follows them was
    drawn by a model that has read lines, as it has in training. After the boundary and one line feed an n-gram knows
    no more than in how many contexts a character came after a line feed, not how often, and began up to 280 of 1,000
    names with a letter that begins none. `line_due` says that the line is too long to wait for its end.

    `push` returns the characters that are certain by now. The end of the text is held back while it may be the
    beginning of a stop string, which is itself never part of the text; of several stop strings the one that is
    complete first counts, and of those the one that began first. Raises UsageError for a negative length or an empty
    stop string.
    """

    def __init__(self, decoder: StreamDecoder, length: int, stop: Sequence[str], opens: bool = False) -> None:
        if length < 0:
            raise UsageError(f"must be at least 0, not {length}", "length")
        if "" in stop:
            raise UsageError("must not be empty: an empty string is everywhere", "stop")
        self.decoder, self.left, self.stop = decoder, length, stop
        self.held = ""
        self.finish_reason: str | None = None if length else "length"
        self.skipping = opens
        self.skipped = 0

    @property
    def line_due(self) -> bool:
        """Whether the next id should be a line feed."""
        return self.skipping and self.skipped >= MAX_SKIPPED

    def push(self, id: int) -> str:
        """The characters that this id makes certain; sets `finish_reason` when they are the last."""
        text = self.decoder.push(id)
        if self.skipping:
            text = self._after_lines(text)
        if self.stop:
            return self._before_stop(self.held + text)
        if len(text) >= self.left:
            text, self.finish_reason = text[: self.left], "length"
        self.left -= len(text)
        return text

    def _before_stop(self, text: str) -> str:
        """What of a text is certain, as far as stop strings go."""
        text, self.held = text[: self.left], ""
        if len(text) == self.left:
            self.finish_reason = "length"
        found = [(at + len(stop), at) for stop in self.stop if (at := text.find(stop)) >= 0]
        if found:
            self.finish_reason, text = "stop", text[: min(found)[1]]
        elif not self.finish_reason:
            certain = len(text) - self._undecided(text)
            text, self.held = text[:certain], text[certain:]
        self.left -= len(text)
        return text

    def fork(self) -> "Continuation":
        """One that goes on from here on its own."""
        other = copy(self)
        other.decoder = copy(self.decoder)
        return other

    def _after_lines(self, text: str) -> str:
        """What of the text comes after the lines that are left out."""
        self.skipped += 1
        if self.skipped < MIN_SKIPPED or NEWLINE not in text:
            return ""
        self.skipping = False
        return text.rpartition(NEWLINE)[2]

    def _undecided(self, text: str) -> int:
        """How long the longest end of the text is with which a stop string begins."""
        longest = min(len(text), max(map(len, self.stop)) - 1)
        return next((n for n in range(longest, 0, -1) if any(stop.startswith(text[-n:]) for stop in self.stop)), 0)
