"""Generation token by token, the basis of every command that samples.

Shapes: B streams, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from charlm.config import BOUNDARY
from charlm.decoding.continuation import LINE_FEED, Continuation, opening, read
from charlm.decoding.drawing import Drawing
from charlm.decoding.sampling import Sampling, likeliest
from charlm.errors import UsageError
from charlm.inference import Engine, as_engine
from charlm.models.base import LanguageModel
from charlm.tokenizers.base import StreamDecoder, Tokenizer

DEFAULT_SAMPLING = Sampling()


class Token(NamedTuple):
    """One token of one stream."""

    stream: int
    id: int
    text: str
    """The characters that became certain with it: none within a character or a possible stop string."""
    log_prob: float
    """ln P given all tokens before, before temperature and filters."""
    top: tuple[tuple[int, float], ...]
    """The most probable ids at its place, without the boundary, and their ln P, most probable first."""
    finish_reason: str | None
    """"length" or "stop" for the last token of a stream."""


def generate(
    engine: Engine,
    tokenizer: Tokenizer,
    prompt: str | None,
    *,
    length: int,
    settings: Sampling = DEFAULT_SAMPLING,
    streams: int = 1,
    stop: Sequence[str] = (),
    generator: torch.Generator | None = None,
    top: int = 0,
) -> Iterator[Token]:
    """Continue a prompt by `streams` texts, each of `length` characters or up to a stop string; yields their tokens.

    Streams step together, so their tokens alternate; a finished one leaves the batch. Close the generator to cancel.
    Without a prompt (None) texts start at the beginning of a line, see `opening`; the lines drawn before are not
    yielded, see `Continuation`. Only `AllowedIds` are drawn. A token of several characters is cut at the length.
    The random numbers come from `generator`, on the CPU whatever the model's device (None: a new one with a random
    seed); those of a stream do not depend on when the others end. Raises UsageError for a length, stream count or stop
    string out of range, TrainingFault for probabilities that are not numbers.
    """
    if streams < 1:
        raise UsageError(f"must be at least 1, not {streams}", "streams")
    skips = prompt is None and settings.temperature > 0 and opening(tokenizer) == LINE_FEED
    texts = [Continuation(StreamDecoder(tokenizer), length, stop, skips) for _ in range(streams)]
    drawing = Drawing(engine, tokenizer, settings, streams, generator)
    return _tokens(engine, tokenizer, prompt, texts, drawing, top)


def sample(
    model: LanguageModel | Engine,
    tokenizer: Tokenizer,
    prompt: str | None,
    *,
    length: int,
    settings: Sampling = DEFAULT_SAMPLING,
    streams: int = 1,
    stop: Sequence[str] = (),
    generator: torch.Generator | None = None,
) -> list[str]:
    """The texts of `generate`, one for each stream, without prompt and stop string."""
    parts: list[list[str]] = [[] for _ in range(streams)]
    for token in generate(
        as_engine(model), tokenizer, prompt, length=length, settings=settings, streams=streams, stop=stop,
        generator=generator,
    ):  # fmt: skip
        parts[token.stream].append(token.text)
    return ["".join(part) for part in parts]


def _tokens(
    engine: Engine,
    tokenizer: Tokenizer,
    prompt: str | None,
    texts: Sequence[Continuation],
    drawing: Drawing,
    top: int,
) -> Iterator[Token]:
    alive = [stream for stream, text in enumerate(texts) if not text.finish_reason]
    if not alive:
        return
    log_probs, state = read(engine, tokenizer, prompt)
    log_probs, state = log_probs.repeat(len(alive), 0), engine.select(state, [0] * len(alive))
    last = int(tokenizer.encode(prompt[-1:])[-1]) if prompt else BOUNDARY
    draw_log_probs = drawing.allowed.without_floor(log_probs, last)
    skipping = any(text.skipping for text in texts)
    while True:
        line_due = [row for row, stream in enumerate(alive) if texts[stream].line_due] if skipping else ()
        ids = drawing(draw_log_probs, alive, line_due)
        id_log_probs = log_probs[np.arange(len(ids)), ids].tolist()
        unfinished = []
        for row, (stream, id) in enumerate(zip(alive, ids.tolist(), strict=True)):
            continuation = texts[stream]
            hidden = continuation.skipping
            text = continuation.push(id)
            if not hidden or text or continuation.finish_reason:
                others = tuple(likeliest(log_probs[row], top)) if top else ()
                yield Token(stream, id, text, id_log_probs[row], others, continuation.finish_reason)
            if not continuation.finish_reason:
                unfinished.append(row)
        if not unfinished:
            return
        skipping = skipping and any(texts[stream].skipping for stream in alive)
        if len(unfinished) < len(alive):
            alive, ids, state = [alive[row] for row in unfinished], ids[unfinished], engine.select(state, unfinished)
            drawing.keep(unfinished)
        log_probs, state = engine.step(ids, state)
        draw_log_probs = log_probs
