"""One walk over a text, every token scored once.

Shapes: N tokens, K blocks, U unseen characters.
"""

import math
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from charlm.corpus import Stream, Text, encode
from charlm.errors import CheckpointError, DataError, UsageError
from charlm.evaluation.bootstrap import Floats, Indices
from charlm.evaluation.dynamic import Dynamic, dynamic_token_bits
from charlm.evaluation.result import Evaluation
from charlm.evaluation.scoring import token_bits, windowed_token_bits
from charlm.models.base import LanguageModel
from charlm.progress import Listener, silent
from charlm.tokenizers.base import Tokenizer

LEAST_BLOCK = 1024
"""Bytes of a block, at least."""

MOST_BLOCKS = 32
"""A longer text is cut into longer blocks, not into more of them: a scene or a file suits one model or another for some
kilobytes, and blocks should be independent (tests/benchmarks/NOTES.md: those of 1 KB made intervals half as wide)."""


def evaluate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: Text,
    *,
    context: int | None = None,
    dynamic: Dynamic | None = None,
    progress: Listener = silent,
) -> Evaluation:
    """What the model pays for the whole text: one stream, the boundary first, each token once, sums in float64.

    With `context` the model sees only the last so many characters before each token. With `dynamic` a copy of it
    goes on learning from what it has been asked (see `dynamic_token_bits`), which is another figure. `progress` is told
    (what is being done, fraction done); `seconds` are those of scoring alone. Raises DataError for an empty text,
    CheckpointError for a tokenizer that is not the model's, UsageError for a context below 1 or a `dynamic` that does
    not fit, TrainingFault for a probability that is zero or not a number.
    """
    if dynamic is not None and context is not None:
        raise UsageError("learns from all of the text before each character: it goes with no `context`", "dynamic")
    if dynamic is not None and not model.by_gradient:
        raise UsageError(
            f"is for networks: {type(model).__name__} has no gradients of its own to learn by; leave it out", "dynamic"
        )
    ids = ids_of(model, tokenizer, text, progress)
    unseen = tokenizer.unseen(ids)
    of_unseen, lengths, block_characters = _marked(unseen, len(ids)), tokenizer.byte_lengths(), _block_characters(text)
    block_bits, unseen_bits, done, byte = np.zeros(len(block_characters)), 0.0, 0, 0
    begin = time.perf_counter()
    for bits in _token_bits(model, tokenizer, ids, context, dynamic):
        part = slice(done, done + len(bits))
        ends = byte + lengths[ids[part]].cumsum()
        block_bits += np.bincount(_block(text, ends - 1), weights=bits, minlength=len(block_bits))
        unseen_bits += float(bits[of_unseen[part]].sum())
        done, byte = part.stop, int(ends[-1])
        progress("evaluating", done / len(ids))
    assert byte == text.bytes, "the tokenizer spells another text"
    return Evaluation(
        tokens=len(ids),
        characters=text.characters,
        bytes=text.bytes,
        block_bits=block_bits,
        block_characters=block_characters,
        unseen_characters=len(unseen),
        unseen_bits=unseen_bits,
        seconds=time.perf_counter() - begin,
        text_name=text.name,
        text_sha256=text.sha256,
        context=context,
        dynamic=None if dynamic is None else dynamic.to_json(),
        adapt="all" if dynamic is not None else "counts" if model.adapts else "none",
    )


def ids_of(model: LanguageModel, tokenizer: Tokenizer, text: Text, progress: Listener = silent) -> Stream:
    """The ids of a text for a model to read; raises DataError and CheckpointError as `evaluate` does."""
    if not text.characters:
        raise DataError(f"{text.name}: an empty text cannot be evaluated")
    check_vocabulary(model, tokenizer)
    return encode(text, tokenizer, progress=progress)


def check_vocabulary(model: LanguageModel, tokenizer: Tokenizer) -> None:
    """Raises CheckpointError for a tokenizer that has more or fewer ids than the model."""
    if tokenizer.vocab_size != model.vocab_size:
        raise CheckpointError(
            f"the tokenizer has {tokenizer.vocab_size} ids and the model {model.vocab_size}: they are of different runs"
        )


def _token_bits(
    model: LanguageModel, tokenizer: Tokenizer, ids: Stream, context: int | None, dynamic: Dynamic | None
) -> Iterator[Floats]:
    if dynamic is not None:
        return dynamic_token_bits(model, ids, dynamic)
    return token_bits(model, ids) if context is None else windowed_token_bits(model, tokenizer, ids, context)


def _marked(spans: Indices, tokens: int) -> npt.NDArray[np.bool_]:
    """Which of (N,) tokens lie in one of the spans (U, 2), first token and one past the last."""
    changes = np.zeros(tokens + 1, dtype=np.int8)
    changes[spans[:, 0]] += 1
    changes[spans[:, 1]] -= 1
    return changes[:-1].cumsum(dtype=np.int8).astype(np.bool_)


def _block_characters(text: Text) -> Indices:
    """How many characters begin in each block, (K,)."""
    counts, byte = np.zeros(int(_block(text, np.array(text.bytes))) + 1, dtype=np.int64), 0
    for chunk in text.chunks():
        utf8 = np.frombuffer(chunk.encode(), dtype=np.uint8)
        counts += np.bincount(_block(text, byte + np.flatnonzero(utf8 & 0xC0 != 0x80)), minlength=len(counts))
        byte += len(utf8)
    return counts


def _block(text: Text, byte: Indices) -> Indices:
    """The number of the block that each byte of the text lies in; the last one takes in what is left over."""
    size = max(LEAST_BLOCK, math.ceil(text.bytes / MOST_BLOCKS))
    return np.minimum(byte // size, max(0, text.bytes // size - 1))
