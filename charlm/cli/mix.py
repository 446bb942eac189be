"""`charlm mix`: one run out of several that predicts better than each."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from charlm import checkpoint
from charlm.cli.live import progress_bar
from charlm.cli.options import GroupedCommand, force_option, json_option, option, output_option, threads_option
from charlm.cli.runs import RUN, removed_if_empty, save_run
from charlm.cli.tables import Column, print_table
from charlm.cli.terminal import print_message
from charlm.cli.text_options import corpus_moved_option, text_options
from charlm.cli.texts import named_text, note_learned, note_line_ends, show_notes
from charlm.corpus import ReadingLog, Text
from charlm.errors import UsageError
from charlm.evaluation import learned_share
from charlm.mixing import Mixed, mix
from charlm.models import COMBINATIONS, MixtureConfig
from charlm.names import shell_quoted


@click.command("mix", cls=GroupedCommand)
@click.argument("runs", nargs=-1, type=RUN)
@output_option("Folder of the run.  [default: checkpoints/CORPUS-mixture]")
@force_option()
@option(
    "--combine",
    type=click.Choice(list(COMBINATIONS)),
    default=MixtureConfig.combine,
    show_default=True,
    help=f"How: {', '.join(kind.about for kind in COMBINATIONS.values())}.",
)
@text_options("Tune the weights on this file (- for standard input), new to all runs.  [default: the validation slice]")
@corpus_moved_option
@json_option()
@threads_option()
def command(
    runs: tuple[Path, ...], output: Path | None, force: bool, combine: str, as_json: bool, **values: Any
) -> None:
    """Make one run of several RUNS over the same text and tokenizer, weighted by how well they predict its validation
    slice.

    Networks must not have been trained on the slice: train them with --no-join. N-grams need no such care, because
    they predict it without its counts. The held-out text is never used. `charlm train --arch mixture` trains members
    and mixture in one go.
    """
    if len(runs) < 2:
        raise UsageError("name two RUNS or more to mix; `charlm info` lists those there are")
    text, log = named_text(values), ReadingLog()
    with progress_bar("mix") as progress:
        mixed = mix(runs, combine=combine, text=text, moved=values["corpus_moved"], log=log, progress=progress)
    show_notes(log)
    if text is not None:
        _warn(text, mixed)
    name = (mixed.history.corpus or {}).get("name")
    path = checkpoint.new_run(f"{name}-mixture" if name else "mixture", output, force=force)
    with removed_if_empty(path):
        save_run(path, "mixture", mixed.model, mixed.tokenizer, mixed.history)
    if as_json:
        click.echo(json.dumps({"run": str(path), "bits_per_character": mixed.bits_per_character}))
        return
    columns = [Column("on the text that tuned the weights"), Column("bits/char", number=True)]
    print_table(columns, [[name, f"{bits:.3f}"] for name, bits in mixed.bits_per_character.items()])
    print_message(f"{path}: a mixture of {len(runs)}. Now try", "green")
    print_message(f"  charlm evaluate {' '.join(map(shell_quoted, (path, *runs)))}")


def _warn(text: Text, mixed: Mixed) -> None:
    """Warn about what makes a text unfit to tune the weights on."""
    note_line_ends(text, mixed.history, mixed.tokenizer)
    learned = learned_share(text, replace(mixed.history, weighed_on=None))
    note_learned(text, learned, "the training text of these runs", "so the weights measure memory, not prediction")
