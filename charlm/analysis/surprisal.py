"""The bits of each character of a text, the model's predictions at its place, and passages where two models differ.

Shapes: N characters, K tokens, T tokens read in one go, V vocabulary, P predictions.
"""

import codecs
import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from charlm.config import BOUNDARY
from charlm.corpus import Stream, Text
from charlm.decoding.allowed import CONTINUATION_IDS
from charlm.decoding.continuation import broken
from charlm.decoding.continuation import read as read_prompt
from charlm.evaluation.scoring import passes, score, token_bits
from charlm.evaluation.walk import ids_of
from charlm.inference import open_engine, reading
from charlm.models.base import LanguageModel, State, device_of
from charlm.progress import Listener, silent
from charlm.tokenizers.base import Tokenizer

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MAX_LOG_PROBS = 1 << 22  # computed in one call


@dataclass(frozen=True)
class Reading:
    """The bits of a text by one model, each token scored once with all tokens before it; the basis of other analyses.

    `token_bits` (K,) are the numbers that `evaluate` sums. `character_bits` (N,) divide the bits of a token evenly
    among the characters that its bytes lie in, and sum those of a character that is spelled in several tokens.
    """

    text: Text
    ids: Stream
    token_bits: Floats
    character_bits: Floats

    @property
    def bits(self) -> float:
        """The bits of the whole text, equal to those of `evaluate`."""
        return float(self.token_bits.sum())


class Prediction(NamedTuple):
    """A prediction of the next token. If it is not `complete` (no whole characters), `text` has bytes as \\xHH."""

    text: str
    probability: float
    complete: bool = True


class Character(NamedTuple):
    """One character (code point) of a text: its bits, its rank, and the predictions, most probable first.

    Rank 1: the character was the most probable one. Rank and predictions are those of the character's token; if there
    are several tokens, of the one with the most bits.
    """

    text: str
    bits: float
    rank: int
    predictions: tuple[Prediction, ...]


class Passage(NamedTuple):
    """A passage of a text, in characters, and its bits by each of two models."""

    begin: int
    end: int
    bits: float
    other_bits: float


def read(model: LanguageModel, tokenizer: Tokenizer, text: Text, *, progress: Listener = silent) -> Reading:
    """Read a text with a model. Raises DataError, CheckpointError and TrainingFault as `evaluate` does."""
    ids = ids_of(model, tokenizer, text, progress)
    parts, done = [], 0
    for bits in token_bits(model, ids):
        parts.append(bits)
        done += len(bits)
        progress("reading", done / len(ids))
    bits = np.concatenate(parts)
    return Reading(text, ids, bits, character_bits(tokenizer, ids, bits, text.characters))


def character_bits(tokenizer: Tokenizer, ids: Stream, token_bits: Floats, characters: int) -> Floats:
    """The bits of each character, (N,), from those of the tokens, (K,); see `Reading`."""
    first, last = places(tokenizer, ids)
    shared = last - first + 1
    owners = np.repeat(first - shared.cumsum() + shared, shared) + np.arange(shared.sum())
    return np.bincount(owners, np.repeat(token_bits / shared, shared), characters).astype(np.float64, copy=False)


def places(tokenizer: Tokenizer, ids: Stream) -> tuple[Integers, Integers]:
    """The characters that contain the first and the last byte of each token, both (K,)."""
    begun, within = tokenizer.characters_begun, tokenizer.begins_within
    ends = begun[ids].cumsum()
    return ends - begun[ids] - within[ids], ends - 1


def lens(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: Text,
    spans: Sequence[tuple[int, int]] | None = None,
    *,
    top: int = 5,
) -> Iterator[Character]:
    """The characters of some spans of a text, in order, each with the `top` predictions at its place.

    A span is its first character and one past its last; spans ascend and do not overlap; None: the whole text. The
    text before a span is read too, so its bits are those within the text. Raises as `read` does.
    """
    spans = [(0, text.characters)] if spans is None else spans
    ids = ids_of(model, tokenizer, text)
    first, last = places(tokenizer, ids)
    ranges = [np.arange(np.searchsorted(last, begin), np.searchsorted(first, end)) for begin, end in spans]
    tokens = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *ranges]))
    numbers = chain.from_iterable(range(*span) for span in spans)
    characters = chain.from_iterable(chain.from_iterable(text.slice(*span).chunks()) for span in spans)
    pieces, scored, used, here = tokenizer.pieces(), _scored_tokens(model, ids, tokens, top), 0, list[_ScoredToken]()
    for number, character in zip(numbers, characters, strict=True):
        here = [token for token in here if last[token.index] >= number]
        while used < len(tokens) and first[tokens[used]] <= number:
            here.append(next(scored))
            used += 1
        costliest = max(here, key=lambda token: token.bits)
        begun = b"".join(pieces[ids[token.index]] for token in here[: here.index(costliest)])
        bits = sum(token.bits / (last[token.index] - first[token.index] + 1) for token in here)
        yield Character(character, float(bits), costliest.rank, costliest.predictions(begun, pieces))


