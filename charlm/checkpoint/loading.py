"""A run out of its folder: whatever the folder holds, a run or a CheckpointError.

Sizes come first, then hashes, then content. What is large is compared with what the configuration asks for before it
takes memory; nothing is parsed that the card does not vouch for.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from charlm.checkpoint.card import CARD, damaged, find_files, read_card, verify
from charlm.checkpoint.corpus_files import put_back
from charlm.errors import CheckpointError
from charlm.memory import physical_memory, ran_out
from charlm.models import ALL_ARCHITECTURES, CountingModel, LanguageModel
from charlm.names import code_quoted, is_utf8
from charlm.tokenizers import ALL_TOKENIZERS, Tokenizer

TOKENIZER_LIMIT = 16 << 20  # bytes; every character that Unicode has room for, listed twice, takes 15.6 million
HEADER_LIMIT = 4 << 20  # bytes of the names and shapes before the tensors
ATTEMPTS = 10  # at a run that is saved again while it is read


@dataclass(frozen=True)
class Run:
    """A run as loaded. `about` is what was known when it was saved: corpus, training settings, progress.

    `weights` is the SHA-256 of the file that the model's numbers came from.
    """

    path: Path
    architecture: str
    model: LanguageModel
    tokenizer: Tokenizer
    about: dict[str, Any]
    resume: dict[str, Tensor] = field(default_factory=dict)
    weights: str = ""

    @property
    def name(self) -> str:
        """What to call it: the name of its folder."""
        return self.path.resolve().name


def load(path: str | Path, *, resume: bool = False) -> Run:
    """The run in a folder, every file checked; with `resume` also what is needed to go on training.

    Raises CheckpointError that names the file for anything missing, damaged, swapped or from a newer version. A run
    that is being trained is read as it was last saved.
    """
    path = Path(path)
    card = read_card(path)
    if not is_utf8(path):
        raise CheckpointError(f"{path}: the name of this folder is not UTF-8, so its weights cannot be read; rename it")
    for _ in range(ATTEMPTS):
        try:
            return _load(path, card, resume)
        except CheckpointError:
            if (now := read_card(path)) == card:
                raise
            card = now
    raise CheckpointError(f"{path}: is saved faster than it can be read; try again when it is trained")


def _load(path: Path, card: dict[str, Any], resume: bool) -> Run:
    try:
        kind, architecture, vocab_size, config = (
            card[name] for name in ("tokenizer", "architecture", "vocab_size", "config")
        )
        known = kind in ALL_TOKENIZERS and architecture in ALL_ARCHITECTURES
        entries = card["files"]
        files = find_files(path, entries)
        digests = {name: str(entry["sha256"]) for name, entry in entries.items()}
        weights = files["weights"]
    except (KeyError, TypeError, AttributeError) as problem:
        raise CheckpointError(
            f"{path / CARD}: damaged: {str(problem)[:80]} is wrong or missing; restore it from a copy"
        ) from None
    if not known:
        raise CheckpointError(
            f"{path / CARD}: unknown architecture {str(architecture)[:30]!r} or tokenizer {str(kind)[:30]!r}; "
            "a newer charlm may know it"
        )
    if resume and "resume" not in files:
        raise CheckpointError(f"{path}: {_no_way_on(path, card, architecture)}")
    tokenizer = _load_tokenizer(path, kind, files, digests)
    if type(vocab_size) is not int or vocab_size != tokenizer.vocab_size:
        raise CheckpointError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} ids, the model {str(vocab_size)[:20]}: not one run"
        )
    model = _load_model(path, architecture, config, vocab_size, weights, entries["weights"])
    about = {k: v for k, v in card.items() if k not in ("config", "files", "architecture", "tokenizer", "vocab_size")}
    if "corpus" in about:
        about["corpus"] = put_back(path, card)
    more = {}
    if "resume" in files:
        _shapes(files["resume"])
        verify(files["resume"], entries["resume"])
        more = _tensors(files["resume"]) if resume else {}
    return Run(path, architecture, model, tokenizer, about, more, digests["weights"])


def _no_way_on(path: Path, card: Mapping[str, Any], architecture: str) -> str:
    """Why a run holds nothing to resume, and what to do instead."""
    if issubclass(ALL_ARCHITECTURES[architecture], CountingModel):
        return f"this run is finished: counted. To count more text: `train(TEXT, TEXT, architecture={architecture!r})`"
    progress, name = card.get("progress"), code_quoted(path)
    if isinstance(progress, Mapping) and progress.get("finished") is False:
        return (
            "its numbers went wrong, so it cannot be resumed; "
            f"`train(TEXT, start={name})` trains on from its last good weights"
        )
    return f"this run is finished; a larger budget trains it on: `train(resume={name}, budget='10m')`"


def _load_tokenizer(path: Path, kind: str, files: Mapping[str, Path], digests: Mapping[str, str]) -> Tokenizer:
    contents = {}
    for name, file in files.items():
        if name.startswith("tokenizer/"):
            try:
                if file.stat().st_size > TOKENIZER_LIMIT:
                    raise damaged(file, "larger than any tokenizer")
                content = file.read_bytes()
            except OSError as problem:
                raise CheckpointError(f"{file}: cannot be read: {problem.strerror}") from None
            if hashlib.sha256(content).hexdigest() != digests[name]:
                raise damaged(file)
            contents[name.removeprefix("tokenizer/")] = content
    try:
        return ALL_TOKENIZERS[kind].from_files(contents)
    except CheckpointError as problem:
        raise CheckpointError(f"{path}: {problem}") from None


def _load_model(
    path: Path, architecture: str, config: Any, vocab_size: int, file: Path, entry: Mapping[str, Any]
) -> LanguageModel:
    kind = ALL_ARCHITECTURES[architecture]
    try:
        settings = kind.Config.from_json(config, str(path / CARD), CheckpointError)
    except RecursionError:
        raise CheckpointError(
            f"{path / CARD}: damaged: members within members without end; restore it from a copy"
        ) from None
    try:
        kind.check_shapes(settings, vocab_size, _shapes(file))  # first: a false size must not take memory
        verify(file, entry)
        return kind.from_tensors(settings, vocab_size, _tensors(file)).eval()
    except (ValueError, KeyError, IndexError, TypeError, RuntimeError) as problem:
        if ran_out(problem):
            raise
        raise CheckpointError(f"{path}: {str(problem)[:200]}; restore the run from a copy") from None


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in a file, whose content is not read; it has exactly the size of all of them."""
    try:
        if file.stat().st_size > physical_memory():
            raise damaged(file, "larger than the memory of this machine")
        with file.open("rb") as stream:
            if int.from_bytes(stream.read(8), "little") > HEADER_LIMIT:
                raise damaged(file, "not what a run has for numbers")
        with safe_open(file, "pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except OSError as problem:
        raise CheckpointError(f"{file}: cannot be read: {problem.strerror}") from None
    except (SafetensorError, ValueError, KeyError, RuntimeError) as problem:
        raise damaged(file, str(problem)[:100]) from None


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, AttributeError) as problem:
        if ran_out(problem):
            raise MemoryError from None
        raise damaged(file, str(problem)[:100]) from None
