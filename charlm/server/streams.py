"""Texts that are being written, several of one model side by side. The only place that draws tokens.

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
from charlm.server.openai import Choice, Completion, Scored, Usage
from charlm.tokenizers.base import StreamDecoder

UNBOUNDED = 1 << 40  # characters: the length of a text is given in tokens here
STOPPED, FULL = "stop", "length"
"""Why a text ends."""


class Owner(Protocol):
    """A request that texts are written for."""

    def send(self, event: Choice) -> None:
        """Take what a step adds to a choice."""


class Stream:
    """One text that is being written: how it is drawn, what is certain of it, and when it ends."""

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
        self.prefix = 0  # what has begun of a character, see AllowedIds
        self.left = asked.max_tokens
        self.certain = self.begun = offset  # characters, those of the prompt included
        self.waiting: list[Scored] = []  # tokens whose text is not certain

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be drawn."""
        return self.left == 0

    def push(self, token: int, log_probs: LogProbs) -> None:
        """Add a token, drawn from what log_probs (V,) say, and send what is certain by now."""
        if self.listed is not None:
            self.waiting.append(scored(token, log_probs, self.listed, self.begun))
        text = self.continuation.push(token)
        self.left -= 1
        self.usage.completion_tokens += 1
        self.certain += len(text)
        self.begun = self.certain + len(self.continuation.held)
        reason = None
        if self.continuation.finish_reason:
            self.left, reason = 0, STOPPED
        elif not self.left:
            reason, text, self.certain = FULL, text + self.continuation.held, self.begun
        certain = [token for token in self.waiting if token.offset < self.certain or reason == FULL]
        self.waiting = self.waiting[len(certain) :]
        if text or certain or reason:
            self.owner.send(Choice(self.index, text, certain, reason))


class Streams:
    """Those of one model, which step together whatever they have read."""

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self.streams: list[Stream] = []
        self._log_probs: LogProbs = np.empty((0, model.engine.vocab_size), np.float32)  # (B, V), what comes next
        self._state: EngineState = None

    def enter(self, streams: Sequence[Stream], log_probs: LogProbs, state: EngineState) -> None:
        """Let streams take part, given what comes next in each (B, V) and the state of them all."""
        engine = self.model.engine
        self._state = engine.join([self._state, state]) if self.streams else state
        self._log_probs = np.concatenate([self._log_probs, log_probs]) if self.streams else log_probs
        self.streams += streams

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these alone."""
        if len(rows) < len(self.streams):
            self.streams = [self.streams[row] for row in rows]
            self._log_probs = self._log_probs[rows]
            self._state = self.model.engine.select(self._state, rows) if rows else None

    def step(self) -> list[Stream]:
        """Draw a token for each, and read it where the text goes on. Returns those that have ended."""
        tokens = draw_tokens(self.model.allowed, self._log_probs, self.streams)
        for stream, token, log_probs in zip(self.streams, tokens.tolist(), self._log_probs, strict=True):
            stream.push(token, log_probs)
        ended = [stream for stream in self.streams if stream.ended]
        going = [row for row, stream in enumerate(self.streams) if not stream.ended]
        self.keep(going)
        if going:
            self._log_probs, self._state = self.model.engine.step(tokens[going], self._state)
        return ended


def draw_tokens(allowed: AllowedIds, log_probs: LogProbs, streams: Sequence[Stream]) -> Tokens:
    """The next token (B,) of each stream, from log_probs (B, V); what one draws does not depend on the others."""
    prefixes = np.array([stream.prefix for stream in streams], np.int64)
    masked = allowed.masked(log_probs, prefixes)
    numbers = np.array([next(stream.uniforms) for stream in streams])
    tokens = np.empty(len(streams), np.int64)
    alike: dict[Sampling, list[int]] = {}
    for row, stream in enumerate(streams):
        alike.setdefault(stream.settings, []).append(row)
    for settings, rows in alike.items():
        tokens[rows] = draw(masked[rows], settings, numbers[rows])
    if allowed.spells:
        for stream, prefix in zip(streams, allowed.after(prefixes, tokens).tolist(), strict=True):
            stream.prefix = prefix
    return tokens


def uniforms(seed: int | None, sample: int) -> Iterator[float]:
    """Numbers in [0, 1) for one text; those of sample 0 are what `charlm sample` draws one text by."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed((seed + sample * 0x9E3779B97F4A7C15) % 2**63)
    return (row.item() for row in uniform_rows(1, generator))


def scored(token: int, log_probs: LogProbs, listed: int, offset: int) -> Scored:
    """A token as the answer shows it, with the `listed` likeliest in its place; log_probs: (V,)."""
    return Scored(token, float(log_probs[token]), likeliest(log_probs, listed), offset)
