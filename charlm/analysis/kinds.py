"""Bits by kind of character."""

import unicodedata
from typing import NamedTuple

import numpy as np

from charlm.analysis.surprisal import Floats
from charlm.tokenizers.base import code_points

KINDS = ("letter at word start", "letter inside a word", "space", "punctuation", "digit", "newline")
WORD_START, WORD_INSIDE, WHITE_SPACE, SYMBOL, NUMBER, LINE_END = range(len(KINDS))
NEWLINES = "\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"
APOSTROPHES = "'\u2019"


class Kind(NamedTuple):
    """The characters of one kind and the sum of their bits."""

    characters: int
    bits: float

    @property
    def bits_per_character(self) -> float:
        """The mean bits of a character; NaN if there is none."""
        return self.bits / self.characters if self.characters else float("nan")


def bits_by_kind(text: str, character_bits: Floats) -> dict[str, Kind]:
    """The bits (N,) of a text's characters, summed by kind; each character has one kind.

    A word consists of letters, combining marks and digits; an apostrophe between letters does not end it. All that is
    no letter, digit or white space counts as punctuation, symbols included.
    """
    codes, inverse = np.unique(code_points(text), return_inverse=True)
    kinds = np.array([_kind(chr(code)) for code in codes.tolist()], dtype=np.int64)[inverse]
    word = np.concatenate([[False, False], (kinds == WORD_INSIDE) | (kinds == NUMBER)])  # [n + 2]: n is in a word
    apostrophe = np.isin(codes, [ord(sign) for sign in APOSTROPHES])[inverse]
    joined = word[1:-1] | np.concatenate([[False], apostrophe[:-1]]) & word[:-2]
    kinds[(kinds == WORD_INSIDE) & ~joined] = WORD_START
    counts = np.bincount(kinds, minlength=len(KINDS))
    sums = np.bincount(kinds, character_bits, minlength=len(KINDS))
    return {name: Kind(int(n), float(bits)) for name, n, bits in zip(KINDS, counts, sums, strict=True)}


def _kind(character: str) -> int:
    """The kind of a character without its context: letters count as inside a word."""
    if character in NEWLINES:
        return LINE_END
    if character.isspace():
        return WHITE_SPACE
    return {"L": WORD_INSIDE, "M": WORD_INSIDE, "N": NUMBER}.get(unicodedata.category(character)[0], SYMBOL)
