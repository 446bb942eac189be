"""The texts that one model writes side by side. Only this file of the server draws tokens.

Shapes: B streams, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from charlm.decoding import AllowedIds, Sampling, draw, likeliest
from charlm.decoding.continuation import Continuation
from charlm.decoding.drawing import uniform_rows
from charlm.inference import EngineState, LogProbs, Tokens
from charlm.server.library import ServedModel
from charlm.server.openai import Choice, Completion, ScoredToken, Usage
from charlm.tokenizers.base import StreamDecoder

UNBOUNDED = 1 << 40  # characters: here the length of a text is limited in tokens
STOP, LENGTH = "stop", "length"
"""The finish reasons."""


class Owner(Protocol):
    """The request that a text is written for."""

    def send(self, event: Choice) -> None:
        """Receive what a step adds to a choice."""


class Stream:
    """One text that is being written: its settings, its tokens that cannot be sent yet, and when it ends.

    The text of a token is certain, and sent, when no stop string and no unfinished character can change it any more.
    """

    def __init__(
        self,
        model: ServedModel,
        asked: Completion,
        owner: Owner,
        usage: Usage,
        index: int,
        sample: int,
        offset: int,
    ) -> None:
        """Choice `index` of an answer to `owner`, the `sample`-th of its prompt, which has `offset` characters."""
        self.owner, self.usage = owner, usage
        self.index, self.settings, self.listed = index, asked.sampling, asked.log_probs
        self.continuation = Continuation(StreamDecoder(model.tokenizer), UNBOUNDED, asked.stop)
        self.uniforms = uniforms(asked.seed, sample)
        self.prefix = 0  # the bytes of an unfinished character, see AllowedIds
        self.tokens_left = asked.max_tokens
        self.certain = self.written = offset  # characters, those of the prompt included
        self.pending: list[ScoredToken] = []  # tokens whose text is not certain

    @property
    def ended(self) -> bool:
        """Whether no more tokens are to be drawn."""
        return self.tokens_left == 0

    def push(self, token: int, log_probs: LogProbs) -> None:
        """Add a token that was drawn given log_probs (V,), and send what has become certain."""
        if self.listed is not None:
            self.pending.append(scored(token, log_probs, self.listed, self.written))
        text = self.continuation.push(token)
        self.tokens_left -= 1
        self.usage.completion_tokens += 1
        self.certain += len(text)
        self.written = self.certain + len(self.continuation.held)
        reason = None
        if self.continuation.finish_reason:
            self.tokens_left, reason = 0, STOP
        elif not self.tokens_left:
            reason, text, self.certain = LENGTH, text + self.continuation.held, self.written
        certain = [token for token in self.pending if token.offset < self.certain or reason == LENGTH]
        self.pending = self.pending[len(certain) :]
        if text or certain or reason:
            self.owner.send(Choice(self.index, text, certain, reason))


class Streams:
    """The streams of one model, which step together however much each has read."""

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self.rows: list[Stream] = []
        self._log_probs: LogProbs = np.empty((0, model.engine.vocab_size), np.float32)  # (B, V), of the next token
        self._state: EngineState = None

    def add(self, streams: Sequence[Stream], log_probs: LogProbs, state: EngineState) -> None:
        """Add streams, given the log-probabilities of their next tokens (B, V) and their joint state."""
        engine = self.model.engine
        self._state = engine.join([self._state, state]) if self.rows else state
        self._log_probs = np.concatenate([self._log_probs, log_probs]) if self.rows else log_probs
        self.rows += streams

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        if len(rows) < len(self.rows):
            self.rows = [self.rows[row] for row in rows]
            self._log_probs = self._log_probs[rows]
            self._state = self.model.engine.select(self._state, rows) if rows else None

    def step(self) -> list[Stream]:
        """Draw a token for each stream, and read it unless that ends the stream. Returns the streams that ended."""
        tokens = draw_tokens(self.model.allowed, self._log_probs, self.rows)
        for stream, token, log_probs in zip(self.rows, tokens.tolist(), self._log_probs, strict=True):
            stream.push(token, log_probs)
        ended = [stream for stream in self.rows if stream.ended]
        going_on = [row for row, stream in enumerate(self.rows) if not stream.ended]
        self.keep(going_on)
        if going_on:
            self._log_probs, self._state = self.model.engine.step(tokens[going_on], self._state)
        return ended


def draw_tokens(allowed: AllowedIds, log_probs: LogProbs, streams: Sequence[Stream]) -> Tokens:
    """The next token (B,) of each stream, from log_probs (B, V). What a stream draws does not depend on the others."""
    prefixes = np.array([stream.prefix for stream in streams], np.int64)
    masked = allowed.masked(log_probs, prefixes)
    numbers = np.array([next(stream.uniforms) for stream in streams])
    tokens = np.empty(len(streams), np.int64)
    by_settings: dict[Sampling, list[int]] = {}
    for row, stream in enumerate(streams):
        by_settings.setdefault(stream.settings, []).append(row)
    for settings, rows in by_settings.items():
        tokens[rows] = draw(masked[rows], settings, numbers[rows])
    if allowed.spells:
        for stream, prefix in zip(streams, allowed.after(prefixes, tokens).tolist(), strict=True):
            stream.prefix = prefix
    return tokens


def uniforms(seed: int | None, sample: int) -> Iterator[float]:
    """Random numbers in [0, 1) for one text. Those of sample 0 are what `charlm sample` draws one text by."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed((seed + sample * 0x9E3779B97F4A7C15) % 2**63)
    return (row.item() for row in uniform_rows(1, generator))


def scored(token: int, log_probs: LogProbs, listed: int, offset: int) -> ScoredToken:
    """A token as the answer lists it, with the `listed` likeliest tokens in its place; log_probs: (V,)."""
    return ScoredToken(token, float(log_probs[token]), likeliest(log_probs, listed), offset)
