"""A run into its folder: whole or not at all."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from charlm import __version__
from charlm.checkpoint.card import CARD, OWN_FILE, Card, FileEntry, read_card
from charlm.checkpoint.corpus_files import FILE_LIST, split_off
from charlm.checkpoint.history import History
from charlm.errors import CharlmError, CheckpointError
from charlm.files import atomic_file, sha256_of, write_atomically
from charlm.machine import environment
from charlm.models import LanguageModel
from charlm.tokenizers import Tokenizer

_DTYPE_NAMES = {  # what safetensors calls them, in the order of its own list
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.uint16: "U16",
    torch.float16: "F16", torch.bfloat16: "BF16", torch.int32: "I32", torch.uint32: "U32", torch.float32: "F32",
    torch.float64: "F64", torch.int64: "I64", torch.uint64: "U64",
}  # fmt: skip

Pieces = list[bytes | memoryview]  # of a file, in order


def save(
    path: Path,
    architecture: str,
    model: LanguageModel,
    tokenizer: Tokenizer,
    history: History | None = None,
    resume: Mapping[str, Tensor] | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Save a run into its folder; an earlier save there is replaced at one stroke. Raises CharlmError if it cannot.

    `weights`, a state dict, takes the place of the model's own. A save takes next to no memory.
    """
    try:
        history, listed = split_off(history or History())
        contents = _contents(model, weights or model.state_dict(), tokenizer, resume, listed)
        files = {kind: _write(path, name, pieces) for kind, name, pieces in contents}
        card = Card(
            charlm=__version__,
            torch=str(torch.__version__),
            architecture=architecture,
            config=model.config.to_json(),
            vocab_size=model.vocab_size,
            parameters=model.parameters_count,
            adapt="counts" if model.adapts else "none",
            environment=environment(),
            tokenizer=tokenizer.kind,
            history=history,
            files=files,
        )
        write_atomically(path / CARD, card.to_bytes())
    except OSError as problem:
        with suppress(CheckpointError):
            _remove_all_but(path, _named(path))  # what this save has written takes room
        state = "the last save is untouched" if (path / CARD).is_file() else "nothing is saved yet"
        raise CharlmError(f"{path}: cannot save the run: {problem.strerror}; {state}") from None
    _remove_all_but(path, {entry.name for entry in files.values()})


def _contents(
    model: LanguageModel,
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    resume: Mapping[str, Tensor] | None,
    listed: bytes | None,
) -> Iterator[tuple[str, str, Pieces]]:
    """What is to be written: what the card calls it, a name for it, its content."""
    yield "weights", "weights.safetensors", safetensors({name: weights[name] for name in _own_names(model)})
    if resume is not None:
        yield "resume", "resume.safetensors", safetensors(resume)
    if listed is not None:
        yield "files", FILE_LIST, [listed]
    for name, content in tokenizer.files().items():
        yield f"tokenizer/{name}", name, [content]


def _write(path: Path, name: str, pieces: Pieces) -> FileEntry:
    """Write a file under a name that tells its content from any other, unless it is there; its entry in the card."""
    hashed = hashlib.sha256()
    for piece in pieces:
        hashed.update(piece)
    digest = hashed.hexdigest()
    stem, dot, suffix = name.partition(".")
    file = path / f"{stem}-{digest[:12]}{dot}{suffix}"
    if file.is_symlink() or not file.is_file() or sha256_of(file) != digest:
        with atomic_file(file) as beside:
            beside.writelines(pieces)
    return FileEntry(file.name, sum(map(len, pieces)), digest)


def safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Pieces:
    """A safetensors file as the library would write it: the header, then the memory of the tensors themselves.

    The library copies them three times, and ends the process where there is no room for that.
    Source: github.com/huggingface/safetensors, "Format"; the widest types come first, so that all are aligned.
    """
    types, pieces, end = list(_DTYPE_NAMES), [], 0
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    for name in sorted(tensors, key=lambda name: (-types.index(tensors[name].dtype), name)):
        tensor = tensors[name].detach().cpu().contiguous()
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": _DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
        pieces.append(tensor.reshape(-1).view(torch.uint8).numpy().data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text, *pieces]


def _named(path: Path) -> set[str]:
    """The files of the save that is there, if one is."""
    if not (path / CARD).exists():
        return set()
    return {entry.name for entry in read_card(path).files.values()}


def _remove_all_but(path: Path, named: set[str]) -> None:
    """Remove what earlier saves wrote, and what those that were killed did not finish."""
    with suppress(OSError):  # the save is done: what cannot be removed now will be by the next
        for old in path.iterdir():
            if old.name not in named and OWN_FILE.fullmatch(old.name):
                old.unlink(missing_ok=True)


def _own_names(model: LanguageModel) -> list[str]:
    """The names in the state dict, each tensor once: tied weights go under their first name."""
    first: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        first.setdefault(id(tensor), name)
    return list(first.values())
