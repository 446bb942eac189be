"""A comparison on standard output: as a table, as JSON, as CSV."""

import csv
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from charlm.comparison import Comparison, notes, table

STYLES = {"best": "bold", "model": "", "baseline": "dim"}
WIDE = 1000  # columns, where no terminal says how many there are: nothing is cut


def as_json(result: Comparison) -> None:
    """One object: the text, the rows from best to worst, the baselines."""
    text = result.split.held_out
    told = {
        "text_name": text.name,
        "text_sha256": text.sha256,
        "characters": text.characters,
        "bytes": text.bytes,
        "budget": result.budget,
        "match": result.match,
        "finished": not result.stopped,
        "rows": [row.to_json() for row in result.rows],
        "baselines": list(_baselines(result)),
        "faults": dict(result.faults),
    }
    click.echo(json.dumps(told))


def as_csv(result: Comparison) -> None:
    """A line a row, from best to worst, then the baselines; intervals in two columns."""
    rows = [_flat(row.to_json()) for row in result.rows]
    if not rows:
        return
    table = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    table.writerows({"architecture": entry.pop("name"), **entry} for entry in _baselines(result))


def _baselines(result: Comparison) -> Iterator[dict[str, Any]]:
    for name, bits in result.baselines.items():
        figures = {"bits_per_character": bits, "nats_per_character": bits * math.log(2), "perplexity": 2**bits}
        yield {"name": name, **figures}


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "difference":
            flat |= {name: value["mean"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
        elif name == "conditions":
            flat |= value
        elif name in ("runs", "seeds"):
            flat[name] = " ".join(map(str, value))
        elif name == "interval":
            flat |= {f"{name}_low": value[0], f"{name}_high": value[1]}
        else:
            flat[name] = value
    return flat


def as_table(result: Comparison) -> None:
    """A table, what it means, and a sample line a row."""
    if not result.rows:
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(_table(result))
    for line in notes(result):
        console.print(Text(line, "dim"))
    console.print("\nWhat each writes (temperature 0.8, the same seed):")
    width = max(map(len, result.names))
    for name, row in zip(result.names, result.rows, strict=True):
        sample = Text.assemble((f"{name:{width}}  ", "cyan"), row.sample)
        console.print(sample, no_wrap=True, overflow="ellipsis")


def _table(result: Comparison) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    (first, *others), lines = table(result)
    shown.add_column(first, overflow="fold")
    for heading in others:
        shown.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        shown.add_row(*(Text(cell.text) for cell in line.cells), style=STYLES[line.kind])
    return shown
