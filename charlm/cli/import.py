"""`charlm import`: a run out of another program's model."""  # noqa: N999 - the name of the command

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from charlm import checkpoint
from charlm.cli.binary import STANDARD, input_name, open_binary
from charlm.cli.live import progress_bar
from charlm.cli.options import GroupedCommand, force_option, json_option, option, output_option, refuse
from charlm.cli.runs import removed_if_empty, save_run
from charlm.cli.spelling import spelled
from charlm.cli.terminal import print_message
from charlm.export import read_arpa, read_huggingface
from charlm.models import LanguageModel
from charlm.names import shell_quoted
from charlm.progress import Listener, duration
from charlm.tokenizers import Tokenizer


@click.command("import", cls=GroupedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@output_option("Folder of the run.  [default: checkpoints/FILE]")
@force_option()
@option("--space", help="The word that stands for a space; '' if no word does.  [default: ▁]")
@option(
    "--newline",
    help="The word that stands for a line feed; </s> if lines are sentences.  [default: ⏎, or </s> if that is missing]",
)
@option("--renormalize", is_flag=True, help="Scale probabilities that do not add up to 1, instead of refusing them.")
@json_option()
def command(file: Path, output: Path | None, force: bool, as_json: bool, **arpa: Any) -> None:
    """Make a run of FILE: n-grams in the ARPA format, or a folder of Hugging Face Transformers.

    A folder holds a Llama, Mistral, GPT-2, GPT-NeoX or Starcoder2 as safetensors, with a tokenizer.json of bytes,
    characters or byte-level BPE. Its context is the model's; no code in it is executed.

    KenLM, SRILM, IRSTLM and others write ARPA files, which may be packed (gzip, bzip2, xz); - is standard input. Their
    words must be pieces of text: a character, or several if spaces are among them; \\u{H}, the character with the
    hexadecimal code point H; \\xHH, a byte. Files that `charlm export` wrote contain their tokenizer.

    A model of lines has no word for a line feed: its sentences begin with <s> and end with </s>. Then a line feed is
    read as </s> and <s>, and a text of such lines gets the probabilities that KenLM gives it line by line.
    """
    began, is_folder = time.monotonic(), file.is_dir()
    if is_folder:
        refuse(arpa, "is about ARPA files, and this is a folder")
    path = checkpoint.new_run(_run_name(file), output, force=force)
    with removed_if_empty(path):
        with progress_bar(file.name) as progress:
            imported = _network(file, progress) if is_folder else _ngram(file, arpa, progress)
        seconds = time.monotonic() - began
        history = checkpoint.History(
            imported={"file": imported.file, "notes": list(imported.notes)},
            progress={"finished": True, "seconds": seconds},
        )
        save_run(path, imported.architecture, imported.model, imported.tokenizer, history)
    if as_json:
        outcome = {"run": str(path), **imported.figures, "seconds": seconds, "notes": list(imported.notes)}
        click.echo(json.dumps(outcome))
    for note in imported.notes:
        print_message(f"note: {spelled(note)}", "yellow")
    print_message(f"{path}: {imported.description}, in {duration(seconds)}. Now try", "green")
    run = shell_quoted(path)
    print_message(f"  charlm evaluate {run} --text FILE\n  charlm sample {run}")


def _run_name(file: Path) -> str:
    """The name of the run that is made of this file or folder."""
    name = "" if str(file) == STANDARD else re.sub(r"(\.arpa|\.lm)?(\.gz|\.bz2|\.xz)?$", "", file.resolve().name)
    return name or "arpa"


@dataclass(frozen=True)
class Imported:
    """A model from elsewhere, described in words and in figures, with notes on what was lost or changed."""

    file: str
    architecture: str
    model: LanguageModel
    tokenizer: Tokenizer
    description: str
    figures: Mapping[str, Any]
    notes: Sequence[str]


def _ngram(file: Path, options: Mapping[str, Any], progress: Listener) -> Imported:
    name, notes = input_name(file), list[str]()
    with open_binary(file) as content:
        model, tokenizer = read_arpa(content, name, **options, progress=progress, on_note=notes.append)
    count = model.parameters_count
    description = f"{count:,} n-grams of {tokenizer.kind}, order {model.order}"
    return Imported(name, "ngram", model, tokenizer, description, {"order": model.order, "ngrams": count}, notes)


def _network(folder: Path, progress: Listener) -> Imported:
    read = read_huggingface(folder, progress)
    count, tokenizer = read.model.parameters_count, read.tokenizer
    description = f"{read.family} of {count:,} parameters, {tokenizer.ids_in_words(tokenizer.vocab_size)}"
    figures = {"family": read.family, "parameters": count}
    return Imported(str(folder), "decoder", read.model, tokenizer, description, figures, read.notes)
