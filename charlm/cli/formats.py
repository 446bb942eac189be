"""`charlm info --formats`: the formats of export, and what a run becomes in each."""

from pathlib import Path
from typing import Any

from charlm import checkpoint
from charlm.cli.tables import Column, print_table
from charlm.errors import UsageError
from charlm.export.formats import FORMATS


def formats(run: Path | None) -> list[dict[str, Any]]:
    """Describe each format; of a run, what it becomes and what is left out, or why the format cannot hold it."""
    entries: list[dict[str, Any]] = [{"format": name, "about": format.about} for name, format in FORMATS.items()]
    if run is None:
        return entries
    loaded = checkpoint.load(run)
    for entry in entries:
        try:
            fit = FORMATS[entry["format"]].fit_run(loaded)
            entry |= {"becomes": fit.form, "left_out": list(fit.lost)}
        except UsageError as problem:
            entry |= {"becomes": None, "problem": str(problem)}
    return entries


def print_formats(entries: list[dict[str, Any]]) -> None:
    """Print a line a format."""
    if "becomes" not in entries[0]:
        print_table([Column("format"), Column("about")], [[entry["format"], entry["about"]] for entry in entries])
        return
    rows = [
        [entry["format"], entry["becomes"] or entry["problem"], "; ".join(entry.get("left_out", ())) or "–"]
        for entry in entries
    ]
    print_table([Column("format"), Column("this run becomes"), Column("left out")], rows)
