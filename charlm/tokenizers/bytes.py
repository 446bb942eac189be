"""The bytes of the text's UTF-8, and nothing learned."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from typing_extensions import override

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

    @override
    def vocabulary(self) -> dict[str, Any]:
        return {}

    @classmethod
    @override
    def from_vocabulary(cls, vocabulary: Mapping[str, Any], seen: Integers) -> "Bytes":
        return cls((), seen)

    @override
    def encode(self, text: str) -> Ids:
        return spell(text)
