"""Writing files so that nothing is ever half there."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

PART = ".part"
"""How the names of files end that are still being written; they begin with a dot and the name they will have."""


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write that becomes `path` only when the block ends well: written beside, flushed, renamed.

    If the block raises, `path` is as it was. Raises OSError as the system does.
    """
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        make_readable(Path(beside))
        os.replace(beside, path)  # noqa: PTH105 - one place, whatever the version of pathlib
        sync_folder(path.parent)
    finally:
        Path(beside).unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that becomes `path` only when the block ends well; what is at `path` is then replaced.

    If the block raises, `path` is as it was. Raises OSError as the system does.
    """
    beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART))
    try:
        filled, before = beside / "new", beside / "old"
        filled.mkdir()
        yield filled
        sync_folder(filled)
        if path.exists():
            path.rename(before)
        filled.rename(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_atomically(path: Path, content: bytes) -> None:
    """`content` as the file `path`, whole or not at all."""
    with atomic_file(path) as file:
        file.write(content)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system knows how."""
    with suppress(OSError):  # Windows cannot open a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def make_readable(path: Path) -> None:
    """Give a temporary file, which only its owner may read, the permissions of any other new file."""
    mask = os.umask(0o022)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
