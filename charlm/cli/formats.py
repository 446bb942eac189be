"""What `charlm info --formats` shows: the formats there are, and what a run becomes in each."""

from pathlib import Path
from typing import Any

from charlm import checkpoint
from charlm.cli.tables import Column, print_table
from charlm.errors import UsageError
from charlm.export.formats import FORMATS


def formats(run: Path | None) -> list[dict[str, Any]]:
    """Each format: what it is; with a run, what that becomes in it and what is left out, or why it has no place."""
    listed: list[dict[str, Any]] = [{"format": name, "about": format.about} for name, format in FORMATS.items()]
    if run is None:
        return listed
    model = checkpoint.load(run).model
    for entry in listed:
        try:
            fit = FORMATS[entry["format"]].fit(model)
            entry |= {"becomes": fit.form, "left_out": list(fit.lost)}
        except UsageError as problem:
            entry |= {"becomes": None, "problem": str(problem)}
    return listed


def print_formats(listed: list[dict[str, Any]]) -> None:
    """One line a format."""
    if "becomes" not in listed[0]:
        print_table([Column("format"), Column("about")], [[entry["format"], entry["about"]] for entry in listed])
        return
    rows = [
        [entry["format"], entry["becomes"] or entry["problem"], "; ".join(entry.get("left_out", ())) or "–"]
        for entry in listed
    ]
    print_table([Column("format"), Column("this run becomes"), Column("left out")], rows)
