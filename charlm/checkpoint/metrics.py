"""What was measured while a run was trained, an object a line. Nothing depends on it: other lines are passed by."""

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charlm.checkpoint.card import METRICS
from charlm.errors import CharlmError
from charlm.files import write_atomically

LIMIT = 16 << 20  # bytes; a run writes about five hundred lines


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The measurements of a run in the order in which they were made; none if there is no such file."""
    file, entries = path / METRICS, []
    try:
        status = file.lstat()
        lines = file.read_bytes().split(b"\n") if stat.S_ISREG(status.st_mode) and status.st_size <= LIMIT else []
    except OSError:
        return []
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def add_metrics(path: Path, entry: Mapping[str, Any]) -> None:
    """One measurement more. Raises CharlmError if it cannot be written."""
    try:
        with (path / METRICS).open("ab") as file:
            file.write(_line(entry))
    except OSError as problem:
        raise CharlmError(f"{path / METRICS}: cannot be written: {problem.strerror}") from None


def keep_metrics(path: Path, step: int) -> None:
    """Drop what was measured after `step`, and whatever is no measurement: training goes on from there."""
    entries = [entry for entry in read_metrics(path) if isinstance(n := entry.get("step"), int) and n <= step]
    file = path / METRICS
    try:
        if entries:
            write_atomically(file, b"".join(map(_line, entries)))
        else:
            file.unlink(missing_ok=True)
    except OSError as problem:
        raise CharlmError(f"{file}: cannot be written: {problem.strerror}") from None


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"
