"""`charlm mix`: trained runs into one that predicts better than each."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click

from charlm import checkpoint
from charlm.cli.live import bar, errors
from charlm.cli.options import GroupedCommand, apply, moved_options, option, text_options, threads_option
from charlm.cli.runs import RUN
from charlm.cli.tables import Column, print_table
from charlm.cli.texts import named_text, note_learned, note_line_ends, tell
from charlm.corpus import ReadingLog
from charlm.errors import UsageError
from charlm.evaluation import learned_share
from charlm.mixing import Mixed, mix
from charlm.models import COMBINATIONS, MixtureConfig
from charlm.names import shell_quoted

MEMORY_IS_WEIGHED = "and by that they are weighed as they remember, not as they predict"


@click.command("mix", cls=GroupedCommand)
@click.argument("runs", nargs=-1, type=RUN)
@option(
    "--output", "-o", type=click.Path(path_type=Path), help="Folder of the run.  [default: checkpoints/CORPUS-mixture]"
)
@option("--force", is_flag=True, help="Replace the run of that name, or in --output.")
@option(
    "--combine",
    type=click.Choice(list(COMBINATIONS)),
    default=MixtureConfig.combine,
    show_default=True,
    help=f"How: {', '.join(kind.about for kind in COMBINATIONS.values())}.",
)
@text_options(
    "Weigh them on this file (- for standard input), which none has learned from.  [default: the validation slice]"
)
@apply(moved_options[:1])
@option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@threads_option()
def command(
    runs: tuple[Path, ...],
    output: Path | None,
    force: bool,
    combine: str,
    text: str | None,
    encoding: str,
    wrong_bytes: str,
    corpus_moved: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make one run of several RUNS over the same text and tokenizer, weighed by what they say of its validation slice.

    Networks must not have learned from the slice: train them with --no-join. N-grams need no such care, they are
    asked without its counts. The held-out text is never looked at. `charlm train --arch mixture` trains members and
    mixture in one go.
    """
    if len(runs) < 2:
        raise UsageError("name two RUNS or more to mix; `charlm info` lists those there are")
    named, log = named_text(text, encoding, wrong_bytes), ReadingLog()
    with bar("mix") as progress:
        mixed = mix(runs, combine=combine, text=named, moved=corpus_moved, log=log, progress=progress)
    tell(log)
    if named is not None:
        note_line_ends(named, mixed.history, mixed.tokenizer)
        members = replace(mixed.history, weighed_on=None)
        note_learned(named, learned_share(named, members), "what these runs learned from", MEMORY_IS_WEIGHED)
    path = checkpoint.new_run(f"{(mixed.history.corpus or {}).get('name')}-mixture", output, force=force)
    try:
        with checkpoint.locked(path):
            checkpoint.save(path, "mixture", mixed.model, mixed.tokenizer, mixed.history)
            checkpoint.keep_metrics(path, 0)  # not those of a run that was there before
    finally:
        with suppress(OSError):
            path.rmdir()  # an empty folder, left by a failure
    if as_json:
        click.echo(json.dumps({"run": str(path), "bits_per_character": mixed.bits_per_character}))
        return
    _print(mixed)
    errors.print(f"{path}: a mixture of {len(runs)}. Now try", style="green", soft_wrap=True)
    errors.print(f"  charlm evaluate {' '.join(map(shell_quoted, (path, *runs)))}", soft_wrap=True)


def _print(mixed: Mixed) -> None:
    columns = [Column("weighed on a text that was kept apart"), Column("bits/char", number=True)]
    print_table(columns, [[name, f"{bits:.3f}"] for name, bits in mixed.bits_per_character.items()])
