"""`charlm export`: a run for other programs."""

import json
import sys
import time
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import click

from charlm import checkpoint
from charlm.cli.live import bar, errors
from charlm.cli.options import GroupedCommand, option, refuse
from charlm.cli.runs import RUN
from charlm.comparison import duration
from charlm.corpus import reopen
from charlm.errors import CharlmError, UsageError
from charlm.evaluation import Evaluation, evaluate, paired_difference
from charlm.export.fit import Fit
from charlm.export.formats import FORMATS, Format, first_fit
from charlm.models.ngram import NGram
from charlm.progress import Listener

MEASURED = 10_000
"""Characters of the held-out text on which a loss is measured."""


@click.command("export", cls=GroupedCommand)
@click.argument("run", type=RUN)
@option(
    "--format",
    "kind",
    type=click.Choice(list(FORMATS)),
    help=f"What it becomes: {'; '.join(f'{name}, {format.about}' for name, format in FORMATS.items())}.  "
    "[default: the first of these that holds the model]",
)
@option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="The file or folder, - for standard output; .gz, .bz2 and .xz pack a file.  "
    "[default: RUN.arpa, or RUN-huggingface]",
)
@option("--force", is_flag=True, help="Replace the file, or the folder of an earlier export.")
@option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(run: Path, kind: str | None, output: Path | None, force: bool, as_json: bool) -> None:
    """Write RUN for other programs: an n-gram as an ARPA file, a network as a folder for Hugging Face Transformers.

    What a format cannot hold is named, with what that costs in bits per character on the beginning of the held-out
    text. `charlm train --preset portable` makes a Transformer that Transformers opens without code of ours.

    The words of an ARPA file are ids. A space is written ▁, a line feed ⏎, the byte HH \\xHH, and what else ARPA cannot
    hold \\u{H}, with the hexadecimal code point H. `charlm import` takes files and folders back.
    """
    began = time.monotonic()
    loaded = checkpoint.load(run)
    format = FORMATS[kind or first_fit(loaded.model)]
    path = output or Path(f"{loaded.name}{format.suffix}")
    if as_json and str(path) == "-":
        raise UsageError("--json and -o - both want standard output: name a file")
    fit = format.fit(loaded.model)
    if str(path) == "-":
        refuse({"force"}, "replaces a file, and -o - is standard output")
    elif path.exists() and not (force and format.replaceable(path)):
        raise UsageError(_in_the_way(path, force))
    with bar(loaded.name) as progress:
        loss = measured(loaded, fit, progress) if fit.lost else None
        if str(path) == "-":
            format.stream(loaded, sys.stdout.buffer, progress)
        else:
            size = _saved(format, loaded, fit, loss, path, progress)
    if str(path) != "-":
        _show_outcome(loaded, fit, loss, Written(path, size, time.monotonic() - began), as_json)
    for sentence in (*(f"left out: {what}" for what in fit.lost), *([str(loss)] if loss else [])):
        errors.print(sentence, style="yellow", soft_wrap=True)


def _in_the_way(path: Path, force: bool) -> str:
    if force:
        return f"{path} exists and is no such export; --force replaces only those: choose another --output"
    return f"{path} exists; choose another --output, or --force to replace it"


@dataclass(frozen=True)
class Loss:
    """What an export costs, measured on the beginning of the held-out text; or `unknown`, why that is not known."""

    own: Evaluation | None = None
    exported: Evaluation | None = None
    unknown: str = ""

    def __str__(self) -> str:
        """A sentence."""
        if self.own is None or self.exported is None:
            return f"what that costs is not measured: {self.unknown}"
        difference = paired_difference(self.exported, self.own)
        interval = f" (95 % interval {difference.low:+.4f} to {difference.high:+.4f})" * isfinite(difference.low)
        return (
            f"that costs {difference.mean:+.4f} bits per character{interval}: {self.exported.bits_per_character:.4f} "
            f"instead of {self.own.bits_per_character:.4f} on the first {self.own.characters:,} characters held out"
        )

    def to_json(self) -> dict[str, float | None]:
        """Bits per character of the model and of its export."""
        return {
            "bits_per_character": self.own.bits_per_character if self.own else None,
            "exported_bits_per_character": self.exported.bits_per_character if self.exported else None,
        }


def measured(run: checkpoint.Run, fit: Fit, progress: Listener) -> Loss:
    """What the export costs on the beginning of the run's held-out text."""
    try:
        text = reopen(run.history.corpus).held_out.slice(0, MEASURED)
        own, exported = (evaluate(model, run.tokenizer, text, progress=progress) for model in (run.model, fit.model))
    except CharlmError as problem:
        return Loss(unknown=str(problem).splitlines()[0])
    return Loss(own, exported)


def _saved(format: Format, run: checkpoint.Run, fit: Fit, loss: Loss | None, path: Path, progress: Listener) -> int:
    figures = [f"As exported here, {loss}"] if loss else []
    try:
        return format.save(run, fit, figures, path, progress)
    except OSError as problem:
        raise CharlmError(f"{path}: cannot be written: {problem.strerror or problem}") from None


@dataclass(frozen=True)
class Written:
    """An export that is there."""

    path: Path
    bytes: int
    seconds: float


def _show_outcome(run: checkpoint.Run, fit: Fit, loss: Loss | None, written: Written, as_json: bool) -> None:
    numbers, count = "ngrams" if isinstance(run.model, NGram) else "parameters", run.model.parameters_count
    if as_json:
        outcome: dict[str, Any] = {"file": str(written.path), numbers: count, "bytes": written.bytes}
        outcome |= {"seconds": written.seconds, "form": fit.form, "lost": list(fit.lost)}
        click.echo(json.dumps(outcome | (loss or Loss()).to_json()))
    what = f"{count:,} {numbers.replace('ngrams', 'n-grams')}, {written.bytes / 1e6:,.1f} MB"
    errors.print(f"{written.path}: {what}, in {duration(written.seconds)}: {fit.form}", style="green", soft_wrap=True)
