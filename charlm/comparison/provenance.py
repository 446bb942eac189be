"""How a run was made, as its checkpoint.json says it: what another person needs to make it again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charlm.threads import PROCESSOR_USE

COPIED = (
    *("architecture", "config", "training", "parameters", "adapt", "corpus", "progress"),
    *("charlm", "torch", "environment", PROCESSOR_USE),
)
"""What a card says that is taken over as it stands; of an older run some of it is missing."""


def provenance(path: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object: every setting of the run, its text, versions, machine, hashes; null for what it does not say."""
    tokenizer = {kind.removeprefix("tokenizer/"): digest for kind, digest in _digests(card).items() if "/" in kind}
    return {
        "run": str(path),
        **{name: card.get(name) for name in COPIED},
        "tokenizer": {"kind": card.get("tokenizer"), "vocab_size": card.get("vocab_size"), "sha256": tokenizer},
        "weights_sha256": _digests(card).get("weights"),
    }


def pace_of(card: Mapping[str, Any]) -> float:
    """The share of its usual pace at which the run trained; 1 where its card does not say."""
    use = card.get(PROCESSOR_USE)
    share = use.get("share") if isinstance(use, Mapping) else None
    return share if isinstance(share, float) else 1.0


def _digests(card: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the run's files, by what the card calls them."""
    return {kind: entry["sha256"] for kind, entry in card["files"].items()}
