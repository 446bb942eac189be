"""`evaluate`: one pass over a text that scores every token once.

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
from charlm.evaluation.result import Evaluation
from charlm.evaluation.scoring import token_bits, windowed_token_bits
from charlm.models import Dynamic, LanguageModel, adapted
from charlm.progress import Listener, silent
from charlm.tokenizers.base import Tokenizer

MIN_BLOCK_BYTES = 1024
MAX_BOOTSTRAP_BLOCKS = 32
"""Long texts have longer blocks, not more of them: blocks should be independent, but a scene or a file favours one
model for some kilobytes (tests/benchmarks/NOTES.md: blocks of 1 KB made intervals half as wide)."""


def evaluate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: Text,
    *,
    context: int | None = None,
    adapt: str | None = None,
    dynamic: Dynamic | None = None,
    progress: Listener = silent,
) -> Evaluation:
    """Score the whole text as one stream that starts with the boundary; sums are float64.

    With `context` the model sees only the last `context` characters before each token. `adapt` says what learns from
    the text as it is read (see `adapted`; `dynamic` how the weights do), and figures of different kinds do not compare.
    `progress` is called with (activity, fraction done); `seconds` is the time of scoring alone. Raises DataError for an
    empty text, CheckpointError for a tokenizer that is not the model's, UsageError for a context below 1 or an
    adaptation that the model cannot have, TrainingFault for a probability that is zero or not a number.
    """
    model = adapted(model, adapt, dynamic)
    if context is not None and model.adaptation == "all":
        raise UsageError("all: learns from all of the text before each character: it goes with no `context`", "adapt")
    ids = ids_of(model, tokenizer, text, progress)
    unseen = tokenizer.unseen(ids)
    of_unseen, lengths, block_characters = _marked(unseen, len(ids)), tokenizer.byte_lengths(), _block_characters(text)
    block_bits, unseen_bits, done, byte = np.zeros(len(block_characters)), 0.0, 0, 0
    begin = time.perf_counter()
    for bits in _token_bits(model, tokenizer, ids, context):
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
        dynamic=(dynamic or Dynamic()).to_json() if model.adaptation == "all" else None,
        adapt=model.adaptation,
    )


def ids_of(model: LanguageModel, tokenizer: Tokenizer, text: Text, progress: Listener = silent) -> Stream:
    """The ids of a text for a model to read; raises DataError and CheckpointError as `evaluate` does."""
    if not text.characters:
        raise DataError(f"{text.name}: an empty text cannot be evaluated")
    check_vocabulary(model, tokenizer)
    return encode(text, tokenizer, progress=progress)


def check_vocabulary(model: LanguageModel, tokenizer: Tokenizer) -> None:
    """Raises CheckpointError for a tokenizer with another number of ids than the model."""
    if tokenizer.vocab_size != model.vocab_size:
        raise CheckpointError(
            f"the tokenizer has {tokenizer.vocab_size} ids and the model {model.vocab_size}: they are of different runs"
        )


def _token_bits(model: LanguageModel, tokenizer: Tokenizer, ids: Stream, context: int | None) -> Iterator[Floats]:
    return token_bits(model, ids) if context is None else windowed_token_bits(model, tokenizer, ids, context)


def _marked(spans: Indices, tokens: int) -> npt.NDArray[np.bool_]:
    """(N,): whether each token lies in one of the spans (U, 2), each its first token and one past its last."""
    changes = np.zeros(tokens + 1, dtype=np.int8)
    changes[spans[:, 0]] += 1
    changes[spans[:, 1]] -= 1
    return changes[:-1].cumsum(dtype=np.int8).astype(np.bool_)


def _block_characters(text: Text) -> Indices:
    """The number of characters that begin in each block, (K,)."""
    counts, byte = np.zeros(int(_block(text, np.array(text.bytes))) + 1, dtype=np.int64), 0
    for chunk in text.chunks():
        utf8 = np.frombuffer(chunk.encode(), dtype=np.uint8)
        counts += np.bincount(_block(text, byte + np.flatnonzero(utf8 & 0xC0 != 0x80)), minlength=len(counts))
        byte += len(utf8)
    return counts


def _block(text: Text, byte: Indices) -> Indices:
    """The number of the block of each byte; the last block includes the remainder."""
    size = max(MIN_BLOCK_BYTES, math.ceil(text.bytes / MAX_BOOTSTRAP_BLOCKS))
    return np.minimum(byte // size, max(0, text.bytes // size - 1))
