"""`charlm import`: a run out of another program's file."""  # noqa: N999 - the name of the command

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import click

from charlm import checkpoint
from charlm.cli.live import bar, errors
from charlm.cli.options import GroupedCommand, option
from charlm.comparison import duration
from charlm.errors import DataError
from charlm.export import read_arpa
from charlm.names import shell_quoted


@click.command("import", cls=GroupedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@option("--output", "-o", type=click.Path(path_type=Path), help="Folder of the run.  [default: checkpoints/FILE]")
@option("--force", is_flag=True, help="Replace the run of that name, or in --output.")
@option("--space", help="The word that stands for a space; '' if no word does.  [default: ▁]")
@option(
    "--newline",
    help="The word that stands for a line feed; </s> if lines are sentences.  [default: ⏎, or </s> if that is missing]",
)
@option("--renormalize", is_flag=True, help="Scale probabilities that do not add up to 1, instead of refusing them.")
@option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(
    file: Path,
    output: Path | None,
    force: bool,
    space: str | None,
    newline: str | None,
    renormalize: bool,
    as_json: bool,
) -> None:
    """Make a run of FILE, n-grams in the ARPA format, packed (gzip, bzip2, xz) or not; - for standard input.

    KenLM, SRILM, IRSTLM and others write such files. Their words must be pieces of text: a character, or several if
    spaces are among them; \\u{H}, the character with the hexadecimal code point H; \\xHH, a byte. Files that `charlm
    export` wrote bring their tokenizer.

    A model of lines has no word for a line feed: its sentences begin with <s> and end with </s>. Then a line feed is
    read as </s> and <s>, and a text of such lines gets the probabilities that KenLM gives them line by line.
    """
    began = time.monotonic()
    name = "standard input" if str(file) == "-" else str(file)
    stem = "arpa" if str(file) == "-" else re.sub(r"(\.arpa|\.lm)?(\.gz|\.bz2|\.xz)?$", "", file.name) or "arpa"
    notes: list[str] = []
    path = checkpoint.new_run(stem, output, force=force)
    try:
        with _opened(file) as content, bar(file.name) as progress:
            model, tokenizer = read_arpa(
                content,
                name,
                space=space,
                newline=newline,
                renormalize=renormalize,
                progress=progress,
                on_note=notes.append,
            )
        seconds = time.monotonic() - began
        about = {"imported": {"file": name, "notes": notes}, "progress": {"finished": True, "seconds": seconds}}
        with checkpoint.locked(path):
            checkpoint.save(path, "ngram", model, tokenizer, about)
            checkpoint.keep_metrics(path, 0)  # not those of a run that was there before
    finally:
        with suppress(OSError):
            path.rmdir()  # an empty folder, left by a failure
    if as_json:
        figures = {"run": str(path), "order": model.order, "ngrams": model.parameters_count, "seconds": seconds}
        click.echo(json.dumps(figures | {"notes": notes}))
    for note in notes:
        errors.print(f"note: {note}", style="yellow", soft_wrap=True)
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
        with path.open("rb") as file:
            yield file
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror or problem}") from None
