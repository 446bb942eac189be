"""Text <-> ids. The law: `decode(encode(text)) == text` for every str whatsoever.

Ids, for every tokenizer: `charlm.config.BOUNDARY` (0) is the boundary (before the first token of a text; never encoded, decodes to nothing);
1..256 are the 256 byte values; from 257 on come the learned pieces. Whatever the pieces cannot spell is spelled in
UTF-8 bytes, so nothing is ever unknown and nothing is ever dropped.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from charlm.config import Settings

FIRST_BYTE = 1
FIRST_PIECE = FIRST_BYTE + 256

Ids = npt.NDArray[np.int32]


class Tokenizer(ABC):
    """One way of cutting text into ids. Frozen once trained; two with equal `files()` are the same tokenizer."""

    Config: ClassVar[type[Settings]]
    kind: ClassVar[str]  # its name in TOKENIZERS, on the command line and in the checkpoint

    @classmethod
    @abstractmethod
    def train(cls, chunks: Iterable[str], config: Any) -> "Tokenizer":
        """Learn the vocabulary from the training part of a text, given in order as chunks of any size."""

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """What a checkpoint stores: file name -> content; deterministic, and all that `from_files` needs."""

    @classmethod
    @abstractmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "Tokenizer":
        """Rebuild from `files()`. Raises CheckpointError that names the file for anything malformed."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """V: the number of ids, boundary and bytes included."""

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """The ids of a text, (N,) int32; never the boundary."""

    @abstractmethod
    def pieces(self) -> list[bytes]:
        """The UTF-8 bytes that each id stands for, (V,): b"" for the boundary, one byte for a byte id."""
