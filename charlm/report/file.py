"""The file that a page is written to."""

from pathlib import Path

from charlm.errors import CharlmError, UsageError
from charlm.files import write_atomically
from charlm.own_files import REPORT_MARK
from charlm.report.findings import Findings
from charlm.report.page import as_page


def check_output(path: Path) -> None:
    """Before long work: raises UsageError if a page cannot be made, or would take the place of what is no page."""
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; make it, or choose another place")
    if path.exists() and not _is_page(path):
        raise UsageError(f"{path} exists and is no report; choose another place for the page")


def _is_page(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return REPORT_MARK.encode() in file.read(100)


def write_page(found: Findings, path: Path) -> None:
    """Write the page, whole or not at all. Raises CharlmError if it cannot be written."""
    try:
        write_atomically(path, as_page(found).encode())
    except OSError as problem:
        raise CharlmError(f"{path}: cannot be written: {problem.strerror}; choose another place") from None
