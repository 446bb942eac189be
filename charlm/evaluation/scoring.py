"""The bits of each token of a text, given all tokens before it or only the last few characters.

Shapes: B windows, N tokens, V vocabulary.
"""

import math
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from charlm.config import BOUNDARY
from charlm.corpus import Stream
from charlm.errors import TrainingFault, UsageError
from charlm.evaluation.bootstrap import Floats, Indices
from charlm.models.base import LanguageModel, State, device_of, evaluating
from charlm.threads import ThreadTuner
from charlm.tokenizers.base import Tokenizer

TARGETS_PER_SEGMENT = 2**15
"""Targets whose windows are collected and batched together."""


def token_bits(model: LanguageModel, ids: Stream, *, chunk: int | None = None) -> Iterator[Floats]:
    """Bits of every id, given the boundary and all ids before it; (N,) float64 in all, `chunk` at a time.

    The state is carried from chunk to chunk, so the chunk affects only the speed. Raises TrainingFault for a
    probability that is zero or not a number.
    """
    return (bits for _, _, bits in passes(model, ids, chunk or model.chunk))


def passes(model: LanguageModel, ids: Stream, chunk: int) -> Iterator[tuple[Indices, State, Floats]]:
    """Score a text `chunk` tokens at a time: yields the ids with the one before them, the state before, the bits."""
    state, last = model.initial_state(1), BOUNDARY
    with ThreadTuner() as tuner:
        for begin in range(0, len(ids), chunk):
            stream = np.concatenate([[last], ids[begin : begin + chunk]], dtype=np.int64)
            begun = time.perf_counter()
            with evaluating(model):
                bits, after = score(model, stream[None], state)
            tuner.record(time.perf_counter() - begun, len(stream) - 1)
            check_finite(bits[0], begin)
            yield stream, state, bits[0]
            state, last = after, int(stream[-1])


def windowed_token_bits(
    model: LanguageModel, tokenizer: Tokenizer, ids: Stream, context: int, places: Indices | None = None
) -> Iterator[Floats]:
    """Bits of every id, given only the tokens that lie wholly within the last `context` characters before it.

    Bytes of an incomplete character are always included. The boundary is included if the window reaches the start of
    the text or contains no token. (N,) float64 in all, in order; with `places`, ascending, only the bits of the ids
    there. Raises UsageError for a context below 1, TrainingFault as `token_bits` does.
    """
    if context < 1:
        raise UsageError(f"must be at least 1 character, not {context}", "context")
    tokens = min(2**15, max(1, 2**25 // model.vocab_size))  # of all windows in a batch
    with evaluating(model):
        for begin, stream, starts, targets in _windows(tokenizer, ids, context):
            if places is None:
                here = np.arange(len(targets))
            else:
                here = places[slice(*np.searchsorted(places, [begin, begin + len(targets)]))] - begin
            starts, targets = starts[here], targets[here]
            bits = np.empty(len(here))
            alone = starts == targets
            starts[alone] -= 1
            counts = targets - starts
            for count in np.unique(counts):
                group = np.flatnonzero(counts == count)
                for rows in np.array_split(group, math.ceil(len(group) / max(1, tokens // count))):
                    windows = stream[starts[rows, None] + np.arange(count + 1)]  # (B, count + 1), the target last
                    windows[alone[rows], 0] = BOUNDARY
                    bits[rows] = score(model, windows, model.initial_state(len(windows)))[0][:, -1]
            check_finite(bits, begin + here)
            yield bits


def _windows(tokenizer: Tokenizer, ids: Stream, context: int) -> Iterator[tuple[int, Indices, Indices, Indices]]:
    """For each segment: the position of its first target, a stream, and the start and target of each window in it."""
    begun, within = tokenizer.characters_begun, tokenizer.begins_within
    reach = 4 * (context + 1)  # no character takes more than four tokens
    for begin in range(0, len(ids), TARGETS_PER_SEGMENT):
        first = max(0, begin - reach)
        segment = ids[first : begin + TARGETS_PER_SEGMENT]
        character = np.cumsum(begun[segment]) - begun[segment] - within[segment]  # the character each token begins in
        oldest = character[begin - first :] - context
        starts = np.searchsorted(character, oldest) + 1
        if first == 0:
            starts[oldest <= 0] = 0
        stream = np.concatenate([[BOUNDARY], segment], dtype=np.int64)
        yield begin, stream, starts, np.arange(begin - first + 1, len(stream))


@torch.inference_mode()
def score(model: LanguageModel, windows: Indices, state: State) -> tuple[Floats, State]:
    """(B, T + 1) ids -> (B, T) bits of all but the first, and the state after all but the last."""
    ids = torch.from_numpy(windows).to(device_of(model))
    log_probs, state = model.score(ids[:, :-1], ids[:, 1:], state)
    return bits_of(log_probs), state


def bits_of(log_probs: Tensor) -> Floats:
    """Natural logarithms of probabilities as bits, in float64."""
    bits: Floats = log_probs.double().cpu().numpy() / -math.log(2)
    return bits


def check_finite(bits: Floats, begin: int | Indices) -> None:
    """Raises TrainingFault for bits that are not finite. `begin`: the number of the first token, or of each token."""
    bad = np.flatnonzero(~np.isfinite(bits))
    if len(bad):
        place = begin + bad[0] if isinstance(begin, int) else begin[bad[0]]
        raise TrainingFault(
            f"the model's probability of token {place} is zero or not a number ({bits[bad[0]]} bits)\n"
            "its weights are broken: go back to an earlier run, or train again with a lower learning rate"
        )
