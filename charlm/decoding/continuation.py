"""Reading a prompt, and decoding the ids that follow into text until it ends; shared by sampling and beam search.

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

LINE_FEED = "\n"
MIN_SKIPPED, MAX_SKIPPED = 16, 500
"""Ids that are drawn and dropped before a text without a prompt: at least the longest n-gram, then up to a line end."""


def opening(tokenizer: Tokenizer) -> str:
    """What is read if there is no prompt: a line feed, or nothing but the boundary if the training text has no lines.

    A line feed without an id of its own occurs at most at the end of the training text.
    """
    line_feed = int(tokenizer.encode(LINE_FEED)[0])
    learned = line_feed >= FIRST_PIECE or tokenizer.vocab_size == FIRST_PIECE
    return LINE_FEED if learned and ord(LINE_FEED) in tokenizer.seen else ""


def read(engine: Engine, tokenizer: Tokenizer, prompt: str | None) -> tuple[LogProbs, EngineState]:
    """ln P (1, V) of the id after the boundary and the prompt, and the state; without a prompt, after the `opening`."""
    text = opening(tokenizer) if prompt is None else prompt
    return engine.read(np.concatenate([[BOUNDARY], tokenizer.encode(text)], dtype=np.int64), engine.start(1))


def broken() -> TrainingFault:
    """The error for log-probabilities that nothing can be drawn from."""
    return TrainingFault(
        "the model's probabilities are not numbers, so nothing can be drawn from them\n"
        "its weights are broken: go back to an earlier run, or train again with a lower learning rate"
    )


class Continuation:
    """Decodes the text of one continuation id by id, until it has `length` characters or contains a stop string.

    With `opens` the first lines are dropped: MIN_SKIPPED ids, and the rest of the line. The model has then read whole
    lines, as in training. After the boundary and one line feed, an n-gram with Kneser-Ney counts knows only the number
    of contexts in which a character followed a line feed: it started up to 280 of 1,000 names with a letter that no
    name starts with. `line_due`: the line is too long to wait for its end.

    `push` returns the characters that are certain. The end of the text is held back while it may be the beginning of a
    stop string, which is never part of the text. If several stop strings are complete, the one that ends first counts,
    then the one that starts first. Raises UsageError for a negative length or an empty stop string.
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
        """The characters that become certain with this id; sets `finish_reason` if they are the last."""
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
        """The part of a text that cannot belong to a stop string."""
        text, self.held = text[: self.left], ""
        if len(text) == self.left:
            self.finish_reason = "length"
        stops = [(at + len(stop), at) for stop in self.stop if (at := text.find(stop)) >= 0]
        if stops:
            self.finish_reason, text = "stop", text[: min(stops)[1]]
        elif not self.finish_reason:
            certain = len(text) - self._undecided(text)
            text, self.held = text[:certain], text[certain:]
        self.left -= len(text)
        return text

    def fork(self) -> "Continuation":
        """An independent copy."""
        other = copy(self)
        other.decoder = copy(self.decoder)
        return other

    def _after_lines(self, text: str) -> str:
        """The part of the text after the dropped lines."""
        self.skipped += 1
        if self.skipped < MIN_SKIPPED or LINE_FEED not in text:
            return ""
        self.skipping = False
        return text.rpartition(LINE_FEED)[2]

    def _undecided(self, text: str) -> int:
        """The length of the longest end of the text that is the beginning of a stop string."""
        longest = min(len(text), max(map(len, self.stop)) - 1)
        return next((n for n in range(longest, 0, -1) if any(stop.startswith(text[-n:]) for stop in self.stop)), 0)