@dataclass(frozen=True, eq=False)
class _ScoredToken:
    """One token of a text: its index, bits and rank, and the most probable ids at its place."""

    index: int
    bits: float
    rank: int
    ids: list[int]
    probabilities: list[float]

    def predictions(self, begun: bytes, pieces: Sequence[bytes]) -> tuple[Prediction, ...]:
        """The ids as text, after the bytes `begun` of an incomplete character."""
        return tuple(
            spelled(begun + pieces[id], probability)
            for id, probability in zip(self.ids, self.probabilities, strict=True)
        )


def spelled(data: bytes, probability: float) -> Prediction:
    """Bytes as a prediction: text, or if they are no whole characters, each byte as \\xHH."""
    try:
        return Prediction(data.decode(), probability)
    except UnicodeDecodeError:
        return Prediction("".join(f"\\x{byte:02x}" for byte in data), probability, complete=False)


def _scored_tokens(model: LanguageModel, ids: Stream, indices: Integers, top: int) -> Iterator[_ScoredToken]:
    """The tokens at the given indices, ascending. The bits are those of `token_bits`."""
    max_tokens, done = max(1, MAX_LOG_PROBS // model.vocab_size), 0
    for stream, state, bits in passes(model, ids, model.chunk):
        here = indices[slice(*np.searchsorted(indices, [done, done + len(bits)]))] - done
        at = 0  # tokens of the stream that the state has read
        for span in np.split(here, np.flatnonzero(np.diff(here) > 1) + 1):
            for part in np.split(span, range(max_tokens, len(span), max_tokens)) if len(span) else []:
                begin, end = int(part[0]), int(part[-1]) + 1
                if at < begin:
                    with reading(model):
                        _, state = score(model, stream[None, at : begin + 1], state)
                ranks, top_ids, probabilities, state = _ranked(model, stream[begin : end + 1], state, top)
                yield from map(_ScoredToken, (part + done).tolist(), bits[part].tolist(), ranks, top_ids, probabilities)
                at = end
        done += len(bits)
        if not len(indices) or done > indices[-1]:
            return


def _ranked(
    model: LanguageModel, stream: Integers, state: State, top: int
) -> tuple[list[int], list[list[int]], list[list[float]], State]:
    """(T + 1,) ids -> for all but the first: ranks, the most probable ids and their probabilities; and the state."""
    tokens = torch.from_numpy(stream).to(device_of(model))
    with reading(model):
        log_probs, state = model(tokens[None, :-1], state)
        log_probs = log_probs[0, :, BOUNDARY + 1 :]  # the boundary is never a target, whatever its probability
        target_log_probs = log_probs.gather(1, tokens[1:, None] - BOUNDARY - 1)
        ranks = 1 + (log_probs > target_log_probs).sum(1)
        best = log_probs.topk(min(top, model.vocab_size - 1))
    return ranks.tolist(), (best.indices + BOUNDARY + 1).tolist(), best.values.exp().tolist(), state


def predict(model: LanguageModel, tokenizer: Tokenizer, text: str, *, top: int = 10) -> tuple[Prediction, ...]:
    """The most probable continuations of a text: one token each, or the bytes of a whole character.

    Raises TrainingFault for probabilities that are not numbers.
    """
    pieces, order, predictions = tokenizer.pieces(), count(), list[Prediction]()
    engine = open_engine(model, "eager")
    log_probs, state = read_prompt(engine, tokenizer, text)
    if not np.isfinite(log_probs).all():
        raise broken()
    candidates = list(enumerate(log_probs[0].tolist()))[BOUNDARY + 1 :]  # the boundary is never a target
    heap = [(-log_prob, next(order), id, pieces[id], state) for id, log_prob in candidates]
    heapq.heapify(heap)
    while heap and len(predictions) < top:
        nats, _, token, begun, state = heapq.heappop(heap)
        if _is_incomplete(begun):
            log_probs, state = engine.step(np.array([token]), state)
            for id, log_prob in zip(CONTINUATION_IDS.tolist(), log_probs[0, CONTINUATION_IDS].tolist(), strict=True):
                heapq.heappush(heap, (nats - log_prob, next(order), id, begun + pieces[id], state))
        else:
            predictions.append(spelled(begun, math.exp(-nats)))
    return tuple(predictions)


def _is_incomplete(data: bytes) -> bool:
    """Whether these bytes end within a character."""
    try:
        return codecs.utf_8_decode(data, "strict", False)[1] < len(data)
    except UnicodeDecodeError:
        return False


def gains(bits: Floats, other_bits: Floats, *, length: int = 80, count: int = 3) -> tuple[Passage, ...]:
    """The passages of `length` characters in which the first model saves most bits, most first, without overlap.

    bits and other_bits are the `character_bits` (N,) of two readings of one text.
    """
    length = min(length, len(bits))
    saved = np.concatenate([[0.0], (other_bits - bits).cumsum()])
    saved = saved[length:] - saved[:-length]  # in the passage that begins at each character
    passages = list[Passage]()
    while len(passages) < count and saved[begin := int(saved.argmax())] > 0:
        end = begin + length
        passages.append(Passage(begin, end, float(bits[begin:end].sum()), float(other_bits[begin:end].sum())))
        saved[max(0, begin - length + 1) : end] = -np.inf
    return tuple(passages)
