"""Where a run comes from that was trained on from another: its parents, as its card has them."""

from charlm.checkpoint.corpus_files import split_off
from charlm.checkpoint.history import JsonObject
from charlm.checkpoint.loading import Run


def lineage(parent: Run) -> tuple[JsonObject, ...]:
    """What the card of a run that goes on from `parent` says: its folder, the SHA-256 of its weights, and its text."""
    corpus = split_off(parent.history)[0].corpus  # without the list of its files, which may be long
    own = {"run": str(parent.path.resolve()), "weights": parent.weights, "corpus": corpus}
    return (own, *parent.history.parents)
