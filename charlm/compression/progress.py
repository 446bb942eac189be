"""How far coding is, as a progress bar shows it."""

from collections.abc import Callable
from dataclasses import dataclass

from charlm.compression.coding import OnBits


@dataclass(frozen=True)
class CodingProgress:
    """Tokens done of how many, and minus log2 of their probabilities so far.

    `units` is the length of the whole text, in `unit`: "character", or "byte" of what is not UTF-8.
    """

    what: str
    tokens: int
    of: int
    bits: float
    units: int
    unit: str

    @property
    def done(self) -> float:
        """The fraction done."""
        return self.tokens / max(1, self.of)

    @property
    def bits_per_unit(self) -> float:
        """Bits per character, or byte, so far; the tokens done are taken to be as long as those to come."""
        return self.bits * self.of / max(1, self.tokens * self.units)


OnProgress = Callable[[CodingProgress], None]


def silent(_: CodingProgress) -> None:
    """Tells nobody."""


def watched(on_progress: OnProgress, what: str, tokens: int, characters: int | None, size: int) -> OnBits:
    """What the coder tells, for a text of so many tokens, characters (None: not UTF-8) and bytes."""
    units, unit = (size, "byte") if characters is None else (characters, "character")
    return lambda done, bits: on_progress(CodingProgress(what, done, tokens, float(bits.sum()), units, unit))
