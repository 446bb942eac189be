"""How a run was made, as its checkpoint.json says it: what another person needs to make it again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charlm.checkpoint import Card

COPIED = (
    *("architecture", "config", "training", "parameters", "adapt", "corpus", "progress"),
    *("charlm", "torch", "environment", "processor_use"),
)
"""What a card says that is taken over as it stands; of an older run some of it is missing."""


def provenance(path: Path, card: Card, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object: every setting of the run, its text, versions, machine, hashes; null for what it does not say.

    `chosen` are the values that training chose for settings that are unset in `config`, see `LanguageModel.chosen`.
    """
    digests = {kind: entry.sha256 for kind, entry in card.files.items()}
    tokenizer = {kind.removeprefix("tokenizer/"): digest for kind, digest in digests.items() if "/" in kind}
    content = card.to_json()
    return {
        "run": str(path),
        **{name: content.get(name) for name in COPIED},
        "chosen": dict(chosen),
        "tokenizer": {"kind": card.tokenizer, "vocab_size": card.vocab_size, "sha256": tokenizer},
        "weights_sha256": digests["weights"],
    }


def pace_of(processor_use: Mapping[str, Any] | None) -> float:
    """The share of its usual pace at which a run trained; 1 where its card does not say."""
    share = (processor_use or {}).get("share")
    return share if isinstance(share, float) else 1.0
