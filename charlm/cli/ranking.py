"""A comparison on standard output: as a table, as JSON, as CSV (`typeset` has Markdown and LaTeX)."""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click
from rich.text import Text

from charlm.cli.glyphs import shown
from charlm.cli.tables import Column, output, print_line, print_table
from charlm.cli.terminal import echo
from charlm.comparison import Comparison, Line, lead, notes, pairs_table, table
from charlm.machine import environment

PAIRS = "Each interval (95 %) is that of its pair: of 20 pairs of equal models about one looks different."
PAIR_COLUMNS = ("name", "against", "mean", "low", "high")
STYLES = {"best": "bold", "model": "", "baseline": "dim"}
PROOF_FIGURES = ("claimed_bits", "stored_bits", "ratio", "header_bits")
LEFT_OUT = ("perplexity", "params", "trained", "chars/s")  # where a terminal is too narrow, the last first


def as_json(result: Comparison) -> None:
    """One object: the text, what measured, the rows from best to worst, every two of them, the baselines."""
    text = result.split.held_out
    told = {
        "environment": environment(),
        "text_name": text.name,
        "text_sha256": text.sha256,
        "characters": text.characters,
        "bytes": text.bytes,
        "budget": result.budget,
        "match": result.match,
        "scaled": dict(result.scaled),
        "finished": not result.stopped,
        "rows": _rows(result),
        "pairs": [pair.to_json() for pair in result.pairs()],
        "baselines": list(_baselines(result)),
        "faults": dict(result.faults),
    }
    click.echo(json.dumps(told))


def as_csv(result: Comparison, pairs: bool) -> None:
    """A line a row, from best to worst, then the baselines; or a line for every two rows.

    A column holds numbers or texts, never both; what is not known is empty.
    """
    if not result.rows:
        return
    if pairs:
        _write_csv([pair.to_json() for pair in result.pairs()], PAIR_COLUMNS)
        return
    rows = [_flat(row) for row in _rows(result)]
    _write_csv([*rows, *({"architecture": entry["name"], **entry} for entry in _baselines(result))], list(rows[0]))


def _write_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    lines = io.StringIO()
    table = csv.DictWriter(lines, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    echo(lines.getvalue().removesuffix("\n"))


def _rows(result: Comparison) -> list[dict[str, Any]]:
    return [{"name": name, **row.to_json()} for name, row in zip(result.names, result.rows, strict=True)]


def _baselines(result: Comparison) -> Iterator[dict[str, Any]]:
    text = result.split.held_out
    for name, bits in result.baselines.items():
        yield {
            "name": name,
            "bits_per_character": bits,
            "bits_per_byte": bits * text.characters / text.bytes,
            "nats_per_character": bits * math.log(2),
            "perplexity": 2**bits,
        }


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row of numbers and texts: intervals in two columns, of the seeds how many; how runs were made is for JSON."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "difference":
            flat |= {name: value["mean"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
        elif name == "conditions":
            flat |= value
        elif name == "runs":
            flat[name] = os.pathsep.join(value)
        elif name == "seeds":
            flat[name] = len(value)
        elif name == "interval":
            flat |= {f"{name}_low": value[0], f"{name}_high": value[1]}
        elif name == "proof":
            flat |= {f"proof_{figure}": (value or {}).get(figure) for figure in PROOF_FIGURES}
        elif name not in ("provenance", "dynamic"):
            flat[name] = value
    return flat


def as_table(result: Comparison, pairs: bool) -> None:
    """A table, what it means, if wanted the differences of every two rows, and a sample line a row."""
    if not result.rows:
        return
    _print_table(*table(result))
    for line in lead(result):
        print_line(line)
    for line in notes(result):
        print_line(line, "dim")
    if pairs and len(result.rows) > 1:
        print_line()
        _print_table(*pairs_table(result), words=(1, 4))
        print_line(PAIRS, "dim")
    print_line("\nWhat each writes (temperature 0.8, the same seed):")
    width, console = max(map(len, result.names)), output()
    for name, row in zip(result.names, result.rows, strict=True):
        sample = Text.assemble((f"{shown(name):{width}}  ", "cyan"), row.sample)
        console.print(sample, no_wrap=True, overflow="ellipsis", soft_wrap=not console.is_terminal)


def _print_table(headings: list[str], lines: list[Line], words: Sequence[int] = ()) -> None:
    """`words`: which columns, besides the first, hold no numbers."""
    columns = [
        Column(heading, number=n > 0 and n not in words, dispensable=_dispensable(heading))
        for n, heading in enumerate(headings)
    ]
    print_table(columns, [[cell.text for cell in line.cells] for line in lines], [STYLES[line.kind] for line in lines])


def _dispensable(heading: str) -> int:
    return LEFT_OUT.index(heading) + 1 if heading in LEFT_OUT else 0
