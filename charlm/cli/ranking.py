"""A comparison on standard output: as a table, as JSON, as CSV."""

import csv
import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from charlm.cli.live import duration
from charlm.comparison import Comparison, Row

WIDE = 1000  # columns, where no terminal says how many there are: nothing is cut


def as_json(result: Comparison, budget: str | None) -> None:
    """One object: the text, the rows from best to worst, the baselines."""
    text = result.held_out
    told = {
        "text_name": text.name,
        "text_sha256": text.sha256,
        "characters": text.characters,
        "bytes": text.bytes,
        "budget": budget,
        "finished": not result.stopped,
        "rows": [row.to_json() for row in result.rows],
        "baselines": list(_baselines(result)),
        "faults": dict(result.faults),
    }
    click.echo(json.dumps(told))


def as_csv(result: Comparison, _budget: str | None) -> None:
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
        elif name == "interval":
            flat |= {f"{name}_low": value[0], f"{name}_high": value[1]}
        else:
            flat[name] = value
    return flat


def as_table(result: Comparison, budget: str | None) -> None:
    """A table, what it means, and a sample line a row."""
    if not result.rows:
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    names = _names(result.rows)
    console.print(_table(result, names))
    for line in _caption(result, budget):
        console.print(Text(line, "dim"))
    console.print("\nWhat each writes (temperature 0.8, the same seed):")
    width = max(map(len, names))
    for name, row in zip(names, result.rows, strict=True):
        sample = Text.assemble((f"{name:{width}}  ", "cyan"), row.sample)
        console.print(sample, no_wrap=True, overflow="ellipsis")


def _names(rows: Sequence[Row]) -> list[str]:
    """What tells the rows apart: their architectures, or else the names of their runs."""
    names = [row.architecture for row in rows]
    return names if len(set(names)) == len(names) else [row.run.resolve().name for row in rows]


def _table(result: Comparison, names: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("model", overflow="fold")
    for heading in ("bits/char", "vs best ±", "perplexity", "params", "trained", "chars/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    lines = [
        (row.evaluation.bits_per_character, _cells(row, name, row is result.rows[0]), "")
        for row, name in zip(result.rows, names, strict=True)
    ]
    lines += [(bits, [name, f"{bits:.3f}", "", f"{2**bits:.2f}"], "dim") for name, bits in result.baselines.items()]
    lines[0] = (*lines[0][:2], "bold")
    for _, cells, style in sorted(lines, key=lambda line: line[0]):
        table.add_row(*map(Text, cells), style=style)
    return table


def _cells(row: Row, name: str, best: bool) -> list[str]:
    d = row.difference
    half = (d.high - d.low) / 2
    sign = "≤" if row.upper_bound else ""
    return [
        name + ("" if row.finished else " (unfinished)"),
        f"{sign}{row.evaluation.bits_per_character:.3f}",
        "best" if best else f"{d.mean:+.3f} ±{f'{half:.3f}' if math.isfinite(half) else '?'}",
        f"{sign}{row.evaluation.perplexity:.2f}",
        _short(row.parameters),
        duration(row.training_seconds),
        _short(row.characters_per_second),
    ]


def _short(number: float) -> str:
    """Three digits or so: 950, 12.3k, 1.20M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:.0f}"


def _caption(result: Comparison, budget: str | None) -> Iterator[str]:
    text, evaluation = result.held_out, result.rows[0].evaluation
    whole = "" if evaluation.context is None else f", each from the last {evaluation.context:,} before it"
    yield (
        f"{text.name}: {text.characters:,} characters held out{whole}; "
        + (f"{budget} of training each." if budget else "runs as they were trained.")
        + " Lower is better."
    )
    yield "±: 95 % interval of the difference to the best (paired bootstrap over blocks)."
    if not all(math.isfinite(row.difference.low) for row in result.rows[1:]):
        yield "±?: the text is too short to tell how sure the difference is."
    if any(row.upper_bound for row in result.rows):
        yield "≤: an upper bound; SentencePiece can cut a text in many ways, and one was scored."
    if unseen := evaluation.unseen_characters:
        costs = [row.evaluation.unseen_bits / row.evaluation.unseen_characters for row in result.rows]
        yield (
            f"{unseen:,} of the characters never occur in training; they are paid for in full, "
            f"{min(costs):.1f} to {max(costs):.1f} bits each."
        )
    if result.stopped:
        yield "Stopped before the end: some contenders and the compressors are missing."
