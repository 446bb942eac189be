"""What each character of a text costs a model, what the model expected instead, and where two models part.

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
from charlm.decoding.continuation import broken
from charlm.decoding.continuation import read as read_prompt
from charlm.evaluation.scoring import characters_of, passes, score, token_bits
from charlm.evaluation.walk import ids_of
from charlm.inference import open_engine, reading
from charlm.models.base import LanguageModel, State, device_of
from charlm.progress import Listener, silent
from charlm.tokenizers.base import FIRST_BYTE, Tokenizer

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MAX_LOG_PROBS = 1 << 22
"""Log-probabilities held at a time."""
CONTINUATION_IDS = range(FIRST_BYTE + 0x80, FIRST_BYTE + 0xC0)
"""The ids of the bytes that go on with a character."""


@dataclass(frozen=True)
class Reading:
    """One walk of one model over a text, every token scored once with all before it; other analyses start from it.

    `token_bits` (K,) are the numbers that `evaluate` adds up. `character_bits` (N,) share the bits of a token evenly
    among the characters that its bytes lie in, and add up those of a character that is spelled in several tokens.
    """

    text: Text
    ids: Stream
    token_bits: Floats
    character_bits: Floats

    @property
    def bits(self) -> float:
        """Of the whole text, what `evaluate` reports."""
        return float(self.token_bits.sum())


class Prediction(NamedTuple):
    """What a model might read next. Where that is not `complete` (no whole characters), `text` has bytes as \\xHH."""

    text: str
    probability: float
    complete: bool = True


class Character(NamedTuple):
    """One character (code point) of a text: its bits, and what was expected, likeliest first.

    Rank 1: what came was the likeliest. Rank and predictions are those of the character's token; of the one that cost
    most where there are several.
    """

    text: str
    bits: float
    rank: int
    predictions: tuple[Prediction, ...]


class Passage(NamedTuple):
    """A stretch of a text, in characters, and what it costs each of two models in bits."""

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
    """The characters that the first and the last byte of each token lie in, both (K,)."""
    begun, within = characters_of(tokenizer)
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
    """The characters of some spans of a text, one after another, each with the `top` predictions in its place.

    A span is the number of its first character and one past its last; they ascend and do not overlap; None: the
    whole text. All that comes before is read, so an excerpt costs what it costs within the text. Raises as `read` does.
    """
    spans = [(0, text.characters)] if spans is None else spans
    ids = ids_of(model, tokenizer, text)
    first, last = places(tokenizer, ids)
    ranges = [np.arange(np.searchsorted(last, begin), np.searchsorted(first, end)) for begin, end in spans]
    wanted = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *ranges]))
    numbers = chain.from_iterable(range(*span) for span in spans)
    characters = chain.from_iterable(chain.from_iterable(text.slice(*span).chunks()) for span in spans)
    pieces, guesses, met, here = tokenizer.pieces(), _guesses(model, ids, wanted, top), 0, list[_Guess]()
    for number, character in zip(numbers, characters, strict=True):
        here = [guess for guess in here if last[guess.token] >= number]
        while met < len(wanted) and first[wanted[met]] <= number:
            here.append(next(guesses))
            met += 1
        dearest = max(here, key=lambda guess: guess.bits)
        begun = b"".join(pieces[ids[guess.token]] for guess in here[: here.index(dearest)])
        bits = sum(guess.bits / (last[guess.token] - first[guess.token] + 1) for guess in here)
        yield Character(character, float(bits), dearest.rank, dearest.predictions(begun, pieces))


@dataclass(frozen=True, eq=False)
class _Guess:
    """What a model said of one token of a text: the bits and the rank of what came, and the likeliest."""

    token: int
    bits: float
    rank: int
    ids: list[int]
    probabilities: list[float]

    def predictions(self, begun: bytes, pieces: Sequence[bytes]) -> tuple[Prediction, ...]:
        """As text, after the bytes that have begun the character."""
        return tuple(
            spelled(begun + pieces[id], probability)
            for id, probability in zip(self.ids, self.probabilities, strict=True)
        )


def spelled(data: bytes, probability: float) -> Prediction:
    """Bytes as a prediction: text, or where they are no whole characters, each of them as \\xHH."""
    try:
        return Prediction(data.decode(), probability)
    except UnicodeDecodeError:
        return Prediction("".join(f"\\x{byte:02x}" for byte in data), probability, complete=False)


def _guesses(model: LanguageModel, ids: Stream, wanted: Integers, top: int) -> Iterator[_Guess]:
    """What the model says of the `wanted` tokens, which ascend. The bits are those of `token_bits`."""
    most, done = max(1, MAX_LOG_PROBS // model.vocab_size), 0
    for stream, state, bits in passes(model, ids, model.chunk):
        here = wanted[slice(*np.searchsorted(wanted, [done, done + len(bits)]))] - done
        at = 0  # how much of the stream the state has read
        for stretch in np.split(here, np.flatnonzero(np.diff(here) > 1) + 1):
            for part in np.split(stretch, range(most, len(stretch), most)) if len(stretch) else []:
                begin, end = int(part[0]), int(part[-1]) + 1
                if at < begin:
                    with reading(model):
                        _, state = score(model, stream[None, at : begin + 1], state)
                ranks, likely, probabilities, state = _expected(model, stream[begin : end + 1], state, top)
                yield from map(_Guess, (part + done).tolist(), bits[part].tolist(), ranks, likely, probabilities)
                at = end
        done += len(bits)
        if not len(wanted) or done > wanted[-1]:
            return


def _expected(
    model: LanguageModel, stream: Integers, state: State, top: int
) -> tuple[list[int], list[list[int]], list[list[float]], State]:
    """(T + 1,) ids -> of all but the first: the rank, the likeliest ids and their probabilities; and the state."""
    tokens = torch.from_numpy(stream).to(device_of(model))
    with reading(model):
        log_probs, state = model(tokens[None, :-1], state)
        log_probs = log_probs[0, :, BOUNDARY + 1 :]  # which is never read, whatever its probability
        came = log_probs.gather(1, tokens[1:, None] - BOUNDARY - 1)
        ranks = 1 + (log_probs > came).sum(1)
        best = log_probs.topk(min(top, model.vocab_size - 1))
    return ranks.tolist(), (best.indices + BOUNDARY + 1).tolist(), best.values.exp().tolist(), state


def predict(model: LanguageModel, tokenizer: Tokenizer, text: str, *, top: int = 10) -> tuple[Prediction, ...]:
    """What may come after a text, likeliest first: one token each, or the bytes that make a whole character.

    Raises TrainingFault for probabilities that are not numbers.
    """
    pieces, order, found = tokenizer.pieces(), count(), list[Prediction]()
    engine = open_engine(model, "eager")
    log_probs, state = read_prompt(engine, tokenizer, text)
    if not np.isfinite(log_probs).all():
        raise broken()
    likely = list(enumerate(log_probs[0].tolist()))[BOUNDARY + 1 :]  # the boundary is never read
    waiting = [(-log_prob, next(order), id, pieces[id], state) for id, log_prob in likely]
    heapq.heapify(waiting)
    while waiting and len(found) < top:
        cost, _, token, begun, state = heapq.heappop(waiting)
        if _unfinished(begun):
            log_probs, state = engine.step(np.array([token]), state)
            for id, log_prob in zip(CONTINUATION_IDS, log_probs[0, CONTINUATION_IDS].tolist(), strict=True):
                heapq.heappush(waiting, (cost - log_prob, next(order), id, begun + pieces[id], state))
        else:
            found.append(spelled(begun, math.exp(-cost)))
    return tuple(found)


def _unfinished(data: bytes) -> bool:
    """Whether these bytes begin a character and need more."""
    try:
        return codecs.utf_8_decode(data, "strict", False)[1] < len(data)
    except UnicodeDecodeError:
        return False


def gains(bits: Floats, other_bits: Floats, *, length: int = 80, count: int = 3) -> tuple[Passage, ...]:
    """Where the first model saves most against the other: passages of `length` characters, most first, all apart.

    bits and other_bits are the `character_bits` (N,) of two readings of one text.
    """
    length = min(length, len(bits))
    saved = np.concatenate([[0.0], (other_bits - bits).cumsum()])
    saved = saved[length:] - saved[:-length]  # by the passage that begins at each character
    found = list[Passage]()
    while len(found) < count and saved[begin := int(saved.argmax())] > 0:
        end = begin + length
        found.append(Passage(begin, end, float(bits[begin:end].sum()), float(other_bits[begin:end].sum())))
        saved[max(0, begin - length + 1) : end] = -np.inf
    return tuple(found)
