"""`charlm export`: a run for other programs."""

import bz2
import gzip
import json
import lzma
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import click

from charlm import checkpoint
from charlm.cli.live import bar, errors
from charlm.cli.options import GroupedCommand, option, refuse
from charlm.cli.runs import RUN
from charlm.comparison import duration
from charlm.errors import CharlmError, UsageError
from charlm.export import write_arpa
from charlm.files import atomic_file

FORMATS = {"arpa": write_arpa}
PACKED: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda file: gzip.GzipFile("", "wb", 6, file, mtime=0),  # no time: the same run gives the same file
    ".bz2": partial(bz2.BZ2File, mode="wb"),
    ".xz": partial(lzma.LZMAFile, mode="wb"),
}


@click.command("export", cls=GroupedCommand)
@click.argument("run", type=RUN)
@option(
    "--format", "kind", type=click.Choice(list(FORMATS)), default="arpa", show_default=True, help="Format of the file."
)
@option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="The file, - for standard output; .gz, .bz2 and .xz pack.  [default: RUN.arpa]",
)
@option("--force", is_flag=True, help="Replace the file.")
@option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(run: Path, kind: str, output: Path | None, force: bool, as_json: bool) -> None:
    """Write RUN, an n-gram, as an ARPA file, which KenLM, SRILM and speech recognisers read.

    A word is an id. A space is written ▁, a line feed ⏎, the byte HH \\xHH, and what else ARPA cannot hold \\u{H}, with
    the hexadecimal code point H. `charlm import` takes the file back. What was counted in training is all that such a
    file can hold: a run's cache stays behind, so what comes back is the model that `charlm train --cache 0` makes.
    """
    began = time.monotonic()
    loaded = checkpoint.load(run)
    path = output or Path(f"{loaded.name}.{kind}")
    if as_json and str(path) == "-":
        raise UsageError("--json and -o - both want standard output: name a file")
    if str(path) == "-":
        refuse({"force"}, "replaces a file, and -o - is standard output")
    with _opened(path, force) as file, bar(loaded.name) as progress:
        FORMATS[kind](loaded.model, loaded.tokenizer, file, progress)
    seconds = time.monotonic() - began
    ngrams = loaded.model.parameters_count
    if str(path) == "-":
        return
    size = path.stat().st_size
    if as_json:
        click.echo(json.dumps({"file": str(path), "ngrams": ngrams, "bytes": size, "seconds": seconds}))
    what = f"{ngrams:,} n-grams, {size / 1e6:,.1f} MB, in {duration(seconds)}"
    errors.print(f"{path}: {what}", style="green", soft_wrap=True)


@contextmanager
def _opened(path: Path, force: bool) -> Iterator[IO[bytes]]:
    """The file to write, there only when it is whole; packed as the end of its name says."""
    if str(path) == "-":
        yield sys.stdout.buffer
        return
    if path.exists() and not force:
        raise UsageError(f"{path} exists; choose another --output, or --force to replace it")
    try:
        with atomic_file(path) as file:
            if path.suffix in PACKED:
                with PACKED[path.suffix](file) as packed:
                    yield cast(IO[bytes], packed)
            else:
                yield file
    except OSError as problem:
        raise CharlmError(f"{path}: cannot be written: {problem.strerror or problem}") from None
