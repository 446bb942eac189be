"""The formats of other programs, one table: what a run becomes in each, what is lost, and how it is written."""

import bz2
import gzip
import lzma
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from charlm.checkpoint import Run
from charlm.checkpoint.saving import Pieces
from charlm.errors import UsageError
from charlm.export.arpa.writing import fit as fit_arpa
from charlm.export.arpa.writing import write_arpa
from charlm.export.fit import Fit
from charlm.export.gguf.nemotron import fit as fit_gguf
from charlm.export.gguf.nemotron import write_gguf
from charlm.export.gguf.tokenizer import tokenizer_lost
from charlm.export.huggingface import writing as huggingface
from charlm.export.onnx import fit as fit_onnx
from charlm.export.onnx import write_onnx
from charlm.files import atomic_file, atomic_folder
from charlm.models import LanguageModel
from charlm.own_files import EXPORT, own_folder
from charlm.progress import Listener
from charlm.tokenizers import Tokenizer

PACKERS: Mapping[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda file: gzip.GzipFile("", "wb", 6, file, mtime=0),  # no time: the same run gives the same file
    ".bz2": partial(bz2.BZ2File, mode="wb"),
    ".xz": partial(lzma.LZMAFile, mode="wb"),
}
"""How the names of files end that are packed."""


@dataclass(frozen=True)
class Format(ABC):
    """A format: a line about it, what its names end with, and what a model becomes in it.

    `fit` raises UsageError for a model that the format has no place for. `tokenizer_lost` says what of a text is read
    otherwise there, and raises UsageError for a tokenizer without a place.
    """

    about: str
    suffix: str
    fit: Callable[[LanguageModel], Fit]
    tokenizer_lost: Callable[[Tokenizer], tuple[str, ...]] = field(default=lambda _: (), kw_only=True)

    def fit_run(self, run: Run) -> Fit:
        """How the model fits, and its tokenizer. Raises UsageError where either has no place."""
        fit = self.fit(run.model)
        return replace(fit, lost=(*fit.lost, *self.tokenizer_lost(run.tokenizer)))

    @abstractmethod
    def replaceable(self, path: Path) -> bool:
        """Whether what is at this path may be replaced by an export."""

    @abstractmethod
    def save(self, run: Run, fit: Fit, figures: Sequence[str], path: Path, progress: Listener) -> int:
        """Write the run, whole or not at all; the bytes written. `figures` are sentences on what the export costs."""

    def stream(self, run: Run, file: IO[bytes], progress: Listener) -> None:  # noqa: ARG002
        """Write the run into an open file. Raises UsageError where the format is a folder."""
        raise UsageError("-: this format is a folder of files, and standard output is one; name a folder", "output")


@dataclass(frozen=True)
class FileFormat(Format):
    """A format of one file, packed as the end of its name says."""

    write: Callable[[Run, IO[bytes], Listener], None]

    def replaceable(self, path: Path) -> bool:
        """Any file."""
        return path.is_file()

    def save(self, run: Run, fit: Fit, figures: Sequence[str], path: Path, progress: Listener) -> int:  # noqa: ARG002
        """There is no place for `figures` in such a file."""
        with atomic_file(path) as file:
            if path.suffix in PACKERS:
                with PACKERS[path.suffix](file) as packed:
                    self.write(run, cast(IO[bytes], packed), progress)
            else:
                self.write(run, file, progress)
        return path.stat().st_size

    def stream(self, run: Run, file: IO[bytes], progress: Listener) -> None:
        """The content of the file, not packed."""
        self.write(run, file, progress)


@dataclass(frozen=True)
class FolderFormat(Format):
    """A format of several files."""

    contents: Callable[[Run, Fit, Sequence[str]], Mapping[str, Pieces]]

    def replaceable(self, path: Path) -> bool:
        """A folder that is empty or an earlier export."""
        if not path.is_dir() or path.is_symlink():
            return False
        names = [entry.name for entry in path.iterdir()]
        return not names or own_folder(path, names) == EXPORT

    def save(self, run: Run, fit: Fit, figures: Sequence[str], path: Path, progress: Listener) -> int:
        """The whole folder is replaced."""
        contents = self.contents(run, fit, figures)
        sizes = {name: sum(map(len, pieces)) for name, pieces in contents.items()}
        done = 0
        with atomic_folder(path) as folder:
            for name, pieces in contents.items():
                progress(f"writing {name}", done / sum(sizes.values()))
                with atomic_file(folder / name) as file:
                    file.writelines(pieces)
                done += sizes[name]
        return done


def _write_onnx(run: Run, file: IO[bytes], progress: Listener) -> None:
    write_onnx(run.model, run.tokenizer, file, progress)


def _write_arpa(run: Run, file: IO[bytes], progress: Listener) -> None:
    write_arpa(run.model, run.tokenizer, file, progress)


def _write_gguf(run: Run, file: IO[bytes], progress: Listener) -> None:  # noqa: ARG001 - it takes no time
    write_gguf(run.model, run.tokenizer, run.name, file)


FORMATS: Mapping[str, Format] = {
    "arpa": FileFormat("n-grams in text, for KenLM, SRILM and speech recognisers", ".arpa", fit_arpa, _write_arpa),
    "huggingface": FolderFormat(
        "a folder for Hugging Face Transformers, with code only where that has no such model",
        "-huggingface",
        huggingface.fit,
        huggingface.contents,
    ),
    "huggingface-code": FolderFormat(
        "the same, always with the code, so that nothing is lost",
        "-huggingface",
        huggingface.fit_with_code,
        huggingface.contents,
    ),
    "gguf": FileFormat(
        "a portable Transformer for llama.cpp and what is built on it",
        ".gguf",
        fit_gguf,
        _write_gguf,
        tokenizer_lost=tokenizer_lost,
    ),
    "onnx": FileFormat("one step of a network, for ONNX Runtime anywhere", ".onnx", fit_onnx, _write_onnx),
}


def first_fit(model: LanguageModel) -> str:
    """The first format that has a place for a model. Raises UsageError if none has."""
    for name, format in FORMATS.items():
        try:
            format.fit(model)
            return name
        except UsageError:
            pass
    raise UsageError(f"no format has a place for {type(model).__name__}: there are {', '.join(FORMATS)}")
