"""A run into its folder: whole or not at all."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from charlm import __version__
from charlm.checkpoint.card import CARD, FORMAT, OWN_FILE, card_json, described, read_card
from charlm.errors import CharlmError, CheckpointError
from charlm.files import sha256_of, write_atomically
from charlm.models import LanguageModel
from charlm.tokenizers import Tokenizer


def save(
    path: Path,
    architecture: str,
    model: LanguageModel,
    tokenizer: Tokenizer,
    about: Mapping[str, Any],
    resume: Mapping[str, Tensor] | None = None,
) -> None:
    """Save a run into its folder; an earlier save there is replaced at one stroke. Raises CharlmError if it cannot."""
    try:
        files = {kind: _write(path, name, content) for kind, name, content in _contents(model, tokenizer, resume)}
        card = {
            "format": FORMAT,
            "charlm": __version__,
            "torch": str(torch.__version__),
            "architecture": architecture,
            "config": model.config.to_json(),
            "vocab_size": model.vocab_size,
            "parameters": model.parameters_count,
            "tokenizer": tokenizer.kind,
            **about,
            "files": files,
        }
        write_atomically(path / CARD, card_json(card))
    except OSError as problem:
        with suppress(CheckpointError, KeyError, TypeError, AttributeError):
            _remove_all_but(path, _named(path))  # what this save has written takes room
        kept = "the last save is untouched" if (path / CARD).is_file() else "nothing is saved yet"
        raise CharlmError(f"{path}: cannot save the run: {problem.strerror}; {kept}") from None
    _remove_all_but(path, {entry["name"] for entry in files.values()})


def _contents(
    model: LanguageModel, tokenizer: Tokenizer, resume: Mapping[str, Tensor] | None
) -> Iterator[tuple[str, str, bytes]]:
    """What is to be written: what the card calls it, a name for it, its content; one at a time for memory's sake."""
    yield "weights", "weights.safetensors", to_safetensors(_own_tensors(model))
    if resume is not None:
        yield "resume", "resume.safetensors", to_safetensors(dict(resume))
    for name, content in tokenizer.files().items():
        yield f"tokenizer/{name}", name, content


def _write(path: Path, name: str, content: bytes) -> dict[str, Any]:
    """Write a file under a name that tells its content from any other, unless it is there; its entry in the card."""
    digest = hashlib.sha256(content).hexdigest()
    stem, dot, suffix = name.partition(".")
    file = path / f"{stem}-{digest[:12]}{dot}{suffix}"
    if file.is_symlink() or not file.is_file() or sha256_of(file) != digest:
        write_atomically(file, content)
    return described(file.name, len(content), digest)


def _named(path: Path) -> set[str]:
    """The files of the save that is there, if one is."""
    if not (path / CARD).exists():
        return set()
    return {entry["name"] for entry in read_card(path)["files"].values()}


def _remove_all_but(path: Path, named: set[str]) -> None:
    """Remove what earlier saves wrote, and what those that were killed did not finish."""
    with suppress(OSError):  # the save is done: what cannot be removed now will be by the next
        for old in path.iterdir():
            if old.name not in named and OWN_FILE.fullmatch(old.name):
                old.unlink(missing_ok=True)


def _own_tensors(model: LanguageModel) -> dict[str, Tensor]:
    """The state dict, each tensor once: tied weights go under their first name."""
    seen: set[int] = set()
    own = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            own[name] = tensor.detach().cpu().contiguous()
    return own
