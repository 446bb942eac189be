"""The runs that are served: each is loaded when it is first asked for, and anew when training has replaced it."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import torch

from charlm import checkpoint
from charlm.checkpoint import CARD, Run
from charlm.config import BOUNDARY
from charlm.decoding import AllowedIds
from charlm.errors import CheckpointError, UsageError
from charlm.inference import Engine, open_engine
from charlm.server.errors import ApiError
from charlm.server.fields import quoted
from charlm.tokenizers.base import Tokenizer

BOUNDARY_NAME = "<|boundary|>"
"""How the API spells the id before the first token of a text: bos and eos to clients that want such tokens."""

MEMORY_PER_BYTE = 3
"""Of a file of weights: what loading takes, the file, its tensors and the engine's layout."""
MEMORY_LEFT = 1 / 16
"""Of what is free now: models that nobody has asked for lately are unloaded rather than leave less."""

Version = tuple[int, ...]


@dataclass(eq=False)
class ServedModel:
    """A run ready to answer. What reads `engine` belongs to the scheduler's thread."""

    name: str
    run: Run
    engine: Engine
    version: Version
    created: int  # seconds since 1970: when the run was saved
    allowed: AllowedIds = field(init=False)
    names: list[str] = field(init=False)  # of the ids, as the API spells them
    typed: dict[bytes, Any] = field(default_factory=dict)  # see `typing`: what was read of texts that are being typed

    def __post_init__(self) -> None:
        self.allowed = AllowedIds(self.run.model, self.run.tokenizer)
        self.names = [_spelled(piece) for piece in self.run.tokenizer.pieces()]
        self.names[BOUNDARY] = BOUNDARY_NAME

    @property
    def tokenizer(self) -> Tokenizer:
        """The run's own."""
        return self.run.tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """Equal for equal weights and backend: the same seed then gives the same answer."""
        return f"{self.engine.backend}-{self.run.weights[:12]}"

    def encode(self, text: str) -> list[int]:
        """The ids of a text; one that begins with `BOUNDARY_NAME` has the boundary there."""
        begins = text.startswith(BOUNDARY_NAME)
        ids: list[int] = self.tokenizer.encode(text.removeprefix(BOUNDARY_NAME)).tolist()
        return [BOUNDARY, *ids] if begins else ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids; a boundary at its beginning is spelled."""
        text = self.tokenizer.decode(ids)
        return BOUNDARY_NAME + text if ids and ids[0] == BOUNDARY else text


class Library:
    """The runs by name. Safe to ask from several threads."""

    def __init__(self, paths: Sequence[Path] | None, device: torch.device) -> None:
        """The runs in these folders; None: whatever runs are in checkpoints/ when somebody asks.

        Raises UsageError for two of one name, CheckpointError for a folder that is no run.
        """
        self._named = None if paths is None else _by_name(paths)
        self._device = device
        self._models: dict[str, ServedModel] = {}  # the one asked for last comes last
        self._loading, self._changing = threading.Lock(), threading.Lock()

    def paths(self) -> dict[str, Path]:
        """The folder of each run, by its name."""
        return {path.name: path for path in checkpoint.runs()} if self._named is None else self._named

    def only(self) -> str:
        """The name of the run, where just one is served."""
        names = list(self.paths())
        if len(names) != 1:
            raise ApiError(f"{len(names)} runs are served: name one as model", param="model", code="missing_field")
        return names[0]

    @property
    def loaded_count(self) -> int:
        """How many models are in memory."""
        return len(self._models)

    def created(self, name: str) -> int:
        """When a run was saved, in seconds since 1970."""
        return _version(self._path(name))[0] // 10**9

    def loaded(self, name: str) -> ServedModel | None:
        """The model if it is loaded and is still what is in the run's folder."""
        version = _version(self._path(name))
        with self._changing:
            model = self._models.get(name)
            if model is None or model.version != version:
                return None
            self._models[name] = self._models.pop(name)
            return model

    def load(self, name: str) -> ServedModel:
        """The model, loaded if need be, which takes its time. Raises ApiError for a run that is not there or broken."""
        with self._loading:
            if (model := self.loaded(name)) is not None:
                return model
            path = self._path(name)
            version = _version(path)
            self._make_room(path)
            try:
                run = checkpoint.load(path)
            except CheckpointError as problem:
                message = str(problem).replace(str(path), name)  # where it lies is nobody's business
                raise ApiError(message, param="model", code="model_broken", status=500) from None
            run.model.to(self._device)
            model = ServedModel(name, run, open_engine(run.model), version, version[0] // 10**9)
            with self._changing:
                self._models[name] = model
            return model

    def _path(self, name: str) -> Path:
        path = self.paths().get(name)
        if path is None:
            raise ApiError(
                f"no model {quoted(name)} here; GET /v1/models lists those there are",
                param="model",
                code="model_not_found",
                status=404,
            )
        return path

    def _make_room(self, path: Path) -> None:
        """Unload what was asked for longest ago until this run fits; requests that are being answered keep theirs."""
        needed = MEMORY_PER_BYTE * sum(file.stat().st_size for file in path.glob("weights-*"))
        while self._models:
            available = psutil.virtual_memory().available
            if available - needed > MEMORY_LEFT * available:
                return
            with self._changing:
                self._models.pop(next(iter(self._models)))


def _by_name(paths: Sequence[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in paths:
        checkpoint.read_card(path)
        name = path.resolve().name
        if name in named and named[name].resolve() != path.resolve():
            raise UsageError(f"{named[name]} and {path}: two runs of one name cannot be told apart; rename one")
        named[name] = path
    return named


def _version(path: Path) -> Version:
    """What changes when a run is saved again."""
    try:
        found = (path / CARD).stat()
    except OSError:
        raise ApiError("this model has just been removed", param="model", code="model_not_found", status=404) from None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _spelled(piece: bytes) -> str:
    """Text, or where there is none, as OpenAI spells the bytes of unfinished characters."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
