"""Writing the page to a file."""

from pathlib import Path

from charlm.errors import CharlmError, UsageError
from charlm.files import write_atomically
from charlm.own_files import REPORT_MARK
from charlm.report.findings import Findings
from charlm.report.page import as_page


def check_output(path: Path) -> None:
    """Raises UsageError, before long work, if a page cannot be made or would replace a file that is not a page."""
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; make it, or choose another place")
    if path.exists() and not _is_page(path):
        raise UsageError(f"{path} exists and is no report; choose another place for the page")


def _is_page(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return REPORT_MARK.encode() in file.read(100)


def write_page(findings: Findings, path: Path) -> None:
    """Write the page atomically. Raises CharlmError if it cannot be written."""
    try:
        write_atomically(path, as_page(findings).encode())
    except OSError as problem:
        raise CharlmError(f"{path}: cannot be written: {problem.strerror}; choose another place") from None
