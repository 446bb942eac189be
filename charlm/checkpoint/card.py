"""checkpoint.json: what a run is, its history, and the size and SHA-256 of every file that belongs to it."""

import json
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from charlm.checkpoint.history import History, JsonObject
from charlm.errors import CheckpointError
from charlm.files import sha256_of
from charlm.own_files import CARD as CARD
from charlm.own_files import METRICS as METRICS
from charlm.own_files import RUN_FILE

FORMAT = 1
OWN_FILE = RUN_FILE
MAX_CARD_BYTES = 1 << 20  # an honest card has a few thousand
MAX_FILES = 8  # in a run; an honest one has four

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{,99}")


@dataclass(frozen=True)
class FileEntry:
    """What the card says of a file of the run: its name, its size and its SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Card:
    """The content of checkpoint.json. `config` is the JSON of the architecture's settings, not yet validated.

    `parameters`, `adapt` and `environment` are missing (None) in cards of the first versions.
    """

    charlm: str
    torch: str
    architecture: str
    config: Any
    vocab_size: int
    tokenizer: str
    files: Mapping[str, FileEntry]
    history: History
    parameters: int | None = None
    adapt: str | None = None
    environment: JsonObject | None = None

    def to_json(self) -> dict[str, Any]:
        """The card as it is written."""
        model = {
            "format": FORMAT,
            "charlm": self.charlm,
            "torch": self.torch,
            "architecture": self.architecture,
            "config": self.config,
            "vocab_size": self.vocab_size,
            "parameters": self.parameters,
            "adapt": self.adapt,
            "environment": self.environment,
            "tokenizer": self.tokenizer,
        }
        known = {name: value for name, value in model.items() if value is not None}
        return {**known, **self.history.to_json(), "files": {kind: asdict(entry) for kind, entry in self.files.items()}}

    def to_bytes(self) -> bytes:
        """The content of checkpoint.json."""
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"
        return text.encode(errors="backslashreplace")  # half a surrogate, as in odd file names, the way JSON spells it

    @classmethod
    def from_json(cls, data: JsonObject) -> "Card":
        """Raises ValueError, naming it, for a part that is missing or wrong."""
        own = ("charlm", "torch", "architecture", "config", "vocab_size", "tokenizer", "parameters", "adapt")
        for name, kind in (("architecture", str), ("tokenizer", str), ("vocab_size", int)):
            if type(data.get(name)) is not kind:
                raise ValueError(repr(name))
        if "config" not in data:
            raise ValueError("'config'")
        environment = data.get("environment")
        rest = {name: data[name] for name in data if name not in (*own, "format", "environment", "files")}
        return cls(
            **{"charlm": "", "torch": "", **{name: data[name] for name in own if name in data}},
            environment=environment if isinstance(environment, Mapping) else None,
            files={kind: _entry(entry) for kind, entry in _files(data).items()},
            history=History.from_json(rest),
        )


def _files(data: JsonObject) -> JsonObject:
    files = data.get("files")
    if not isinstance(files, Mapping) or "weights" not in files:
        raise ValueError("'files'" if not isinstance(files, Mapping) else "'weights'")
    return files


def _entry(data: Any) -> FileEntry:
    try:
        entry = FileEntry(**data)
    except TypeError:
        raise ValueError("'files'") from None
    if type(entry.bytes) is not int or not isinstance(entry.sha256, str) or not isinstance(entry.name, str):
        raise ValueError("'files'")
    return entry


def read_card(path: Path) -> Card:
    """The card of a run, validated. Raises CheckpointError."""
    file = path / CARD
    try:
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{file}: not a file of its own; take a whole copy of the run, links followed")
        if status.st_size > MAX_CARD_BYTES:
            raise CheckpointError(f"{file}: larger than any card charlm writes; this is not a run")
        content = json.loads(file.read_bytes())
        version = content["format"]
    except (FileNotFoundError, NotADirectoryError):
        what = "is not a run: it has no checkpoint.json" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path} {what}; `charlm info` lists the runs there are") from None
    except OSError as problem:
        raise CheckpointError(f"{file}: cannot be read: {problem.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"{file}: damaged: not the JSON of a run; restore it from a copy") from None
    if version != FORMAT:
        raise CheckpointError(
            f"{file}: format {str(version)[:20]}, this charlm reads {FORMAT}: upgrade charlm to read it"
        )
    try:
        return Card.from_json(content)
    except ValueError as problem:
        raise CheckpointError(
            f"{file}: damaged: {str(problem)[:80]} is wrong or missing; restore it from a copy"
        ) from None


def find_files(path: Path, entries: Mapping[str, FileEntry]) -> dict[str, Path]:
    """The files that a card names, by kind: in this folder, no links, and of the right size; their content unread.

    Raises CheckpointError.
    """
    if len(entries) > MAX_FILES:
        raise CheckpointError(f"{path / CARD}: damaged: names more files than any run has; restore it from a copy")
    return {kind: _find(path, entry) for kind, entry in entries.items()}


def _find(path: Path, entry: FileEntry) -> Path:
    if not _FILE_NAME.fullmatch(entry.name):
        raise CheckpointError(f"{path / CARD}: damaged: names a file that no run has; restore it from a copy")
    file = path / entry.name
    try:
        status = file.lstat()
    except OSError:
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"{file}: missing; the run is incomplete, restore it from a copy")
    if status.st_size != entry.bytes:
        raise damaged(file)
    return file


def verify(file: Path, entry: FileEntry) -> None:
    """Raises CheckpointError unless the file's content is what was saved."""
    try:
        if sha256_of(file) == entry.sha256:
            return
    except OSError as problem:
        raise CheckpointError(f"{file}: cannot be read: {problem.strerror}") from None
    raise damaged(file)


def damaged(file: Path, why: str = "not the content that was saved") -> CheckpointError:
    """The error for a file that is there but wrong."""
    return CheckpointError(f"{file}: damaged: {why}; restore it from a copy")
