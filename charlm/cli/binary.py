"""Files of bytes that commands read and write, by name, or - for standard input and output."""

import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from charlm.errors import CharlmError, DataError, UsageError
from charlm.files import write_atomically

STANDARD = "-"
MAX_READ_BYTES = 64 << 20  # a larger file is memory-mapped


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """A file, or standard input, open for reading. Raises DataError that names it."""
    try:
        if str(path) == STANDARD:
            yield sys.stdin.buffer
        else:
            with path.open("rb") as file:
                yield file
    except OSError as problem:
        raise DataError(f"{input_name(path)}: cannot be read: {problem.strerror or problem}") from None


def read_binary(path: Path) -> bytes | memoryview:
    """The content of a file, or of standard input. Raises DataError that names it."""
    with open_binary(path) as file:
        if str(path) != STANDARD and path.is_file() and path.stat().st_size > MAX_READ_BYTES:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return file.read()


def check_output(path: Path, source: Path, *, force: bool) -> None:
    """Raises UsageError for an output that exists, unless `force` replaces it, and for one that is the input."""
    if str(path) == STANDARD:
        return
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file with --output")
    if path.exists() and source.exists() and path.samefile(source):
        raise UsageError(f"{path} is the input, which stays; choose another --output")
    if path.is_file() and not force:
        raise UsageError(f"{path} exists; choose another --output, or --force to replace it")


def write_binary(path: Path, content: bytes) -> None:
    """Write a file atomically, or into a pipe, a device or standard output."""
    if str(path) == STANDARD:
        sys.stdout.buffer.write(content)
        return
    try:
        if path.exists() and not path.is_file():  # a device or a pipe, which must not be replaced by a file
            path.write_bytes(content)
        else:
            write_atomically(path, content)
    except OSError as problem:
        raise CharlmError(f"{path}: cannot be written: {problem.strerror or problem}") from None


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def input_name(path: Path) -> str:
    """The name of an input in messages."""
    return "standard input" if str(path) == STANDARD else str(path)


def output_name(path: Path) -> str:
    """The name of an output in messages."""
    return "standard output" if str(path) == STANDARD else str(path)
