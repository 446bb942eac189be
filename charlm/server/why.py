"""POST /api/why: how many bits each of the characters before one saves. The same measure for every model.

The worth of the character k places back is the difference in bits between a context that begins after it and one that
begins with it. So the worths add up to what the whole context saves, and some are negative. Beside them stands what
the model's own parts say, see `evidence`.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from charlm.analysis.surprisal import Integers, places
from charlm.config import BOUNDARY
from charlm.inference import Engine
from charlm.server.evidence import Predicted, evidence
from charlm.server.expect import Ids, read_typed
from charlm.server.library import ServedModel
from charlm.server.scheduler import Job, Steps, Task


@dataclass(frozen=True)
class WhyRequest:
    """A character of a text, by its number, and how many characters before it are considered."""

    text: str
    place: int
    reach: int


def why_tasks(model: ServedModel, asked: WhyRequest, job: Job) -> list[Task]:
    """The task that answers for one model. Its one event is the JSON of the answer."""

    def steps() -> Steps:
        ids = model.tokenizer.encode(asked.text[: asked.place + 1])
        first, last = places(model.tokenizer, ids.astype(np.uint32))
        tokens = np.flatnonzero(last >= asked.place)  # those that spell the character
        whole = yield from read_typed(model, ids)
        bits = yield from _bits_by_context(model, ids, first, tokens, min(asked.reach, asked.place))
        predicted = Predicted(asked.text[: asked.place + 1], ids, int(tokens[0]), asked.reach)
        said = yield from evidence(model, predicted)
        job.send(
            {
                "model": model.name,
                "bits": float(whole.nats[tokens].sum()) / math.log(2),
                "without_context": bits[0],
                "worths": [shorter - longer for shorter, longer in pairwise(bits)],
                **said,
            }
        )
        return None

    return [Task(1, steps)]


def _bits_by_context(
    model: ServedModel, ids: Ids, first: Integers, tokens: Integers, reach: int
) -> Generator[None, None, list[float]]:
    """The bits of these tokens without context, and given the last 1, 2, … `reach` characters before them.

    A context is that of `evaluate(context=C)`: the tokens that lie wholly in these characters, and the boundary if it
    reaches the beginning of the text or holds no token. `first` (N,) is the character in which each token begins.
    """
    begin, bits, read = int(tokens[0]), list[float](), -1
    targets = ids[begin:].astype(np.int64)
    for context in range(reach + 1):
        start = int(np.searchsorted(first[:begin], first[begin] - context)) if context else begin
        if start == read:  # the next token is longer than this context
            bits.append(bits[-1])
            continue
        read, before = start, ids[start:begin].astype(np.int64)
        if start in (0, begin):
            before = np.concatenate([[BOUNDARY], before])
        bits.append(_bits_after(model.engine, before, targets))
        yield
    return bits


def _bits_after(engine: Engine, before: Integers, targets: Integers) -> float:
    """The bits of some tokens after others."""
    log_probs, state = engine.read(before, engine.start(1))
    nats = -float(log_probs[0, targets[0]])
    for position in range(1, len(targets)):
        log_probs, state = engine.step(targets[position - 1 : position], state)
        nats -= float(log_probs[0, targets[position]])
    return nats / math.log(2)
