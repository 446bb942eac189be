"""Where a run comes from that was trained on from another: its parents, as its card has them."""

from collections.abc import Mapping
from typing import Any

from charlm.checkpoint.corpus_files import split_off
from charlm.checkpoint.loading import Run

PARENTS = "parents"
"""Under which name a card keeps the runs that it came from, the nearest first."""


def lineage(parent: Run) -> list[dict[str, Any]]:
    """What the card of a run that goes on from `parent` says: its folder, the SHA-256 of its weights, and its text."""
    corpus = split_off(parent.about)[0].get("corpus")  # without the list of its files, which may be long
    own = {"run": str(parent.path.resolve()), "weights": parent.weights, "corpus": corpus}
    return [own, *parents(parent.about)]


def parents(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The runs that a card says it came from, the nearest first; what is no such entry is passed by."""
    listed = about.get(PARENTS)
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
