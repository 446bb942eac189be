"""A run's one figure: what its model was last measured at, and on what. It stands in the run's card, as `result`.

Training writes what the validation slice gave; an evaluation of the whole text that the run held out takes its place,
until the run is trained on. Runs from before there was a `result` have it in what was measured while they trained.
"""

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from charlm.checkpoint.card import CARD, Card, read_card
from charlm.checkpoint.history import HELD_OUT, VALIDATION, Result
from charlm.checkpoint.lock import locked
from charlm.checkpoint.metrics import read_metrics
from charlm.errors import CharlmError
from charlm.files import write_atomically


def result_of(path: Path, card: Card) -> Result | None:
    """The figure of the run with this card; None where nothing was measured, or nothing that makes sense."""
    return card.history.result or _earlier(path, card)


def _earlier(path: Path, card: Card) -> Result | None:
    """From the metrics of an older run; those of a mixture are its network's alone."""
    if isinstance(card.config, Mapping) and "members" in card.config:
        return None
    measured = [entry.get("best") for entry in read_metrics(path)]
    bits = next((best for best in reversed(measured) if isinstance(best, float) and math.isfinite(best)), None)
    return None if bits is None else Result(bits, VALIDATION, card.history.joined is not None)


def weights_digest(path: Path) -> str:
    """SHA-256 of the weights that the run has now, by which `record_held_out` knows them again."""
    with suppress(CharlmError):
        return read_card(path).files["weights"].sha256
    return ""


def record_held_out(path: Path, weights: str, text_sha256: str, bits_per_character: float) -> None:
    """Note what these weights of the run cost on the text that it held out; nothing is noted of another text.

    The card keeps its age: no run becomes the newest by being looked at. A run that is being trained, has been trained
    on since, or cannot be written to keeps what it has, and that is no error: nobody asked for more than the figure.
    """
    with suppress(CharlmError, OSError), locked(path):
        card = read_card(path)
        if card.files["weights"].sha256 != weights or card.history.sha256("held_out") != text_sha256:
            return
        saved = (path / CARD).stat()
        measured = replace(card.history, result=Result(bits_per_character, HELD_OUT))
        write_atomically(path / CARD, replace(card, history=measured).to_bytes())
        os.utime(path / CARD, ns=(saved.st_atime_ns, saved.st_mtime_ns))
