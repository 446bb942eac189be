"""A comparison on standard output as a table, as JSON and as CSV; `typeset` has Markdown and LaTeX."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.text import Text

from charlm.cli.glyphs import printable
from charlm.cli.tables import Column, output, print_line, print_table
from charlm.cli.terminal import echo
from charlm.comparison import Comparison, Line, baseline_objects, lead, notes, pairs_table, records, row_objects, table
from charlm.machine import environment

PAIRS = "Each interval (95 %) is that of its pair: of 20 pairs of equal models about one looks different."
PAIR_COLUMNS = ("name", "against", "mean", "low", "high")
STYLES = {"best": "bold", "model": "", "baseline": "dim"}
DISPENSABLE = ("perplexity", "params", "trained", "chars/s")  # columns left out on a narrow terminal, the last first


def as_json(result: Comparison) -> None:
    """Print one object: environment, text, rows from best to worst, pairs of rows, baselines, faults."""
    text = result.split.held_out
    content = {
        "environment": environment(),
        "text_name": text.name,
        "text_sha256": text.sha256,
        "characters": text.characters,
        "bytes": text.bytes,
        "budget": result.budget,
        "match": result.match,
        "scaled": dict(result.scaled),
        "finished": not result.stopped,
        "rows": row_objects(result),
        "pairs": [pair.to_json() for pair in result.pairs()],
        "baselines": list(baseline_objects(result)),
        "faults": dict(result.faults),
    }
    click.echo(json.dumps(content))


def as_csv(result: Comparison, pairs: bool) -> None:
    """Print a line a row, from best to worst, then the baselines; or a line for every two rows.

    A column holds either numbers or texts; unknown values are empty.
    """
    if not result.rows:
        return
    if pairs:
        _write_csv([pair.to_json() for pair in result.pairs()], PAIR_COLUMNS)
        return
    rows = records(result)
    _write_csv(rows, list(rows[0]))


def _write_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    lines = io.StringIO()
    table = csv.DictWriter(lines, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    echo(lines.getvalue().removesuffix("\n"))


def as_table(result: Comparison, pairs: bool) -> None:
    """Print a table, what it means, with `pairs` the differences of every two rows, and a sample line a row."""
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
        sample = Text.assemble((f"{printable(name):{width}}  ", "cyan"), row.sample)
        console.print(sample, no_wrap=True, overflow="ellipsis", soft_wrap=not console.is_terminal)


def _print_table(headings: list[str], lines: list[Line], words: Sequence[int] = ()) -> None:
    """`words` are the columns, besides the first, that hold no numbers."""
    columns = [
        Column(heading, number=n > 0 and n not in words, dispensable=_dispensable(heading))
        for n, heading in enumerate(headings)
    ]
    print_table(columns, [[cell.text for cell in line.cells] for line in lines], [STYLES[line.kind] for line in lines])


def _dispensable(heading: str) -> int:
    return DISPENSABLE.index(heading) + 1 if heading in DISPENSABLE else 0
