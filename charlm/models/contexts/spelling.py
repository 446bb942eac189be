"""What the ids of a vocabulary look like as text: letters, digits, spaces, ends of lines."""

from collections.abc import Sequence
from typing import Any

import numpy as np

SPACE, NEWLINE, UPPER, LOWER, DIGIT, PUNCTUATION = range(6)
CHARACTER_KINDS = 6

Integers = np.ndarray[Any, np.dtype[Any]]


def kind_of(piece: str) -> int:
    """The kind of a piece's last character; bytes that are no character alone count as letters."""
    last = piece[-1:]
    if last == "\n":
        return NEWLINE
    if last.isspace():
        return SPACE
    if last.isupper():
        return UPPER
    if last.isdigit():
        return DIGIT
    return LOWER if last.isalpha() or not last else PUNCTUATION


def spelling(pieces: Sequence[str]) -> tuple[Integers, Integers]:
    """The kind of each id, (V,) uint8, and the id of the same piece in lower case where there is one, (V,) int32."""
    first: dict[str, int] = {}
    for token, piece in reversed(list(enumerate(pieces))):
        first[piece] = token
    kinds = np.array([kind_of(piece) for piece in pieces], np.uint8)
    folded = np.array(
        [first.get(piece.lower(), token) if piece else token for token, piece in enumerate(pieces)], np.int32
    )
    return kinds, folded
