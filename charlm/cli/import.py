"""`charlm import`: a run out of another program's file."""  # noqa: N999 - the name of the command

import gzip
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

import click

from charlm import checkpoint
from charlm.cli.live import bar, errors
from charlm.cli.options import GroupedCommand, option
from charlm.comparison import duration
from charlm.errors import DataError
from charlm.export import read_arpa
from charlm.export.words import NEWLINE, SPACE
from charlm.names import shell_quoted


@click.command("import", cls=GroupedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@option("--output", "-o", type=click.Path(path_type=Path), help="Folder of the run.  [default: checkpoints/FILE]")
@option("--force", is_flag=True, help="Replace the run of that name, or in --output.")
@option("--space", default=SPACE, show_default=True, help="The word that stands for a space.")
@option("--newline", default=NEWLINE, show_default=True, help="The word that stands for a line feed.")
@option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(file: Path, output: Path | None, force: bool, space: str, newline: str, as_json: bool) -> None:
    """Make a run of FILE, n-grams in the ARPA format (.gz too; - for standard input).

    Each word must be one character, \\u{H} with the character's hexadecimal code point, or \\xHH, a byte, as `charlm
    export` writes them. Files from there also bring their tokenizer.
    """
    began = time.monotonic()
    name = "standard input" if str(file) == "-" else str(file)
    stem = "arpa" if str(file) == "-" else file.name.removesuffix(".gz").removesuffix(".arpa")
    path = checkpoint.new_run(stem, output, force=force)
    try:
        with _opened(file) as content, bar(file.name) as progress:
            model, tokenizer = read_arpa(content, name, space=space, newline=newline, progress=progress)
        seconds = time.monotonic() - began
        about = {"imported": {"file": name}, "progress": {"finished": True, "seconds": seconds}}
        with checkpoint.locked(path):
            checkpoint.save(path, "ngram", model, tokenizer, about)
            checkpoint.keep_metrics(path, 0)  # not those of a run that was there before
    finally:
        with suppress(OSError):
            path.rmdir()  # an empty folder, left by a failure
    if as_json:
        figures = {"run": str(path), "order": model.order, "ngrams": model.parameters_count, "seconds": seconds}
        click.echo(json.dumps(figures))
    errors.print(
        f"{path}: {model.parameters_count:,} n-grams of {tokenizer.kind}, order {model.order}, "
        f"in {duration(seconds)}. Now try",
        style="green",
        soft_wrap=True,
    )
    run = shell_quoted(path)
    errors.print(f"  charlm evaluate {run} --text FILE\n  charlm sample {run}", soft_wrap=True)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield cast(IO[bytes], file)
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror or problem}") from None
