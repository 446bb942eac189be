"""`charlm data`: which corpora there are, getting one, and clearing away what was made of large ones."""

import dataclasses
import json
from pathlib import Path

import click


@click.group("data")
def command() -> None:
    """List the corpora that have a name; download one; clear the cache."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_corpora(as_json: bool) -> None:
    """Show every corpus that has a name: size, licence, what it is, whether it is here."""
    from charlm.cli.tables import Column, print_table
    from charlm.corpus import catalogue

    entries = catalogue()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(entry) for entry in entries], indent=2))
        return
    columns = [
        Column("name"),
        Column("MB", number=True),
        Column("here"),
        Column("SHA-256", dispensable=2),
        Column("licence", dispensable=1),
        Column("what it is"),
    ]
    rows = []
    for entry in entries:
        known = {"catalogue": "known", "download": "pinned", None: ""}[entry.sha256_from]
        here = entry.path or ("built in" if entry.here else "no")
        rows.append([entry.name, f"{entry.bytes / 1e6:.1f}", here, known, entry.licence, entry.about])
    print_table(columns, rows)


@command.command()
@click.argument("name")
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    help="The folder to put it in.  [default: ./data, or if there is none your own data folder]",
)
def get(name: str, to: Path | None) -> None:
    """Download the corpus NAME, verify it, and say where it is; `charlm train NAME` then finds it."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    from charlm.cli.terminal import Terminal, TimeLeft, echo, keys_unseen
    from charlm.corpus import downloaded, fetch
    from charlm.names import shell_quoted

    console = Terminal(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeLeft())
    with keys_unseen(), Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None)
        fetched = fetch(name, to, lambda done, total: bar.update(task, completed=done, total=total))
    word = "already here" if fetched.was_there else "downloaded"
    trust = "pinned now: nobody vouches for this first copy" if fetched.pinned else "as it must be"
    console.print(f"{name}: {word}; SHA-256 {fetched.sha256}, {trust}", soft_wrap=True)
    corpus = name if fetched.path == downloaded(name) else fetched.path
    console.print(f"Now try\n  charlm train {shell_quoted(corpus)}", soft_wrap=True)
    echo(fetched.path)


@command.command()
def clear() -> None:
    """Remove what was encoded of large corpora; it is made again when it is needed."""
    from charlm.cli.terminal import echo
    from charlm.corpus import cache_folder, clear_cache

    echo(f"{cache_folder()}: {clear_cache() / 1e6:,.1f} MB removed")
