"""POST /api/passage and /api/guesses: Shannon's game (1951), in which readers and models guess a text by characters.

A player guesses the next character until it is right; the numbers of guesses bound the entropy of the text. A model
guesses in the order of its probabilities.

Shapes: N tokens, V vocabulary.
"""

import math
import threading
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from charlm.analysis.surprisal import character_bits, places
from charlm.config import BOUNDARY
from charlm.corpus import Text, reopen
from charlm.errors import CharlmError
from charlm.server.errors import ApiError
from charlm.server.expect import TOKENS_PER_PIECE, Ids, read_typed
from charlm.server.library import ServedModel
from charlm.server.scheduler import Job, Steps, Task

MAX_CACHED_TEXTS = 4
COUNTED_CHARACTERS = 1 << 20
"""The characters of a held-out text, from its beginning, that the order of its characters is counted in."""
MAX_LISTED_CHARACTERS = 512
MAX_SKIPPED_CHARACTERS = 40
"""How far the beginning is moved so that it is that of a word."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Passage:
    """A passage of a held-out text, what stands before it, and the text's characters, most frequent first."""

    before: str
    passage: str
    characters: str


@dataclass(frozen=True)
class _HeldOut:
    text: Text
    characters: str  # most frequent first


class HeldOutTexts:
    """The held-out texts of models. Thread-safe."""

    def __init__(self) -> None:
        self._texts: dict[str, _HeldOut] = {}
        self._lock = threading.Lock()

    def passage(self, model: ServedModel, seed: int, before: int, length: int) -> Passage:
        """A passage of `length` characters after `before` others; fewer of a text that is shorter.

        Raises ApiError if the text cannot be read again.
        """
        held_out = self._of(model)
        spare = held_out.text.characters - before - length
        begin = int(np.random.default_rng(seed).integers(spare)) if spare > 0 else 0
        window = held_out.text.slice(begin, begin + MAX_SKIPPED_CHARACTERS + before + length).read()
        spaces = (place for place, character in enumerate(window[:MAX_SKIPPED_CHARACTERS]) if character.isspace())
        excess = len(window) - before - length
        first = min(next(spaces, -1) + 1, max(0, excess)) if begin else 0
        middle = max(first, min(first + before, len(window) - length))
        return Passage(window[first:middle], window[middle : middle + length], held_out.characters)

    def _of(self, model: ServedModel) -> _HeldOut:
        described = model.run.history.corpus
        key = str(model.run.history.sha256("held_out"))
        with self._lock:
            if key not in self._texts:
                self._texts[key] = _read(described)
                while len(self._texts) > MAX_CACHED_TEXTS:
                    del self._texts[next(iter(self._texts))]
            return self._texts[key]


def _read(described: object) -> _HeldOut:
    try:
        text = reopen(described).held_out
        counts = Counter(text.slice(0, COUNTED_CHARACTERS).read())
    except (CharlmError, OSError):
        raise ApiError(
            "the held-out text is not where it was, or is another by now", code="no_held_out_text", status=404
        ) from None
    return _HeldOut(text, "".join(character for character, _ in counts.most_common(MAX_LISTED_CHARACTERS)))


@dataclass(frozen=True)
class GuessesRequest:
    """A text of which the characters from `begin` on are guessed."""

    text: str
    begin: int


def guesses_tasks(model: ServedModel, asked: GuessesRequest, job: Job) -> list[Task]:
    """The task that answers for one model. Its one event is the JSON of the answer."""

    def steps() -> Steps:
        ids = model.tokenizer.encode(asked.text)
        first, last = places(model.tokenizer, ids.astype(np.uint32))
        begin = int(np.searchsorted(last, asked.begin))
        ranks, nats = yield from _guessed_tokens(model, ids, begin)
        bits = np.concatenate([np.zeros(begin), nats / math.log(2)])
        by_characters = model.tokenizer.characters_begun.max() == 1
        guesses = np.bincount(first[begin:] - asked.begin, ranks) if by_characters else None
        by_character = character_bits(model.tokenizer, ids.astype(np.uint32), bits, len(asked.text))[asked.begin :]
        job.send(
            {
                "model": model.name,
                "guesses": None if guesses is None else guesses.astype(int).tolist(),
                "bits": [round(value, 4) for value in by_character.tolist()],
            }
        )
        return None

    return [Task(1, steps)]


def _guessed_tokens(
    model: ServedModel, ids: Ids, begin: int
) -> Generator[None, None, tuple[Integers, npt.NDArray[np.float64]]]:
    """The number of guesses that each token from `begin` on takes, and its nats, both (N - begin,)."""
    prefix = yield from read_typed(model, ids[:begin])
    log_probs, state = prefix.log_probs, prefix.state
    ranks, nats = list[int](), list[float]()
    for position in range(begin, len(ids)):
        row, id = log_probs[0], int(ids[position])
        nats.append(-float(row[id]))
        likelier = (row > row[id]).sum() - (row[BOUNDARY] > row[id])  # the boundary is never guessed
        ranks.append(1 + int(likelier) + int((row[BOUNDARY + 1 : id] == row[id]).sum()))
        log_probs, state = model.engine.step(ids[position : position + 1].astype(np.int64), state)
        if len(ranks) % TOKENS_PER_PIECE == 0:
            yield
    return np.array(ranks, np.int64), np.array(nats, np.float64)
