"""`charlm bench`: how fast each architecture is on this machine."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from charlm.benchmark import BEAMS, STREAMS, Speeds, benchmark, machine
from charlm.cli.live import bar
from charlm.cli.options import GroupedCommand, check_name, device_option, option, threads_option
from charlm.cli.tables import Column, print_line, print_table
from charlm.cli.train import check_sizes
from charlm.models import ARCHITECTURES, SINGLE
from charlm.training import SIZES, choose_device

HEADINGS = {"sampling_many": f"{STREAMS} samples", "beam": f"beam of {BEAMS}"}


@click.command("bench", cls=GroupedCommand)
@option(
    "--arch",
    multiple=True,
    help=f"Kinds of model, with commas: {', '.join(ARCHITECTURES)}.  [default: all but mixture]",
)
@option("--size", type=click.Choice(SIZES), default="auto", show_default=True, help="Size of the models.")
@option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="For each of the five things that each architecture does.",
)
@device_option()
@threads_option()
@option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(arch: tuple[str, ...], size: str, seconds: float, device: str, as_json: bool) -> None:
    """Measure how fast this machine trains, scores, samples and searches, in characters a second.

    Each architecture learns from a text that every Python brings, just long enough to be timed. Let nothing else run
    meanwhile.
    """
    named = [name.strip() for several in arch for name in several.split(",")] or list(SINGLE)
    names = list(dict.fromkeys(check_name(name, ARCHITECTURES, "--arch") for name in named))
    check_sizes(names)
    target = choose_device(device)
    with bar("bench") as progress:
        rows = list(benchmark(names, size=size, seconds=seconds, device=target, progress=progress))
    if as_json:
        click.echo(json.dumps({"machine": machine(target), "rows": [asdict(row) for row in rows]}))
    else:
        _print(machine(target), rows)


def _print(about: Mapping[str, Any], rows: Sequence[Speeds]) -> None:
    figures = [name for name in asdict(rows[0]) if name != "architecture"]
    columns = [Column("characters/s"), *(Column(HEADINGS.get(name, name), number=True) for name in figures)]
    print_table(columns, [[row.architecture, *(f"{getattr(row, name):,.0f}" for name in figures)] for row in rows])
    print_line(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in about.items()), "dim")
