"""What each kind of character costs."""

import unicodedata
from typing import NamedTuple

import numpy as np

from charlm.analysis.surprisal import Floats
from charlm.tokenizers.base import code_points

KINDS = ("letter at word start", "letter inside a word", "space", "punctuation", "digit", "newline")
START, INSIDE, SPACE, PUNCTUATION, DIGIT, NEWLINE = range(len(KINDS))
NEWLINES = "\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"
APOSTROPHES = "'\u2019"


class Kind(NamedTuple):
    """How many characters of a kind there are and what they cost together."""

    characters: int
    bits: float

    @property
    def bits_per_character(self) -> float:
        """Not a number where there is none."""
        return self.bits / self.characters if self.characters else float("nan")


def bits_by_kind(text: str, character_bits: Floats) -> dict[str, Kind]:
    """The bits (N,) of a text's characters by their kind; each has one, so the kinds add up to the text.

    A word is letters, their marks and digits, and an apostrophe between letters does not end it. What is no letter,
    digit or white space is punctuation here: symbols, and whatever else Unicode has.
    """
    found, inverse = np.unique(code_points(text), return_inverse=True)
    alone = np.array([_kind(chr(code)) for code in found.tolist()], dtype=np.int64)
    kinds = alone[inverse]
    word = np.concatenate([[False, False], (kinds == INSIDE) | (kinds == DIGIT)])  # [n + 2]: character n is of a word
    apostrophe = np.isin(found, [ord(sign) for sign in APOSTROPHES])[inverse]
    joined = word[1:-1] | np.concatenate([[False], apostrophe[:-1]]) & word[:-2]
    kinds[(kinds == INSIDE) & ~joined] = START
    counts = np.bincount(kinds, minlength=len(KINDS))
    sums = np.bincount(kinds, character_bits, minlength=len(KINDS))
    return {name: Kind(int(n), float(bits)) for name, n, bits in zip(KINDS, counts, sums, strict=True)}


def _kind(character: str) -> int:
    """What a character is by itself: a letter, inside a word for now, or what else."""
    if character in NEWLINES:
        return NEWLINE
    if character.isspace():
        return SPACE
    return {"L": INSIDE, "M": INSIDE, "N": DIGIT}.get(unicodedata.category(character)[0], PUNCTUATION)
