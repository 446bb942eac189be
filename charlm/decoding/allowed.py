"""Which ids may be drawn: those that occurred in training, and bytes only where they spell a character of its text.

A model gives every id some probability, so that any text has a score. Drawing the others would write noise: characters
that the training text does not have, and bytes that are no character at all. Decoding draws from the allowed ids only;
log-probabilities and scores are not changed by this.

Shapes: B streams, V vocabulary, P prefixes (the bytes of an unfinished character; prefix 0: none), K ids allowed.
"""

from collections.abc import Iterable
from functools import partial

import numpy as np
import numpy.typing as npt

from charlm.config import BOUNDARY
from charlm.errors import TrainingFault
from charlm.inference import LogProbs
from charlm.models.base import LanguageModel
from charlm.tokenizers.base import FIRST_BYTE, FIRST_PIECE, Tokenizer

Indices = npt.NDArray[np.int64]
Automaton = list[dict[int, int]]
"""For each prefix, the prefix that each byte leads to; 0 if the byte completes a character."""

CONTINUATION_IDS = np.arange(FIRST_BYTE + 0x80, FIRST_BYTE + 0xC0)
"""The ids of UTF-8 continuation bytes, (64,)."""

_ANY = range(0x80, 0xC0)
_WELL_FORMED = (  # lead bytes, and which bytes may follow (The Unicode Standard, table 3-7)
    (range(0xC2, 0xE0), (_ANY,)),
    (range(0xE0, 0xE1), (range(0xA0, 0xC0), _ANY)),
    (range(0xE1, 0xED), (_ANY, _ANY)),
    (range(0xED, 0xEE), (range(0x80, 0xA0), _ANY)),
    (range(0xEE, 0xF0), (_ANY, _ANY)),
    (range(0xF0, 0xF1), (range(0x90, 0xC0), _ANY, _ANY)),
    (range(0xF1, 0xF4), (_ANY, _ANY, _ANY)),
    (range(0xF4, 0xF5), (range(0x80, 0x90), _ANY, _ANY)),
)


