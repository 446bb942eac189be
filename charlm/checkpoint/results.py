"""A run's one figure: what its model was last measured at, and on what. It stands in the run's card, as `result`.

Training writes what the validation slice gave; an evaluation of the whole text that the run held out takes its place,
until the run is trained on. Runs from before there was a `result` have it in what was measured while they trained.
"""

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from charlm.checkpoint.card import CARD, card_json, read_card
from charlm.checkpoint.lock import locked
from charlm.checkpoint.metrics import read_metrics
from charlm.errors import CharlmError
from charlm.files import write_atomically

HELD_OUT, VALIDATION = "held out", "validation"


@dataclass(frozen=True)
class Result:
    """Bits per character, and the text that they were measured on: the held-out text or the validation slice.

    `before_joining`: not of the model as it is, but of what it was before it learned from the validation slice, too.
    """

    bits_per_character: float
    text: str
    before_joining: bool = False

    @property
    def measured_on(self) -> str:
        """The text in a word or three, for a table."""
        return self.text + (", before joining" if self.before_joining else "")

    def __str__(self) -> str:
        """The figure in a sentence."""
        text = "the held-out text" if self.text == HELD_OUT else "the validation slice"
        before = ", before it joined the training text" if self.before_joining else ""
        return f"{self.bits_per_character:.3f} bits per character of {text}{before}"

    def to_json(self) -> dict[str, Any]:
        """For the card."""
        return asdict(self)


def result_of(path: Path, card: Mapping[str, Any]) -> Result | None:
    """The figure of the run with this card; None where nothing was measured, or nothing that makes sense."""
    found = card.get("result")
    if isinstance(found, Mapping):
        bits, text = found.get("bits_per_character"), found.get("text")
        if isinstance(bits, float) and math.isfinite(bits) and isinstance(text, str) and text in (HELD_OUT, VALIDATION):
            return Result(bits, text, bool(found.get("before_joining")))
        return None
    return _earlier(path, card)


def _earlier(path: Path, card: Mapping[str, Any]) -> Result | None:
    """From the metrics of an older run; those of a mixture are its network's alone."""
    config, progress = card.get("config"), card.get("progress")
    if isinstance(config, Mapping) and "members" in config:
        return None
    joined = isinstance(progress, Mapping) and progress.get("joined") is not None
    measured = [entry.get("best") for entry in read_metrics(path)]
    bits = next((best for best in reversed(measured) if isinstance(best, float) and math.isfinite(best)), None)
    return None if bits is None else Result(bits, VALIDATION, joined)


def weights_digest(path: Path) -> str:
    """SHA-256 of the weights that the run has now, by which `record_held_out` knows them again."""
    with suppress(CharlmError, KeyError, TypeError, AttributeError):
        return str(read_card(path)["files"]["weights"]["sha256"])
    return ""


def record_held_out(path: Path, weights: str, text_sha256: str, bits_per_character: float) -> None:
    """Note what these weights of the run cost on the text that it held out; nothing is noted of another text.

    The card keeps its age: no run becomes the newest by being looked at. A run that is being trained, has been trained
    on since, or cannot be written to keeps what it has, and that is no error: nobody asked for more than the figure.
    """
    with suppress(CharlmError, OSError, KeyError, TypeError, AttributeError), locked(path):
        card = read_card(path)
        if card["files"]["weights"]["sha256"] != weights or card["corpus"]["sha256"]["held_out"] != text_sha256:
            return
        saved = (path / CARD).stat()
        write_atomically(path / CARD, card_json({**card, "result": Result(bits_per_character, HELD_OUT).to_json()}))
        os.utime(path / CARD, ns=(saved.st_atime_ns, saved.st_mtime_ns))
