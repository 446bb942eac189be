"""The result of an evaluation, and the difference of two."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from charlm.errors import UsageError
from charlm.evaluation.bootstrap import Floats, Indices, ratio_interval, with_seeds


@dataclass(frozen=True)
class Evaluation:
    """One model on one text: the bits of its tokens, summed in float64, and the size of the text.

    `block_bits` and `block_characters` (K,) split both sums into consecutive blocks of at least 1 KiB of the text's
    UTF-8; a token's bits belong to the block of its last byte, a character to that of its first. `context`: how many
    characters the model saw; None: as many as it can use. `adapt`: what
    changed while the text was read: "none", "counts" (of a counting model that adapts, such as an n-gram with a cache)
    or "all" (the weights of networks as well, by dynamic evaluation, whose settings are `dynamic`); only equal kinds
    are comparable.
    """

    tokens: int
    characters: int
    bytes: int
    block_bits: Floats = field(repr=False)
    block_characters: Indices = field(repr=False)
    unseen_characters: int
    unseen_bits: float
    seconds: float
    text_name: str
    text_sha256: str
    context: int | None
    dynamic: dict[str, Any] | None = None
    adapt: str = "none"

    @property
    def bits(self) -> float:
        """The sum of -log2 P(token | all tokens before it) over the whole text."""
        return float(self.block_bits.sum())

    @property
    def nats(self) -> float:
        """`bits` in nats."""
        return self.bits * math.log(2)

    @property
    def bits_per_character(self) -> float:
        """The main metric: bits divided by the characters of the text."""
        return self.bits / self.characters

    @property
    def bits_per_byte(self) -> float:
        """Bits divided by the bytes of the text, comparable with compressors."""
        return self.bits / self.bytes

    @property
    def nats_per_character(self) -> float:
        """Nats divided by the characters of the text."""
        return self.nats / self.characters

    @property
    def perplexity(self) -> float:
        """Perplexity per character."""
        return math.pow(2, self.bits_per_character)

    @property
    def perplexity_per_token(self) -> float:
        """Perplexity per token; only comparable for the same tokenizer."""
        return math.pow(2, self.bits / self.tokens)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % block-bootstrap interval of bits per character; infinite for a text that is too short."""
        return ratio_interval(self.block_bits, self.block_characters)

    def to_json(self) -> dict[str, Any]:
        """Every metric by its name, without the blocks; an infinite end of the interval is null."""
        sums = {f.name: getattr(self, f.name) for f in fields(self) if not f.name.startswith("block_")}
        interval = [end if math.isfinite(end) else None for end in self.interval]
        return {**{name: getattr(self, name) for name in FIGURES}, "interval": interval, **sums}


FIGURES = (
    "bits_per_character",
    "bits_per_byte",
    "nats_per_character",
    "perplexity",
    "perplexity_per_token",
    "bits",
    "nats",
)


@dataclass(frozen=True)
class Difference:
    """The difference of two evaluations in bits per character: on this text, and its 95 % interval."""

    mean: float
    low: float
    high: float


def paired_difference(
    a: Evaluation,
    b: Evaluation,
    *,
    seeds: tuple[Sequence[float], Sequence[float]] = ((), ()),
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Bits per character of `a` minus those of `b`, with the interval of the difference itself.

    The same blocks of the text are resampled for both, so passages that are hard for both cancel out (Koehn 2004).
    If the evaluations are means over several trainings, `seeds` has the bits per character of each training of `a`
    and of `b`: their variance is then part of the interval (see `with_seeds`). Raises UsageError if the texts differ.
    """
    if a.text_sha256 != b.text_sha256:
        raise UsageError(
            f"{a.text_name} and {b.text_name} are different texts, so their figures cannot be compared\n"
            "evaluate both runs on the same one"
        )
    bits = a.block_bits - b.block_bits
    mean = float(bits.sum()) / a.characters
    interval = ratio_interval(bits, a.block_characters, resamples=resamples, seed=seed)
    return Difference(mean, *with_seeds(mean, interval, len(bits), *seeds))
