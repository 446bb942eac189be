"""The proof of a figure: the text, stored in the bits that the figure claims, and decoded again."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any

from charlm.compression.compressing import CompressionConfig, compress
from charlm.compression.content import Content
from charlm.compression.progress import OnProgress, silent
from charlm.corpus import Text
from charlm.evaluation import Evaluation
from charlm.evaluation.walk import ids_of
from charlm.models import LanguageModel
from charlm.tokenizers import Tokenizer


@dataclass(frozen=True)
class Proof:
    """What an evaluation claims for a text, and what the text took in one stream, decoded again, header told apart."""

    claimed_bits: float
    stored_bits: float
    header_bits: float
    characters: int
    seconds: float

    @classmethod
    def mean(cls, proofs: Sequence["Proof"]) -> "Proof":
        """The means of several proofs of one text."""
        means = {f.name: fmean(getattr(proof, f.name) for proof in proofs) for f in fields(cls)}
        return cls(**{**means, "characters": proofs[0].characters})  # type: ignore[arg-type]

    @property
    def ratio(self) -> float:
        """Stored by claimed bits."""
        return self.stored_bits / self.claimed_bits

    def to_json(self) -> dict[str, Any]:
        """Every figure by its name."""
        return {
            "claimed_bits": self.claimed_bits,
            "stored_bits": self.stored_bits,
            "ratio": self.ratio,
            "stored_bits_per_character": self.stored_bits / self.characters,
            "header_bits": self.header_bits,
            "seconds": self.seconds,
        }


def prove(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: Text,
    evaluation: Evaluation,
    *,
    on_progress: OnProgress = silent,
) -> Proof:
    """Compress the text of an evaluation in one stream, with the model that it is of, and decode it again.

    The model adapts as it did for the evaluation, with the usual settings. Raises what `compress` raises.
    """
    content = Content.of_text(ids_of(model, tokenizer, text), text)
    made = compress(
        model, tokenizer, content, CompressionConfig(streams=1, adapt=evaluation.adapt), on_progress=on_progress
    )
    return Proof(evaluation.bits, made.stored_bits, made.header_bits, text.characters, made.seconds)