class AllowedIds:
    """The ids that may be drawn next. Raises TrainingFault if there are none.

    Between characters: the pieces that occurred in training, and the first bytes of the characters that occurred
    spelled in bytes. Within a character: the bytes that continue one of these. If bytes occurred that are in no
    character known to the tokenizer (an imported table, a fine-tuned network), any well-formed UTF-8 of these bytes.
    """

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer) -> None:
        self.seen = model.seen_ids().cpu().numpy().copy()  # (V,)
        self.seen[BOUNDARY] = False
        self.every_id = np.arange(BOUNDARY + 1, len(self.seen))
        occurring = np.flatnonzero(self.seen[FIRST_BYTE:FIRST_PIECE])
        automaton = _of_characters(tokenizer, occurring.tolist()) or _of_bytes(occurring.tolist())
        self.next_prefix = np.zeros((len(automaton), FIRST_PIECE + 1), np.int64)  # (P, byte id; last: any piece)
        for prefix, steps in enumerate(automaton):
            for byte, after in steps.items():
                self.next_prefix[prefix, FIRST_BYTE + byte] = after
        starts = self.seen.copy()
        starts[FIRST_BYTE + 0x80 : FIRST_PIECE] = False
        starts[[FIRST_BYTE + byte for byte in automaton[0]]] = True
        if not starts.any():
            raise TrainingFault("this model knows no character that it may write; its weights are broken")
        within = [np.array(sorted(steps), np.int64) + FIRST_BYTE for steps in automaton[1:]]
        self.ids = [np.flatnonzero(starts), *within]  # for each prefix, (K,) ascending
        self.masks = np.zeros((len(automaton), len(CONTINUATION_IDS)), np.bool_)  # (P, 64); row 0 is not used
        for prefix, ids in enumerate(within, 1):
            self.masks[prefix, ids - CONTINUATION_IDS[0]] = True
        self._starts = starts
        self.spells = len(automaton) > 1  # whether any character takes several ids

    def after(self, prefixes: Indices, tokens: Indices) -> Indices:
        """The prefixes (B,) after these tokens (B,) have been drawn."""
        return self.next_prefix[prefixes, np.minimum(tokens, FIRST_PIECE)]

    def masked(self, log_probs: LogProbs, prefixes: Indices) -> LogProbs:
        """(B, V) with -inf for ids that are not allowed after the prefixes (B,)."""
        mask = np.broadcast_to(self._starts, log_probs.shape)
        within = prefixes.nonzero()[0]
        if len(within):
            mask = mask.copy()
            mask[within] = False
            mask[within[:, None], CONTINUATION_IDS] = self.masks[prefixes[within]]
        masked_log_probs: LogProbs = np.where(mask, log_probs, np.float32(-np.inf))
        return masked_log_probs

    def without_floor(self, log_probs: LogProbs, last: int) -> LogProbs:
        """(B, V) after the id `last`: if it did not occur in training, minus the largest probability of such an id.

        After an id that did not occur, a network spreads half of the probability evenly over the vocabulary
        (`Network`). Scores need that, but a draw would be a random letter.
        """
        if last == BOUNDARY or self.seen[last]:
            return log_probs
        unseen = ~self.seen
        unseen[BOUNDARY] = False
        probs = np.exp(log_probs)
        left = np.maximum(probs - probs[:, unseen].max(1, keepdims=True), 0)
        rows = (left[:, self._starts] > 0).any(1, keepdims=True)
        with np.errstate(divide="ignore"):
            reduced: LogProbs = np.where(rows, np.log(left), log_probs)
        return reduced

    def can_write(self, character: str) -> bool:
        """Whether the bytes of this character may be drawn."""
        prefix, *data = 0, *character.encode("utf-8", "surrogatepass")
        for byte in data:
            if FIRST_BYTE + byte not in self.ids[prefix]:
                return False
            prefix = self.next_prefix[prefix, FIRST_BYTE + byte]
        return True


def _of_characters(tokenizer: Tokenizer, occurring: list[int]) -> Automaton | None:
    """The characters of the training text that are spelled in several bytes, all of them `occurring` in training.

    None if other bytes occurred, which are in none of these characters.
    """
    occurring_bytes = set(occurring)
    spelled = map(partial(str.encode, encoding="utf-8", errors="surrogatepass"), tokenizer.spelled())
    characters = [data for data in spelled if len(data) > 1 and occurring_bytes.issuperset(data)]
    if not set().union(*characters) >= {byte for byte in occurring if byte >= 0x80}:
        return None
    automaton: Automaton = [{}]
    for data in characters:
        prefix = 0
        for byte in data[:-1]:
            prefix = automaton[prefix].setdefault(byte, len(automaton))
            if prefix == len(automaton):
                automaton.append({})
        automaton[prefix][data[-1]] = 0
    return automaton


def _of_bytes(occurring: Iterable[int]) -> Automaton:
    """All well-formed characters of several bytes, all of them `occurring` in training."""
    occurring_bytes = set(occurring)
    automaton: Automaton = [{}]
    states: dict[tuple[range, ...], int] = {(): 0}

    def state(expected: tuple[range, ...]) -> int | None:
        """The prefix after which these ranges of bytes are expected; None if no byte of one of them occurred."""
        if expected not in states:
            after = state(expected[1:])
            follow = occurring_bytes.intersection(expected[0])
            if after is None or not follow:
                return None
            states[expected] = len(automaton)
            automaton.append(dict.fromkeys(follow, after))
        return states[expected]

    for leads, expected in _WELL_FORMED:
        if (begun := state(expected)) is not None:
            automaton[0].update(dict.fromkeys(occurring_bytes.intersection(leads), begun))
    return automaton
