"""Ids <-> bits: entropy coding by range coders, one a block, whose blocks step through the model together.

Encoder and decoder ask the predictor for the same steps in the same order, with the same number of streams: one
probability changed in its last place would make everything after it another text.

Shapes: B blocks, N tokens, V vocabulary.
"""

from array import array
from collections.abc import Callable, Sequence

import numpy as np

from charlm.compression.predictors import Predictor, Weights
from charlm.config import BOUNDARY
from charlm.corpus import Stream
from charlm.errors import DataError
from charlm.evaluation.bootstrap import Floats
from charlm.evaluation.scoring import check_finite

CHECK_EVERY = 256  # steps between two reports of progress
MIN_SHARE = 2.0**-24  # of its range, which the coder gives to any id beside its probability
SLACK = 64, 1.001  # more bits, and how many times as many, than a block has, for the sum to be wrong

Code = Callable[[int, int, Weights], int]
"""(block, place in it, weights (1, V)) -> the id there, which was written or read."""

OnBits = Callable[[int, Floats], None]
"""Is told how many tokens are done, and the bits of each block so far, (B,)."""


def cut(tokens: int, blocks: int) -> list[int]:
    """The lengths of blocks of a text: as equal as they can be, the longer ones first, none of them empty."""
    blocks = min(blocks, tokens)
    return [tokens // blocks + (block < tokens % blocks) for block in range(blocks)]


def encode(predictor: Predictor, ids: Stream, blocks: int, on_bits: OnBits) -> tuple[list[bytes], float]:
    """Ids (N,) compressed in so many blocks, and what minus log2 of their probabilities adds up to.

    Raises TrainingFault for a probability that is zero or not a number.
    """
    from constriction import stream

    family = stream.model.Categorical(perfect=False)
    encoders = [stream.queue.RangeEncoder() for _ in range(blocks)]
    begins = np.cumsum([0, *cut(len(ids), blocks)])

    def code(block: int, place: int, weights: Weights) -> int:
        at = int(begins[block]) + place
        token = int(ids[at])
        if not 0 < weights[0, token] < np.inf:
            check_finite(np.array([np.inf]), at)
        encoders[block].encode(np.array([token], np.int32), family, weights)
        return token

    bits = _lockstep(predictor, len(ids), blocks, code, on_bits, added=0.0)
    return [encoder.get_compressed().astype("<u4").tobytes() for encoder in encoders], float(bits.sum())


def decode(predictor: Predictor, blocks: Sequence[bytes], tokens: int, on_bits: OnBits) -> list["array[int]"]:
    """The ids of each block, N = `tokens` in all.

    Raises DataError where the blocks cannot be what `encode` made of so many ids with this predictor.
    """
    from constriction import stream

    family = stream.model.Categorical(perfect=False)
    decoders = [stream.queue.RangeDecoder(np.frombuffer(block, "<u4").astype(np.uint32)) for block in blocks]
    room = np.array([8 * len(block) * SLACK[1] + SLACK[0] for block in blocks])
    ids = [array("I") for _ in blocks]

    def code(block: int, _: int, weights: Weights) -> int:
        try:
            token = int(decoders[block].decode(family, weights)[0])
        except (AssertionError, ValueError):  # not a number of the range, or weights that are no numbers
            raise _undecodable(block) from None
        ids[block].append(token)
        return token

    def check(done: int, bits: Floats) -> None:
        if (bits > room).any():
            raise _undecodable(int((bits > room).argmax()))
        on_bits(done, bits)

    _lockstep(predictor, tokens, len(blocks), code, check, added=MIN_SHARE)
    return ids


def _lockstep(predictor: Predictor, tokens: int, blocks: int, code: Code, on_bits: OnBits, added: float) -> Floats:
    """Go through all blocks a token at a time, all of them in one step; the bits of each, (B,).

    The bits of a token are minus log2 of its probability and what is `added` to that. Blocks that have ended before the
    others are stepped on with their last tokens: the number of streams stays.
    """
    bits, done = np.zeros(blocks), 0
    if not tokens:
        return bits
    state, read = predictor.start(blocks), np.full(blocks, BOUNDARY)
    while done < tokens:
        weights, state = predictor.step(read, state)
        active = min(blocks, tokens - done)
        ids = [code(block, done // blocks, weights[block : block + 1]) for block in range(active)]
        bits[:active] -= np.log2(weights[np.arange(active), ids] / predictor.total + added)
        read = np.concatenate((ids, read[active:]), dtype=np.int64)
        done += active
        if done // blocks % CHECK_EVERY == 0 or done == tokens:
            on_bits(done, bits)
    return bits


def _undecodable(block: int) -> DataError:
    return DataError(f"block {block + 1} does not decode")
