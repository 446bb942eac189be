"""`charlm import`: a run out of another program's file."""  # noqa: N999 - the name of the command

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click

from charlm import checkpoint
from charlm.cli.live import bar, errors
from charlm.cli.options import GroupedCommand, option, refuse
from charlm.cli.spelling import spelled
from charlm.comparison import duration
from charlm.errors import DataError
from charlm.export import read_arpa, read_huggingface
from charlm.models import LanguageModel
from charlm.names import shell_quoted
from charlm.progress import Listener
from charlm.tokenizers import Tokenizer


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
    """Make a run of FILE: n-grams in the ARPA format, or a folder of Hugging Face Transformers.

    A folder holds a Llama, Mistral, GPT-2, GPT-NeoX or Starcoder2 as safetensors, with a tokenizer.json of bytes,
    characters or byte-level BPE. Its context is the model's; nothing in it is executed.

    KenLM, SRILM, IRSTLM and others write ARPA files, which may be packed (gzip, bzip2, xz); - is standard input. Their
    words must be pieces of text: a character, or several if spaces are among them; \\u{H}, the character with the
    hexadecimal code point H; \\xHH, a byte. Files that `charlm export` wrote bring their tokenizer.

    A model of lines has no word for a line feed: its sentences begin with <s> and end with </s>. Then a line feed is
    read as </s> and <s>, and a text of such lines gets the probabilities that KenLM gives them line by line.
    """
    began = time.monotonic()
    folder = file.is_dir()
    if folder:
        refuse({"space", "newline", "renormalize"}, "is about ARPA files, and this is a folder")
    stem = (
        "arpa" if str(file) == "-" else re.sub(r"(\.arpa|\.lm)?(\.gz|\.bz2|\.xz)?$", "", file.resolve().name) or "arpa"
    )
    path = checkpoint.new_run(stem, output, force=force)
    try:
        with bar(file.name) as progress:
            imported = _network(file, progress) if folder else _ngram(file, space, newline, renormalize, progress)
        seconds = time.monotonic() - began
        history = checkpoint.History(
            imported={"file": imported.name, "notes": list(imported.notes)},
            progress={"finished": True, "seconds": seconds},
        )
        with checkpoint.locked(path):
            checkpoint.save(path, imported.architecture, imported.model, imported.tokenizer, history)
            checkpoint.keep_metrics(path, 0)  # not those of a run that was there before
    finally:
        with suppress(OSError):
            path.rmdir()  # an empty folder, left by a failure
    if as_json:
        click.echo(
            json.dumps({"run": str(path), **imported.figures, "seconds": seconds, "notes": list(imported.notes)})
        )
    for note in imported.notes:
        errors.print(f"note: {spelled(note)}", style="yellow", soft_wrap=True)
    errors.print(f"{path}: {imported.what}, in {duration(seconds)}. Now try", style="green", soft_wrap=True)
    run = shell_quoted(path)
    errors.print(f"  charlm evaluate {run} --text FILE\n  charlm sample {run}", soft_wrap=True)


def _stem(file: Path) -> str:
    """What a run is called that is made of this file or folder."""
    name = "" if str(file) == "-" else re.sub(r"(\.arpa|\.lm)?(\.gz|\.bz2|\.xz)?$", "", file.resolve().name)
    return name or "arpa"


@dataclass(frozen=True)
class Imported:
    """A model from elsewhere. `what` says in words what it is, `figures` in numbers, `notes` what to know of it."""

    name: str
    architecture: str
    model: LanguageModel
    tokenizer: Tokenizer
    what: str
    figures: Mapping[str, Any]
    notes: Sequence[str]


def _ngram(file: Path, space: str | None, newline: str | None, renormalize: bool, progress: Listener) -> Imported:
    name, notes = "standard input" if str(file) == "-" else str(file), list[str]()
    with _opened(file) as content:
        model, tokenizer = read_arpa(
            content,
            name,
            space=space,
            newline=newline,
            renormalize=renormalize,
            progress=progress,
            on_note=notes.append,
        )
    count = model.parameters_count
    what = f"{count:,} n-grams of {tokenizer.kind}, order {model.order}"
    return Imported(name, "ngram", model, tokenizer, what, {"order": model.order, "ngrams": count}, notes)


def _network(folder: Path, progress: Listener) -> Imported:
    found = read_huggingface(folder, progress)
    count = found.model.parameters_count
    what = f"{found.family} of {count:,} parameters, {found.tokenizer.ids_in_words(found.tokenizer.vocab_size)}"
    figures = {"family": found.family, "parameters": count}
    return Imported(str(folder), "decoder", found.model, found.tokenizer, what, figures, found.notes)


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
