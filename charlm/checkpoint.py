"""A run on disk: a folder that describes itself, is saved whole or not at all, and is verified before it is believed.

    checkpoint.json               what this is, how it was made, and the size and SHA-256 of every other file
    weights-<digest>.safetensors  the model's numbers
    tokenizer.*                   what the tokenizer needs
    resume-<digest>.safetensors   of a run that has not finished: optimizer, random state, place in the text
    metrics.jsonl                 what was measured on the way, a line each (not verified; `charlm info` shows the best)

A save writes the new weights beside the old and then replaces checkpoint.json, which is the moment it happens; what it
no longer names is then removed. Nothing here is executed: the weights are safetensors, the rest is JSON.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from charlm import __version__
from charlm.errors import CharlmError, CheckpointError, UsageError
from charlm.files import make_readable, sha256_of, sync_folder, write_atomically
from charlm.models import ARCHITECTURES, CountingModel, LanguageModel
from charlm.tokenizers import TOKENIZERS, Tokenizer

FORMAT = 1
CARD = "checkpoint.json"
METRICS = "metrics.jsonl"
RUNS = Path("checkpoints")
CARD_LIMIT = 16 << 20  # bytes; no honest card comes near


@dataclass(frozen=True)
class Run:
    """A run as loaded. `about` is what was known when it was saved: corpus, training settings, progress."""

    path: Path
    architecture: str
    model: LanguageModel
    tokenizer: Tokenizer
    about: dict[str, Any]
    resume: dict[str, Tensor] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What to call it: the name of its folder."""
        return self.path.resolve().name


def new_run(name: str, output: Path | None = None, *, force: bool = False) -> Path:
    """Make the folder of a new run: `output`, or checkpoints/`name` with a number behind it if that is taken.

    Raises UsageError if `output` exists, unless `force` says to replace the run that it is.
    """
    try:
        return _numbered(name) if output is None else _made(output, force)
    except OSError as problem:
        raise CharlmError(
            f"{output or RUNS}: cannot make this folder: {problem.strerror or problem}; --output chooses another"
        ) from None


def _numbered(name: str) -> Path:
    stem = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
    path, number = RUNS / stem, 1
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            number += 1
            path = RUNS / f"{stem}-{number}"


def _made(path: Path, force: bool) -> Path:
    with suppress(FileExistsError):
        path.mkdir(parents=True)
    if path.is_dir() and not any(path.iterdir()):
        return path
    if not force:
        raise UsageError(f"{path} exists; choose another --output, or --force to replace the run in it")
    if not (path / CARD).is_file():
        raise UsageError(f"{path} exists and is not a run; --force replaces only runs")
    shutil.rmtree(path)
    path.mkdir()
    return path


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
        files = {"weights": _save_tensors(path, "weights", _own_tensors(model))}
        if resume is not None:
            files["resume"] = _save_tensors(path, "resume", resume)
        for name, content in tokenizer.files().items():
            write_atomically(path / name, content)
            files[f"tokenizer/{name}"] = _described(path / name)
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
        write_atomically(path / CARD, _json(card))
        named = {entry["name"] for entry in files.values()}
        for old in path.glob("*.safetensors"):
            if old.name not in named:
                old.unlink(missing_ok=True)
    except OSError as problem:
        raise CharlmError(
            f"{path}: cannot save the run: {problem.strerror}; the last save, if any, is untouched"
        ) from None


def load(path: str | Path, *, resume: bool = False) -> Run:
    """The run in a folder, every file checked; with `resume` also what is needed to go on training.

    Raises CheckpointError that names the file for anything missing, damaged, swapped or from a newer version.
    """
    path = Path(path)
    card = read_card(path)
    try:
        known = card["tokenizer"] in TOKENIZERS and card["architecture"] in ARCHITECTURES
        files = {name: _verified(path, entry) for name, entry in card["files"].items()}
        weights, vocab_size = files["weights"], card["vocab_size"]
    except (KeyError, TypeError, AttributeError) as problem:
        raise CheckpointError(
            f"{path / CARD}: damaged: {problem!r} is wrong or missing; restore it from a copy"
        ) from None
    kind, architecture = card["tokenizer"], card["architecture"]
    if not known:
        raise CheckpointError(
            f"{path / CARD}: unknown architecture {architecture!r} or tokenizer {kind!r}; a newer charlm may know it"
        )
    contents = {
        name.removeprefix("tokenizer/"): file.read_bytes()
        for name, file in files.items()
        if name.startswith("tokenizer/")
    }
    tokenizer = TOKENIZERS[kind].from_files(contents)
    if type(vocab_size) is not int or vocab_size != tokenizer.vocab_size:
        raise CheckpointError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} ids, the model {vocab_size}: not one run"
        )
    config = card.get("config")
    model = _build(ARCHITECTURES[architecture], config, vocab_size, _load_tensors(weights), path)
    if resume and "resume" not in files:
        raise CheckpointError(f"{path}: this run is finished; to train on from it use --from {path}")
    about = {k: v for k, v in card.items() if k not in ("config", "files", "architecture", "tokenizer", "vocab_size")}
    return Run(path, architecture, model, tokenizer, about, _load_tensors(files["resume"]) if resume else {})


