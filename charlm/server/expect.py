"""POST /api/expect: what each character of a text that is being typed cost, and what is expected at the cursor.

The states after parts of the text are cached, so that each further character takes one step.

Shapes: N tokens, V vocabulary.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from charlm.analysis.surprisal import character_bits
from charlm.config import BOUNDARY
from charlm.decoding import Sampling, filter_log_probs, likeliest
from charlm.inference import EngineState, LogProbs
from charlm.server.library import ServedModel
from charlm.server.scheduler import Job, Steps, Task

MAX_CACHED_PREFIXES = 32
"""Of each model."""
TOKENS_BETWEEN_PREFIXES = 256
"""Between the cached prefixes of a long text."""
TOKENS_PER_PIECE = 16
"""Tokens that are read before other requests have their turn."""

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prefix:
    """The first tokens of a text: their nats (N,), and the log-probabilities of the next token (1, V)."""

    ids: Ids
    nats: Floats
    log_probs: LogProbs
    state: EngineState


@dataclass(frozen=True)
class ExpectRequest:
    """The text as it is typed, before the cursor and after it."""

    text: str
    cursor: int  # in characters
    since: int  # the first character whose bits are asked for
    sampling: Sampling
    listed: int  # how many of the likeliest next tokens


def expect_tasks(model: ServedModel, asked: ExpectRequest, job: Job) -> list[Task]:
    """The task that answers for one model. Its one event is the JSON of the answer."""

    def steps() -> Steps:
        ids = model.tokenizer.encode(asked.text[: asked.cursor])
        whole = at_cursor = yield from read_typed(model, ids)
        if asked.cursor < len(asked.text):
            whole = yield from read_typed(model, model.tokenizer.encode(asked.text))
        bits = character_bits(model.tokenizer, whole.ids.astype(np.uint32), whole.nats / math.log(2), len(asked.text))
        last = int(at_cursor.ids[-1]) if len(at_cursor.ids) else BOUNDARY
        job.send(
            {
                "model": model.name,
                "bits": [round(value, 4) for value in bits[asked.since :].tolist()],
                "total_bits": float(bits.sum()),
                "next": expected(model, at_cursor.log_probs, last, asked.sampling, asked.listed),
            }
        )
        return None

    return [Task(1, steps)]


def expected(
    model: ServedModel, log_probs: LogProbs, last: int, sampling: Sampling, listed: int
) -> list[dict[str, Any]]:
    """The likeliest tokens after the id `last`, each with its probability and the probability that it is drawn."""
    masked = model.allowed.masked(model.allowed.without_floor(log_probs, last), np.zeros(1, np.int64))
    drawn = np.exp(filter_log_probs(masked, sampling)[0])
    return [
        {"text": model.names[id], "probability": math.exp(log_prob), "drawn": float(drawn[id])}
        for id, log_prob in likeliest(log_probs[0], listed)
    ]


def read_typed(model: ServedModel, ids: Ids) -> Generator[None, None, Prefix]:
    """Read a text, starting from its longest cached prefix."""
    engine, prefix = model.engine, _longest_cached(model, ids)
    if prefix is None:
        log_probs, state = engine.read([BOUNDARY], engine.start(1))
        prefix = Prefix(ids[:0], np.empty(0), log_probs, state)
    nats: list[float] = []
    log_probs, state, begin = prefix.log_probs, prefix.state, len(prefix.ids)
    for position in range(begin, len(ids)):
        nats.append(-float(log_probs[0, ids[position]]))
        log_probs, state = engine.step(ids[position : position + 1].astype(np.int64), state)
        if (position + 1) % TOKENS_BETWEEN_PREFIXES == 0:
            _cache(model, Prefix(ids[: position + 1], _joined(prefix.nats, nats), log_probs, state))
        if (position - begin) % TOKENS_PER_PIECE == TOKENS_PER_PIECE - 1:
            yield
    whole = Prefix(ids, _joined(prefix.nats, nats), log_probs, state)
    _cache(model, whole)
    return whole


def _joined(before: Floats, more: Sequence[float]) -> Floats:
    return np.concatenate([before, np.array(more, np.float64)])


def _longest_cached(model: ServedModel, ids: Ids) -> Prefix | None:
    text = ids.tobytes()
    keys = [key for key in model.prefixes if text.startswith(key)]
    return model.prefixes[max(keys, key=len)] if keys else None


def _cache(model: ServedModel, prefix: Prefix) -> None:
    """Cache a prefix, and remove the least recently used ones."""
    key = prefix.ids.tobytes()
    model.prefixes.pop(key, None)
    model.prefixes[key] = prefix
    while len(model.prefixes) > MAX_CACHED_PREFIXES:
        del model.prefixes[next(iter(model.prefixes))]
