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
from charlm.cli.binary import STANDARD
from charlm.cli.live import progress_bar
from charlm.cli.options import GroupedCommand, force_option, json_option, option, output_option, refuse
from charlm.cli.runs import RUN
from charlm.cli.terminal import print_message
from charlm.corpus import reopen
from charlm.errors import CharlmError, UsageError
from charlm.evaluation import Evaluation, evaluate, paired_difference
from charlm.export.fit import Fit
from charlm.export.formats import FORMATS, Format, first_fit
from charlm.models import LanguageModel
from charlm.models.ngram import NGram
from charlm.progress import Listener, duration

MAX_MEASURED_CHARACTERS, MIN_MEASURED_CHARACTERS = 10_000, 1_000
"""The length of the beginning of the held-out text on which the loss of an export is measured."""

MAX_MEASURED_WORK = 20_000_000_000
"""Parameters of a network times characters: of a large Transformer 2,000 characters, about 2 s of a core."""


@click.command("export", cls=GroupedCommand)
@click.argument("run", type=RUN)
@option(
    "--format",
    "kind",
    type=click.Choice(list(FORMATS)),
    help=f"What it becomes: {'; '.join(f'{name}, {format.about}' for name, format in FORMATS.items())}.  "
    "[default: the first of these that holds the model]",
)
@output_option(
    "The file or folder, - for standard output; .gz, .bz2 and .xz pack a file.  [default: RUN.arpa, or RUN-huggingface]"
)
@force_option("Replace the file, or the folder of an earlier export.")
@json_option()
def command(run: Path, kind: str | None, output: Path | None, force: bool, as_json: bool) -> None:
    """Write RUN for other programs: an n-gram as an ARPA file, a network as a folder for Hugging Face Transformers.

    A message names what a format cannot hold, and what that costs in bits per character on the beginning of the
    held-out text. `charlm train --preset portable` makes a Transformer that Transformers opens without code of ours.

    The words of an ARPA file are ids. A space is written ▁, a line feed ⏎, the byte HH \\xHH, and what else ARPA cannot
    hold \\u{H}, with the hexadecimal code point H. `charlm import` reads files and folders back.
    """
    began = time.monotonic()
    loaded = checkpoint.load(run)
    format = FORMATS[kind or first_fit(loaded.model)]
    path = output or Path(f"{loaded.name}{format.suffix}")
    to_standard_output = str(path) == STANDARD
    if as_json and to_standard_output:
        raise UsageError("--json and -o - both want standard output: name a file")
    fit = format.fit_run(loaded)
    if to_standard_output:
        refuse({"force"}, "replaces a file, and -o - is standard output")
    elif path.exists() and not (force and format.replaceable(path)):
        raise UsageError(_in_the_way(path, force))
    with progress_bar(loaded.name) as progress:
        loss = measured_loss(loaded, fit, progress) if fit.lost else None
        if to_standard_output:
            format.stream(loaded, sys.stdout.buffer, progress)
        else:
            size = _save(format, loaded, fit, loss, path, progress)
    if not to_standard_output:
        _print_outcome(loaded, fit, loss, Written(path, size, time.monotonic() - began), as_json)
    for sentence in (*(f"left out: {part}" for part in fit.lost), *([str(loss)] if loss else [])):
        print_message(sentence, "yellow")


def _in_the_way(path: Path, force: bool) -> str:
    if force:
        return f"{path} exists and is no such export; --force replaces only those: choose another --output"
    return f"{path} exists; choose another --output, or --force to replace it"


@dataclass(frozen=True)
class Loss:
    """What an export costs on the beginning of the held-out text; or why that is `unknown`."""

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


def measured_loss(run: checkpoint.Run, fit: Fit, progress: Listener) -> Loss:
    """Measure what the export costs on the beginning of the run's held-out text."""
    try:
        text = reopen(run.history.corpus).held_out.slice(0, measured_characters(run.model))
        own, exported = (evaluate(model, run.tokenizer, text, progress=progress) for model in (run.model, fit.model))
    except CharlmError as problem:
        return Loss(unknown=str(problem).splitlines()[0])
    return Loss(own, exported)


def measured_characters(model: LanguageModel) -> int:
    """On how many characters to measure the loss, so that a large network does not take long."""
    work = MAX_MEASURED_WORK // max(1, model.parameters_count) if model.by_gradient else MAX_MEASURED_CHARACTERS
    return min(MAX_MEASURED_CHARACTERS, max(MIN_MEASURED_CHARACTERS, work))


def _save(format: Format, run: checkpoint.Run, fit: Fit, loss: Loss | None, path: Path, progress: Listener) -> int:
    """Write the file or folder; returns its size in bytes."""
    figures = [f"As exported here, {loss}"] if loss else []
    try:
        return format.save(run, fit, figures, path, progress)
    except OSError as problem:
        raise CharlmError(f"{path}: cannot be written: {problem.strerror or problem}") from None


@dataclass(frozen=True)
class Written:
    """A finished export."""

    path: Path
    bytes: int
    seconds: float


def _print_outcome(run: checkpoint.Run, fit: Fit, loss: Loss | None, written: Written, as_json: bool) -> None:
    numbers, count = "ngrams" if isinstance(run.model, NGram) else "parameters", run.model.parameters_count
    if as_json:
        outcome: dict[str, Any] = {"file": str(written.path), numbers: count, "bytes": written.bytes}
        outcome |= {"seconds": written.seconds, "form": fit.form, "lost": list(fit.lost)}
        click.echo(json.dumps(outcome | (loss or Loss()).to_json()))
    size = f"{count:,} {numbers.replace('ngrams', 'n-grams')}, {written.bytes / 1e6:,.1f} MB"
    print_message(f"{written.path}: {size}, in {duration(written.seconds)}: {fit.form}", "green")
