"""`charlm data`: list the corpora, download one, clear the cache of encoded corpora."""

import dataclasses
import json
from pathlib import Path

import click


@click.group("data")
def command() -> None:
    """List the named corpora, download one, clear the cache."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_corpora(as_json: bool) -> None:
    """Show every named corpus: size, licence, what it is, and where it is."""
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
        digest = {"catalogue": "known", "download": "pinned", None: ""}[entry.sha256_from]
        path = entry.path or ("built in" if entry.here else "no")
        rows.append([entry.name, f"{entry.bytes / 1e6:.1f}", path, digest, entry.licence, entry.about])
    print_table(columns, rows)


@command.command()
@click.argument("name")
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    help="The folder to put it in.  [default: ./data, or if there is none your own data folder]",
)
def get(name: str, to: Path | None) -> None:
    """Download the corpus NAME, verify it, and print its path; `charlm train NAME` then finds it."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    from charlm.cli.terminal import TimeLeft, echo, no_echo, print_message, stderr
    from charlm.corpus import downloaded, fetch
    from charlm.names import shell_quoted

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeLeft())
    with no_echo(), Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task(name, total=None)
        fetched = fetch(name, to, lambda done, total: bar.update(task, completed=done, total=total))
    origin = "already here" if fetched.was_there else "downloaded"
    trust = "pinned now: this first copy is taken on trust" if fetched.pinned else "as expected"
    print_message(f"{name}: {origin}; SHA-256 {fetched.sha256}, {trust}")
    corpus = name if fetched.path == downloaded(name) else fetched.path
    print_message(f"Now try\n  charlm train {shell_quoted(corpus)}")
    echo(fetched.path)


@command.command()
def clear() -> None:
    """Remove the encoded copies of large corpora; they are made again when needed."""
    from charlm.cli.terminal import echo
    from charlm.corpus import cache_folder, clear_cache

    echo(f"{cache_folder()}: {clear_cache() / 1e6:,.1f} MB removed")
