"""Files of bytes as commands take and give them: by name, or - for standard input and output."""

import mmap
import sys
from pathlib import Path

from charlm.errors import CharlmError, DataError, UsageError
from charlm.files import write_atomically

STANDARD = "-"
IN_MEMORY = 64 << 20  # bytes; a larger file is mapped


def read_binary(path: Path) -> bytes | memoryview:
    """All of a file, or of standard input. Raises DataError that names it."""
    try:
        if str(path) == STANDARD:
            return sys.stdin.buffer.read()
        if path.is_file() and path.stat().st_size > IN_MEMORY:
            with path.open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return path.read_bytes()
    except OSError as problem:
        raise DataError(f"{named(path)}: cannot be read: {problem.strerror or problem}") from None


def check_output(path: Path, source: Path, *, force: bool) -> None:
    """Raises UsageError for an output that is there, unless it is to be replaced, or that is the input."""
    if str(path) == STANDARD:
        return
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file with --output")
    if path.exists() and source.exists() and path.samefile(source):
        raise UsageError(f"{path} is the input, which stays; choose another --output")
    if path.is_file() and not force:
        raise UsageError(f"{path} exists; choose another --output, or --force to replace it")


def write_binary(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; or into a pipe, a device, standard output."""
    if str(path) == STANDARD:
        sys.stdout.buffer.write(content)
        return
    try:
        if path.exists() and not path.is_file():  # a device or a pipe, which no file may replace
            path.write_bytes(content)
        else:
            write_atomically(path, content)
    except OSError as problem:
        raise CharlmError(f"{path}: cannot be written: {problem.strerror or problem}") from None


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def named(path: Path) -> str:
    """A file in a message."""
    return "standard input" if str(path) == STANDARD else str(path)
