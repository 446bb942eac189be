"""The tables of a model as the tensors that are saved, and back.

A slot of 32 bits is saved in 16, the 12 bits of its probability that predictions use and the level of its updates.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from charlm.models.contexts.tables import (
    CONTEXTS,
    DEPTHS,
    INPUTS,
    LEVEL_OF,
    LEVELS,
    MATCHES,
    MIXERS,
    RUN_LENGTHS,
    STEPS,
    Array,
    Counts,
    Trust,
    set_offsets,
)

FIRST_OF_LEVEL = np.searchsorted(LEVEL_OF, np.arange(LEVELS)).astype(np.uint32)
PROBABILITIES = ("slot_map", "run_map", "match_map", "adjust_1", "adjust_2")


def packed(counts: Counts, trust: Trust) -> dict[str, Tensor]:
    """What is saved; unsigned numbers as signed ones of the same bits."""
    arrays = counts._asdict() | trust._asdict()
    slots = (counts.slots >> 20 << 4 | LEVEL_OF[counts.slots & 1023]).astype(np.uint16)
    arrays |= {"slots": slots.view(np.int16), "runs": counts.runs.view(np.int32)}
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def unpacked(tensors: Mapping[str, Tensor]) -> Counts:
    """What was counted, as the kernel reads it."""
    arrays: dict[str, Array] = {name: tensors[name].cpu().numpy() for name in Counts._fields}
    slots = arrays["slots"].view(np.uint16).astype(np.uint32)
    arrays["slots"] = slots >> 4 << 20 | np.uint32(1 << 19) | FIRST_OF_LEVEL[slots & 15]
    arrays["runs"] = arrays["runs"].view(np.uint32)
    return Counts(**arrays)


def check(tensors: Mapping[str, Tensor], leaves: int) -> None:
    """Raises ValueError unless these are tables of a tree with so many leaves, in which no number leads outside."""
    symbols = leaves + 1
    shapes = {
        "slot_map": (CONTEXTS * LEVELS * 3 * STEPS,),
        "run_map": (CONTEXTS * RUN_LENGTHS * DEPTHS,),
        "match_map": (MATCHES,),
        "weights": (int(set_offsets(symbols)[-1]), INPUTS),
        "final": (symbols, MIXERS),
    }
    hashed = [tensors[name].numel() for name in ("runs", "slots", "checks", "places")]
    adjusted = [tensors[name].numel() for name in ("adjust_1", "adjust_2")]
    hashed += [size // STEPS for size in adjusted]
    sound = (
        all(tuple(tensors[name].shape) == shape for name, shape in shapes.items())
        and all(
            tensors[name].dim() == 1 for name in ("runs", "slots", "checks", "places", "text", "adjust_1", "adjust_2")
        )
        and all(size >= 4 and size & (size - 1) == 0 for size in hashed)
        and hashed[1] == hashed[2]
        and adjusted[0] == adjusted[1] == hashed[4] * STEPS
        and all(bool(((tensors[name] >= 0) & (tensors[name] <= 1)).all()) for name in PROBABILITIES)
        and all(bool(tensors[name].isfinite().all()) for name in ("weights", "final"))
        and _within(tensors["text"].numpy(), symbols)
        and _within(tensors["places"].numpy(), len(tensors["text"]) + 1)
        and _within(tensors["runs"].numpy().view(np.uint32) >> 16, leaves)
    )
    if not sound:
        raise ValueError("the tables of the model of contexts contradict each other")


def _within(numbers: Array, end: int) -> bool:
    return not len(numbers) or (int(numbers.min()) >= 0 and int(numbers.max()) < end)
