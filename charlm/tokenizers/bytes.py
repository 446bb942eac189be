"""The bytes of the text's UTF-8, and nothing learned."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from charlm.config import Settings
from charlm.tokenizers.base import Ids, Integers, Tokenizer, alphabet, spell


@dataclass(frozen=True)
class BytesConfig(Settings):
    """Nothing to set."""


class Bytes(Tokenizer):
    """One id a byte."""

    Config: ClassVar[type[Settings]] = BytesConfig
    kind = "bytes"

    @classmethod
    def train(cls, chunks: Iterable[str], config: BytesConfig) -> "Bytes":  # noqa: ARG003 - there is nothing to set
        """Learn nothing but which characters the training part holds."""
        return cls((), alphabet(chunks))

    def vocabulary(self) -> dict[str, Any]:
        """Nothing: all of these are alike."""
        return {}

    @classmethod
    def from_vocabulary(cls, vocabulary: Mapping[str, Any], seen: Integers) -> "Bytes":  # noqa: ARG003
        """As the interface says."""
        return cls((), seen)

    def encode(self, text: str) -> Ids:
        """As the interface says."""
        return spell(text)