def read_card(path: Path) -> dict[str, Any]:
    """The content of a run's checkpoint.json, its format checked. Raises CheckpointError."""
    card = path / CARD
    try:
        if card.stat().st_size > CARD_LIMIT:
            raise CheckpointError(f"{card}: larger than any card charlm writes; this is not a run")
        content = json.loads(card.read_bytes())
        version = content["format"]
    except (FileNotFoundError, NotADirectoryError):
        what = "is not a run: it has no checkpoint.json" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path} {what}; `charlm info` lists the runs there are") from None
    except OSError as problem:
        raise CheckpointError(f"{card}: cannot be read: {problem.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"{card}: damaged: not the JSON of a run; restore it from a copy") from None
    if version != FORMAT:
        raise CheckpointError(f"{card}: format {version!r}, this charlm reads {FORMAT}: upgrade charlm to read it")
    return dict(content)


def runs(folder: Path = RUNS) -> list[Path]:
    """The runs in a folder, the newest first."""
    found = [(card.stat().st_mtime_ns, card.parent) for card in folder.glob(f"*/{CARD}")]
    return [path for _, path in sorted(found, reverse=True)]


def newest(folder: Path = RUNS) -> Path:
    """The run saved last. Raises CheckpointError if there is none."""
    for path in runs(folder):
        return path
    raise CheckpointError(f"no run in {folder}/ yet: make one with `charlm train CORPUS`, or name a run's folder")


def _json(card: Mapping[str, Any]) -> bytes:
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")  # half a surrogate, as in odd file names, the way JSON spells it


def _own_tensors(model: LanguageModel) -> dict[str, Tensor]:
    """The state dict, each tensor once: tied weights go under their first name."""
    seen: set[int] = set()
    own = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            own[name] = tensor.detach().cpu().contiguous()
    return own


def _build(
    kind: type[LanguageModel], config: Any, vocab_size: int, tensors: dict[str, Tensor], path: Path
) -> LanguageModel:
    settings = kind.Config.from_json(config, str(path / CARD), CheckpointError)
    damaged = CheckpointError(f"{path}: the weights do not fit the configuration in {CARD}: files of different runs?")
    if issubclass(kind, CountingModel):
        try:
            return kind.from_tensors(settings, vocab_size, tensors).eval()
        except (ValueError, KeyError) as problem:
            raise CheckpointError(f"{path}: {problem}; restore the run from a copy") from None
    try:
        with torch.device("meta"):  # shapes first: a false size must not take memory
            expected = {name: tensor.shape for name, tensor in _named(kind(settings, vocab_size)).items()}
    except (RuntimeError, TypeError, OverflowError):  # a size beyond what a tensor can have
        raise damaged from None
    if expected != {name: tensor.shape for name, tensor in tensors.items()}:
        raise damaged
    with torch.random.fork_rng():
        model = kind(settings, vocab_size)
    with torch.no_grad():
        for name, tensor in _named(model).items():
            if tensor.dtype != tensors[name].dtype:
                raise damaged
            tensor.copy_(tensors[name])
    return model.eval()


def _named(model: LanguageModel) -> dict[str, Tensor]:
    return dict([*model.named_parameters(), *model.named_buffers()])  # tied weights once


def _save_tensors(path: Path, stem: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    descriptor, beside = tempfile.mkstemp(dir=path, prefix=f".{stem}.", suffix=".part")
    os.close(descriptor)
    try:
        save_file(dict(tensors), beside)
        with Path(beside).open("rb+") as file:
            os.fsync(file.fileno())
        make_readable(Path(beside))
        entry = _described(Path(beside)) | {"name": ""}
        entry["name"] = f"{stem}-{entry['sha256'][:12]}.safetensors"
        Path(beside).replace(path / entry["name"])
        sync_folder(path)
    except SafetensorError as problem:
        raise CharlmError(f"{path}: cannot save the run: {problem}; the last save, if any, is untouched") from None
    finally:
        Path(beside).unlink(missing_ok=True)
    return entry


def _load_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError) as problem:
        raise CheckpointError(f"{file}: damaged: {problem}; restore it from a copy") from None


def _described(file: Path) -> dict[str, Any]:
    return {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256_of(file)}


def _verified(path: Path, entry: Mapping[str, Any]) -> Path:
    """The file that an entry of the card names, its size and hash checked."""
    name = entry["name"]
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]{,99}", name):
        raise CheckpointError(f"{path / CARD}: damaged: names a file that no run has; restore it from a copy")
    file = path / name
    if file.is_symlink() or not file.is_file():
        raise CheckpointError(f"{file}: missing; the run is incomplete, restore it from a copy")
    try:
        if file.stat().st_size == entry["bytes"] and sha256_of(file) == entry["sha256"]:
            return file
    except OSError as problem:
        raise CheckpointError(f"{file}: cannot be read: {problem.strerror}") from None
    raise CheckpointError(f"{file}: damaged: not the content that was saved; restore it from a copy")
