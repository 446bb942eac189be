"""Texts that are being typed: what each character cost, and what is expected next, anew with every key.

What has been read of a text stays in memory for a while, so that one character more is one step more.

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
from charlm.server.scheduler import Job, Steps, Work

KEPT = 32
"""Beginnings of texts that are kept of each model."""
STRIDE = 256
"""Tokens between the beginnings that are kept of one long text."""
STEPS = 16
"""Tokens that are read at a time."""

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Beginning:
    """What is known after the first tokens of a text: what they cost, (N,) nats, and what comes next, (1, V)."""

    ids: Ids
    nats: Floats
    log_probs: LogProbs
    state: EngineState


@dataclass(frozen=True)
class Typed:
    """A text as it is typed, up to a cursor and beyond it."""

    text: str
    cursor: int  # in characters
    since: int  # the first character whose bits are asked for
    sampling: Sampling
    listed: int  # how many characters that may come next


def expectation(model: ServedModel, typed: Typed, job: Job) -> list[Work]:
    """The work of saying what a model makes of a text; its one event is the JSON of the answer."""

    def steps() -> Steps:
        ids = model.tokenizer.encode(typed.text[: typed.cursor])
        here = yield from read_typed(model, ids)
        whole = here
        if typed.cursor < len(typed.text):
            whole = yield from read_typed(model, model.tokenizer.encode(typed.text))
        bits = character_bits(model.tokenizer, whole.ids.astype(np.uint32), whole.nats / math.log(2), len(typed.text))
        last = int(here.ids[-1]) if len(here.ids) else BOUNDARY
        job.send(
            {
                "model": model.name,
                "bits": [round(value, 4) for value in bits[typed.since :].tolist()],
                "total_bits": float(bits.sum()),
                "next": expected(model, here.log_probs, last, typed.sampling, typed.listed),
            }
        )
        return None

    return [Work(1, steps)]


def expected(
    model: ServedModel, log_probs: LogProbs, last: int, sampling: Sampling, listed: int
) -> list[dict[str, Any]]:
    """The likeliest next tokens after the id `last`: each with its probability, and with that of being drawn."""
    masked = model.allowed.masked(model.allowed.without_floor(log_probs, last), np.zeros(1, np.int64))
    drawn = np.exp(filter_log_probs(masked, sampling)[0])
    return [
        {"text": model.names[id], "probability": math.exp(log_prob), "drawn": float(drawn[id])}
        for id, log_prob in likeliest(log_probs[0], listed)
    ]


def read_typed(model: ServedModel, ids: Ids) -> Generator[None, None, Beginning]:
    """Read a text, from the longest beginning that is known of it."""
    engine, found = model.engine, _longest(model, ids)
    if found is None:
        log_probs, state = engine.read([BOUNDARY], engine.start(1))
        found = Beginning(ids[:0], np.empty(0), log_probs, state)
    nats: list[float] = []
    log_probs, state, begin = found.log_probs, found.state, len(found.ids)
    for position in range(begin, len(ids)):
        nats.append(-float(log_probs[0, ids[position]]))
        log_probs, state = engine.step(ids[position : position + 1].astype(np.int64), state)
        if (position + 1) % STRIDE == 0:
            _keep(model, Beginning(ids[: position + 1], _joined(found.nats, nats), log_probs, state))
        if (position - begin) % STEPS == STEPS - 1:
            yield
    found = Beginning(ids, _joined(found.nats, nats), log_probs, state)
    _keep(model, found)
    return found


def _joined(before: Floats, more: Sequence[float]) -> Floats:
    return np.concatenate([before, np.array(more, np.float64)])


def _longest(model: ServedModel, ids: Ids) -> Beginning | None:
    fitting = [known for known in model.typed.values() if np.array_equal(ids[: len(known.ids)], known.ids)]
    return max(fitting, key=lambda known: len(known.ids), default=None)


def _keep(model: ServedModel, beginning: Beginning) -> None:
    """Remember it as the one used last, and forget the one not used for longest."""
    key = beginning.ids.tobytes()
    model.typed.pop(key, None)
    model.typed[key] = beginning
    while len(model.typed) > KEPT:
        del model.typed[next(iter(model.typed))]
