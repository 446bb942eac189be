"""Every character of the training part that is not too rare has an id of its own; the others are spelled in bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from charlm.config import Settings, setting
from charlm.tokenizers.base import (
    CODE_POINTS,
    FIRST_PIECE,
    Ids,
    Integers,
    Tokenizer,
    code_points,
    code_points_from_json,
    count,
    spell,
)


@dataclass(frozen=True)
class CharactersConfig(Settings):
    """Which characters are learned.

    Those below `min_count` are spelled in bytes in training too. That is where the byte ids get their probabilities
    from, and it is about the right amount: what was met once foretells what was never met (Good 1953).
    """

    min_count: int = setting(2, "how often a character must occur to get an id of its own", min=1)


class Characters(Tokenizer):
    """One id a character."""

    Config: ClassVar[type[Settings]] = CharactersConfig
    kind = "characters"
    unit = "characters"

    def __init__(self, characters: Integers, seen: Integers) -> None:
        """The code points that have an id, and those of the training part; both ascend."""
        super().__init__([chr(character).encode("utf-8", "surrogatepass") for character in characters], seen)
        self._characters = characters
        self._ids = np.zeros(CODE_POINTS, dtype=np.int32)  # 0: spelled in bytes
        self._ids[characters] = np.arange(FIRST_PIECE, self.vocab_size)

    @classmethod
    def train(cls, chunks: Iterable[str], config: CharactersConfig) -> "Characters":
        """Learn the characters that occur `min_count` times or more."""
        counts = np.zeros(CODE_POINTS, dtype=np.int64)
        for chunk in chunks:
            count(chunk, counts)
        return cls(np.flatnonzero(counts >= config.min_count), np.flatnonzero(counts))

    def vocabulary(self) -> dict[str, Any]:
        """The code points that have an id, in the order of their ids."""
        return {"characters": self._characters.tolist()}

    @classmethod
    @override
    def from_vocabulary(cls, vocabulary: Mapping[str, Any], seen: Integers) -> "Characters":
        return cls(code_points_from_json(vocabulary["characters"]), seen)

    @override
    def encode(self, text: str) -> Ids:
        codes = code_points(text)
        ids = self._ids[codes]  # (characters,)
        spelled = ids == 0
        if not spelled.any():
            return ids
        rare = codes[spelled]
        lengths = np.ones(len(ids), dtype=np.int64)
        lengths[spelled] += (rare >= 0x80) + (rare >= 0x800).astype(np.int64) + (rare >= 0x10000)
        ids = np.repeat(ids, lengths)  # (N,)
        ids[ids == 0] = spell(rare.tobytes().decode("utf-32-le", "surrogatepass"))
        return ids
