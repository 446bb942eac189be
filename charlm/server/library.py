"""The runs that are served: each is loaded on the first request for it, and again when training has replaced it."""

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
"""How the API spells the id before the first token of a text; the bos and eos token of clients that need one."""

LOADED_BYTES_PER_FILE_BYTE = 3
"""The memory that loading a file of weights takes: the file, its tensors and the engine's layout."""
MIN_FREE_SHARE = 1 / 16
"""The share of the free memory that loading must leave; the least recently used models are unloaded for it."""

Version = tuple[int, ...]


@dataclass(eq=False)
class ServedModel:
    """A loaded run. Only the scheduler's thread may use `engine`."""

    name: str
    run: Run
    engine: Engine
    version: Version
    created: int  # when the run was saved, in seconds since 1970
    allowed: AllowedIds = field(init=False)
    names: list[str] = field(init=False)  # of the ids, as the API spells them
    prefixes: dict[bytes, Any] = field(default_factory=dict)  # of texts that are being typed, see `expect`

    def __post_init__(self) -> None:
        self.allowed = AllowedIds(self.run.model, self.run.tokenizer)
        self.names = [_spelled(piece) for piece in self.run.tokenizer.pieces()]
        self.names[BOUNDARY] = BOUNDARY_NAME

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the run."""
        return self.run.tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """Equal for equal weights and backend, with which the same seed gives the same answer."""
        return f"{self.engine.backend}-{self.run.weights[:12]}"

    def encode(self, text: str) -> list[int]:
        """The ids of a text. `BOUNDARY_NAME` at its beginning becomes the boundary."""
        has_boundary = text.startswith(BOUNDARY_NAME)
        ids: list[int] = self.tokenizer.encode(text.removeprefix(BOUNDARY_NAME)).tolist()
        return [BOUNDARY, *ids] if has_boundary else ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids. A boundary at their beginning becomes `BOUNDARY_NAME`."""
        text = self.tokenizer.decode(ids)
        return BOUNDARY_NAME + text if ids and ids[0] == BOUNDARY else text


class Library:
    """The runs by name. Thread-safe."""

    def __init__(self, paths: Sequence[Path] | None, device: torch.device) -> None:
        """Serve the runs in these folders; with None, the runs that are in checkpoints/ at the time of a request.

        Raises UsageError for two runs of one name, CheckpointError for a folder that is not a run.
        """
        self._paths = None if paths is None else _by_name(paths)
        self._device = device
        self._models: dict[str, ServedModel] = {}  # loaded; the most recently used is the last
        self._load_lock, self._models_lock = threading.Lock(), threading.Lock()

    def paths(self) -> dict[str, Path]:
        """The folder of each run, by its name."""
        return {path.name: path for path in checkpoint.runs()} if self._paths is None else self._paths

    def only(self) -> str:
        """The name of the run if exactly one is served."""
        names = list(self.paths())
        if len(names) != 1:
            raise ApiError(f"{len(names)} runs are served: name one as model", param="model", code="missing_field")
        return names[0]

    @property
    def loaded_count(self) -> int:
        """The number of models in memory."""
        return len(self._models)

    def created(self, name: str) -> int:
        """The time at which a run was saved, in seconds since 1970."""
        return _version(self._path(name))[0] // 10**9

    def loaded(self, name: str) -> ServedModel | None:
        """The model if it is loaded and the run has not been saved again since."""
        version = _version(self._path(name))
        with self._models_lock:
            model = self._models.get(name)
            if model is None or model.version != version:
                return None
            self._models[name] = self._models.pop(name)
            return model

    def load(self, name: str) -> ServedModel:
        """The model, loaded if necessary. Raises ApiError for a run that is missing or broken."""
        with self._load_lock:
            if (model := self.loaded(name)) is not None:
                return model
            path = self._path(name)
            version = _version(path)
            self._make_room(path)
            try:
                run = checkpoint.load(path)
            except CheckpointError as problem:
                message = str(problem).replace(str(path), name)  # clients need not know where it is
                raise ApiError(message, param="model", code="model_broken", status=500) from None
            run.model.to(self._device)
            model = ServedModel(name, run, open_engine(run.model), version, version[0] // 10**9)
            with self._models_lock:
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
        """Unload the least recently used models until this run fits; running requests keep a reference to theirs."""
        needed = LOADED_BYTES_PER_FILE_BYTE * sum(file.stat().st_size for file in path.glob("weights-*"))
        while self._models:
            available = psutil.virtual_memory().available
            if available - needed > MIN_FREE_SHARE * available:
                return
            with self._models_lock:
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
    """A value that changes when the run is saved again."""
    try:
        card = (path / CARD).stat()
    except OSError:
        raise ApiError("this model has just been removed", param="model", code="model_not_found", status=404) from None
    return card.st_mtime_ns, card.st_ino, card.st_size


def _spelled(piece: bytes) -> str:
    """The text of a token, or its bytes as OpenAI spells those of unfinished characters."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
