"""`charlm bench`: how fast each architecture is on this machine."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from charlm.benchmark import BEAMS, STREAMS, Speeds, benchmark, machine
from charlm.cli.live import progress_bar
from charlm.cli.options import GroupedCommand, device_option, json_option, option, seconds_option, threads_option
from charlm.cli.settings import architectures_option, check_sizes, named_architectures
from charlm.cli.tables import Column, print_line, print_table
from charlm.training import SIZES, choose_device

HEADINGS = {"sampling_many": f"{STREAMS} samples", "beam": f"beam of {BEAMS}"}


@click.command("bench", cls=GroupedCommand)
@architectures_option()
@option("--size", type=click.Choice(SIZES), default="auto", show_default=True, help="Size of the models.")
@seconds_option("--seconds", low=0.1, default=2.0, help="Time for each of the five measurements of an architecture.")
@device_option()
@threads_option()
@json_option("Print JSON.")
def command(arch: tuple[str, ...], size: str, seconds: float, device: str, as_json: bool) -> None:
    """Measure how fast this machine trains, scores, samples and searches, in characters a second.

    Each architecture is trained on a text that every Python brings, just long enough to be timed. Other programs that
    run meanwhile make the figures worse.
    """
    names = named_architectures(arch)
    check_sizes(names)
    target = choose_device(device)
    with progress_bar("bench") as progress:
        rows = list(benchmark(names, size=size, seconds=seconds, device=target, progress=progress))
    if as_json:
        click.echo(json.dumps({"machine": machine(target), "rows": [asdict(row) for row in rows]}))
    else:
        _print(machine(target), rows)


def _print(environment: Mapping[str, Any], rows: Sequence[Speeds]) -> None:
    figures = [name for name in asdict(rows[0]) if name != "architecture"]
    columns = [Column("characters/s"), *(Column(HEADINGS.get(name, name), number=True) for name in figures)]
    print_table(columns, [[row.architecture, *(f"{getattr(row, name):,.0f}" for name in figures)] for row in rows])
    print_line(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in environment.items()), "dim")
