"""Why a model expected a character: what it gains from each of the characters before it. The same for every model.

The character k places back is worth the bits that the model pays less when its context begins there and not one later.
So the worths add up to what all of this context saves against none, and some are negative.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from charlm.analysis.surprisal import places
from charlm.config import BOUNDARY
from charlm.evaluation.scoring import score, windowed_token_bits
from charlm.server.library import ServedModel
from charlm.server.scheduler import Job, Steps, Work
from charlm.server.typed import Ids, read_typed


@dataclass(frozen=True)
class Asked:
    """A character of a text, by its number, and how many before it are looked at."""

    text: str
    place: int
    reach: int


def worths(model: ServedModel, asked: Asked, job: Job) -> list[Work]:
    """The work of saying what the characters before one are worth; its one event is the JSON of the answer."""

    def steps() -> Steps:
        ids = model.tokenizer.encode(asked.text[: asked.place + 1])
        _, last = places(model.tokenizer, ids.astype(np.uint32))
        tokens = np.flatnonzero(last >= asked.place)  # those that spell the character
        whole = yield from read_typed(model, ids)
        bits = yield from _by_context(model, ids, tokens, min(asked.reach, asked.place))
        job.send(
            {
                "model": model.name,
                "bits": float(whole.nats[tokens].sum()) / math.log(2),
                "without_context": bits[0],
                "worths": [before - after for before, after in pairwise(bits)],
            }
        )
        return None

    return [Work(1, steps)]


def _by_context(
    model: ServedModel, ids: Ids, tokens: "np.ndarray[tuple[int], np.dtype[np.int64]]", reach: int
) -> Generator[None, None, list[float]]:
    """What these tokens cost given nothing, and given the last 1, 2, … `reach` characters before them, in bits."""
    network, stream = model.run.model, ids.astype(np.uint32)
    alone = np.concatenate([[BOUNDARY], ids[tokens]]).astype(np.int64)
    bits, _ = score(network, alone[None], network.initial_state(1))
    found = [float(bits.sum())]
    for context in range(1, reach + 1):
        parts = windowed_token_bits(network, model.tokenizer, stream, context, tokens)
        found.append(sum(float(part.sum()) for part in parts))
        yield
    return found
