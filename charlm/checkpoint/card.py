"""checkpoint.json: what a run is and how it came to be, and the size and SHA-256 of every file that belongs to it."""

import json
import math
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from charlm.errors import CheckpointError
from charlm.files import sha256_of
from charlm.own_files import CARD as CARD
from charlm.own_files import METRICS as METRICS
from charlm.own_files import RUN_FILE

FORMAT = 1
OWN_FILE = RUN_FILE
MAX_CARD_BYTES = 1 << 20  # an honest card has a few thousand
MAX_FILES = 8  # in a run; an honest one has four

HELD_OUT, VALIDATION = "held out", "validation"

JsonObject = Mapping[str, Any]

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{,99}")


@dataclass(frozen=True)
class Result:
    """A run's one figure: bits per character, and the text that they were measured on (HELD_OUT or VALIDATION).

    `before_joining`: not of the model as it is, but of what it was before it learned from the validation slice, too.
    """

    bits_per_character: float
    text: str
    before_joining: bool = False

    @property
    def measured_on(self) -> str:
        """The text in a word or three, for a table."""
        return self.text + (", before joining" if self.before_joining else "")

    def __str__(self) -> str:
        """The figure in a sentence."""
        text = "the held-out text" if self.text == HELD_OUT else "the validation slice"
        before = ", before it joined the training text" if self.before_joining else ""
        return f"{self.bits_per_character:.3f} bits per character of {text}{before}"

    def to_json(self) -> dict[str, Any]:
        """For the card."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> "Result | None":
        """From the card; None where it has nothing that makes sense."""
        if not isinstance(data, Mapping):
            return None
        bits, text = data.get("bits_per_character"), data.get("text")
        if isinstance(bits, float) and math.isfinite(bits) and text in (HELD_OUT, VALIDATION):
            return cls(bits, text, bool(data.get("before_joining")))
        return None


@dataclass(frozen=True)
class History:
    """How a run came to be: all that its card says besides model, tokenizer, versions and files.

    A part that the run does not have, or that the charlm which saved it did not write, is None or empty.
    """

    corpus: JsonObject | None = None
    """The text that it was made from, see `charlm.corpus.Origin.describe`."""
    parents: tuple[JsonObject, ...] = ()
    """The runs that it was trained on from, the nearest first: folder, SHA-256 of the weights, corpus of each."""
    plan: str | None = None
    """Of a comparison: what tells its plan from any other."""
    imported: JsonObject | None = None
    """Of an import: its file, and notes."""
    mixed: tuple[str, ...] = ()
    """The runs that `mix` made it of."""
    training: JsonObject | None = None
    """Its `TrainingConfig`."""
    progress: JsonObject | None = None
    """Whether it has finished, seconds of training, and the counters that `resume` needs."""
    weighed_on: JsonObject | None = None
    """The text that the gates of a mixture were tuned on where that is not its validation slice: size and SHA-256."""
    processor_use: JsonObject | None = None
    """The `MachineUse` of its training."""
    result: Result | None = None
    """What it was last measured at."""
    extra: JsonObject = field(default_factory=dict)
    """What else the model says of itself (`CountingModel.found`)."""

    @property
    def finished(self) -> bool:
        """Whether it came to the end of its budget."""
        return bool((self.progress or {}).get("finished"))

    @property
    def seconds(self) -> float:
        """How long it was trained; 0 where that is not known."""
        seconds = (self.progress or {}).get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else 0.0

    @property
    def joined(self) -> int | None:
        """The step at which the validation slice joined the training text, if it has."""
        joined = (self.progress or {}).get("joined")
        return joined if isinstance(joined, int) else None

    @property
    def budget(self) -> str | None:
        """The budget it was trained with; None for models that are counted."""
        budget = (self.training or {}).get("budget")
        return budget if isinstance(budget, str) else None

    def sha256(self, part: str) -> str | None:
        """SHA-256 of a part of its corpus (training, held_out)."""
        digests = (self.corpus or {}).get("sha256")
        digest = digests.get(part) if isinstance(digests, Mapping) else None
        return digest if isinstance(digest, str) else None

    def characters(self, part: str) -> int | None:
        """How many characters a part of its corpus has (training, train, validation, held_out)."""
        counts = (self.corpus or {}).get("characters")
        count = counts.get(part) if isinstance(counts, Mapping) else None
        return count if isinstance(count, int) else None

    def to_json(self) -> dict[str, Any]:
        """Its part of the card."""
        parts = {
            "corpus": self.corpus,
            "parents": list(self.parents) or None,
            "plan": self.plan,
            "imported": self.imported,
            "mixed": list(self.mixed) or None,
            **self.extra,
            "training": self.training,
            "progress": self.progress,
            "weighed_on": self.weighed_on,
            "processor_use": self.processor_use,
            "result": self.result and self.result.to_json(),
        }
        return {name: part for name, part in parts.items() if part is not None}

    @classmethod
    def from_json(cls, data: JsonObject) -> "History":
        """From a card without what is not its part. Raises ValueError, naming it, for a part of the wrong type."""
        parts: dict[str, Any] = {name: data.get(name) for name in ("corpus", "imported", *_LATER_OBJECTS)}
        for name, part in parts.items():
            if part is not None and not isinstance(part, Mapping):
                raise ValueError(repr(name))
        if not isinstance(plan := data.get("plan"), str | None):
            raise ValueError("'plan'")
        known = {*parts, "plan", "parents", "mixed", "result"}
        return cls(
            **parts,
            plan=plan,
            parents=tuple(_list_of("parents", Mapping, data)),
            mixed=tuple(_list_of("mixed", str, data)),
            result=Result.from_json(data.get("result")),
            extra={name: value for name, value in data.items() if name not in known},
        )


_LATER_OBJECTS = ("training", "progress", "weighed_on", "processor_use")


def _list_of(name: str, kind: type, data: JsonObject) -> list[Any]:
    values = data.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise ValueError(repr(name))
    return values


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
