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

from charlm.analysis.surprisal import places
from charlm.config import BOUNDARY
from charlm.evaluation.scoring import score, windowed_token_bits
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
        _, last = places(model.tokenizer, ids.astype(np.uint32))
        tokens = np.flatnonzero(last >= asked.place)  # those that spell the character
        whole = yield from read_typed(model, ids)
        bits = yield from _bits_by_context(model, ids, tokens, min(asked.reach, asked.place))
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
    model: ServedModel, ids: Ids, tokens: "np.ndarray[tuple[int], np.dtype[np.int64]]", reach: int
) -> Generator[None, None, list[float]]:
    """The bits of these tokens without context, and given the last 1, 2, … `reach` characters before them."""
    network, stream = model.run.model, ids.astype(np.uint32)
    alone = np.concatenate([[BOUNDARY], ids[tokens]]).astype(np.int64)
    without_context, _ = score(network, alone[None], network.initial_state(1))
    bits = [float(without_context.sum())]
    for context in range(1, reach + 1):
        parts = windowed_token_bits(network, model.tokenizer, stream, context, tokens)
        bits.append(sum(float(part.sum()) for part in parts))
        yield
    return bits
