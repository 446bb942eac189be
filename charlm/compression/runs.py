"""The run that a text was compressed with: its files inside the compressed file, or its folder."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from charlm import checkpoint
from charlm.compression.container import Container, Header
from charlm.errors import CheckpointError
from charlm.models import LanguageModel, architecture_of
from charlm.tokenizers import Tokenizer


def files_of(model: LanguageModel, tokenizer: Tokenizer) -> dict[str, bytes]:
    """The files of a run of this model, name -> content; nothing of how and on what it was trained."""
    with tempfile.TemporaryDirectory(prefix="charlm-") as folder:
        checkpoint.save(Path(folder), architecture_of(model), model, tokenizer)
        return {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir())}


def embedded_run(container: Container, name: str) -> checkpoint.Run:
    """The run inside a compressed file. Raises CheckpointError that begins with the file's name."""
    return _loaded(container.files, name)


def _loaded(files: Mapping[str, bytes], name: str) -> checkpoint.Run:
    with tempfile.TemporaryDirectory(prefix="charlm-") as folder:
        for file, content in files.items():
            (Path(folder) / file).write_bytes(content)
        try:
            return checkpoint.load(folder)
        except CheckpointError as problem:
            message = str(problem).replace(folder, "the embedded run")
            raise CheckpointError(f"{name}: {message}") from None


def find_run(header: Header, name: str) -> Path:
    """The folder of the run whose weights a text was compressed with: of the same name, or another in checkpoints/.

    Raises CheckpointError if there is none.
    """
    for path in (checkpoint.find_run(header.run), *checkpoint.runs()):
        if header.weights and checkpoint.weights_digest(path) == header.weights:
            return path
    run = f"{header.run[:40] or 'a model'} ({header.architecture[:40]}, SHA-256 {header.model[:12]}…)"
    raise CheckpointError(f"{name}: compressed with {run}, which is not in checkpoints/; name the run with `run`")
