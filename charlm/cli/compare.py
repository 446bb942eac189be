"""`charlm compare`: which architecture predicts a text best."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from charlm.checkpoint import find_run, is_run
from charlm.cli.architectures import ComparisonView, compare_architectures
from charlm.cli.live import StopRequest, stop_on_signal
from charlm.cli.options import (
    CONTEXT_HELP,
    GroupedCommand,
    adapt_option,
    apply,
    integer_option,
    option,
    output_option,
    refuse,
    refuse_all_but,
)
from charlm.cli.ranking import as_csv, as_json, as_table
from charlm.cli.report import print_faults, write_report
from charlm.cli.runs import complete_runs_and_files
from charlm.cli.settings import architectures_option, run_options
from charlm.cli.terminal import print_message
from charlm.cli.text_options import corpus_moved_option, corpus_options
from charlm.cli.texts import note_learned_by, show_notes
from charlm.cli.typeset import as_latex, as_markdown
from charlm.comparison import MATCHES, Comparison, budget_for, compare, trained_already
from charlm.corpus import ReadingLog
from charlm.errors import TrainingFault, UsageError
from charlm.names import shell_quoted
from charlm.report import check_output
from charlm.training import SIZES, choose_device

DEFAULT_CORPUS = "builtin:python-reference"
TABLE_FORMATS: dict[str, Callable[[Comparison, bool], None]] = {
    "json": lambda result, _: as_json(result),
    "csv": as_csv,
    "markdown": as_markdown,
    "latex": as_latex,
}
"""How to print a comparison other than as a table, by the name of the option."""

FOR_RUNS = {
    "corpora",
    "corpus_moved",
    "held_out",
    "context",
    "adaptation",
    "seed",
    "device",
    "threads",
    "report",
    "pairs",
    "prove",
    *TABLE_FORMATS,
}
"""The parameters that apply to trained runs, too."""


@click.command("compare", cls=GroupedCommand)
@click.argument("corpora", nargs=-1, metavar="[CORPUS_OR_RUNS]...", shell_complete=complete_runs_and_files)
@architectures_option()
@option(
    "--budget",
    default=None,
    help=f"How long each: 90s, 5m, 2h, 10epochs, 50Mtokens, 3000steps.  [default: {budget_for(None, None)}]",
)
@option(
    "--match",
    type=click.Choice(list(MATCHES)),
    default=None,
    help="What to make equal: the budget, of time or of tokens; or, by width, the parameters as well.  "
    "[default: what --budget counts]",
)
@integer_option("--seeds", low=1, default=1, help="Number of seeds; the table shows their mean.")
@option("--again", is_flag=True, help="Train anew what an earlier comparison has trained.")
@option("--again-disturbed", is_flag=True, help="Train anew what was trained while the machine was busy.", rare=True)
@option("--size", type=click.Choice(SIZES), default="auto", show_default=True, help="Size of the models.")
@apply(corpus_options)
@option("--context", type=int, default=None, help=CONTEXT_HELP, rare=True)
@adapt_option(rare=True)
@option(
    "--prove", is_flag=True, rare=True, help="Store the text in the bits that each model claims, and decode it again."
)
@output_option("Folder for the runs.  [default: checkpoints]")
@option("--report", type=click.Path(path_type=Path), help="Make a page as well, an HTML file.  [default: none]")
@option("--pairs", is_flag=True, help="Show the difference of every two models and its interval; with --csv only that.")
@option("--json", is_flag=True, help="Print JSON, with the pairs, all settings, versions and hashes.")
@option("--csv", is_flag=True, help="Print CSV.")
@option("--markdown", is_flag=True, help="Print a Markdown table.", rare=True)
@option("--latex", is_flag=True, help="Print a LaTeX table, for the booktabs package.", rare=True)
@corpus_moved_option
@apply(run_options(skip=("adapt",)))  # here --adapt is that of the evaluation
def command(corpora: tuple[str, ...], pairs: bool, **values: Any) -> int:
    """Train every architecture on one text and rank them by how well they predict the rest of it, in bits per
    character.

    CORPUS is what `charlm train` takes, by default builtin:python-reference. Runs, named by folder or by name, are
    compared as they are. Ctrl-C saves and shows the results so far; the same command continues from there, and trains
    nothing twice.
    """
    _check_flags(values)
    show = _format(values, pairs)
    runs = _named_runs(corpora)
    if page := values["report"]:
        check_output(page)
    with stop_on_signal() as stop:
        if runs:
            refuse_all_but(FOR_RUNS, "is for training, and these runs are trained")
            result = _compare_runs(runs, values, stop)
        else:
            refuse({"corpus_moved"}, "says where the corpus of trained runs is now, and no runs are named")
            result = compare_architectures(corpora or (DEFAULT_CORPUS,), values, stop)
        show(result, pairs)
        if page and result.rows and not result.stopped:
            write_report(result, page, values["seed"] or 0)
        return _print_outcome(result, stop())


def _check_flags(values: Mapping[str, Any]) -> None:
    if values["again"] and values["again_disturbed"]:
        raise UsageError("--again trains all anew, those that were slowed down included: give one of the two")
    if values["prove"]:
        refuse({"context"}, "goes with no --prove, which lets a model see all that it can use")
    if values["adaptation"] == "all":
        refuse({"context"}, "goes with no --adapt all, which learns from all of the text before each character")


def _format(values: Mapping[str, Any], pairs: bool) -> Callable[[Comparison, bool], None]:
    """How to print the result. Raises UsageError for two formats, and for --pairs where it has no effect."""
    formats = [name for name in TABLE_FORMATS if values[name]]
    if len(formats) > 1:
        raise UsageError(f"{' and '.join(f'--{name}' for name in formats)}: give one of them")
    if pairs and formats == ["json"]:
        raise UsageError("--pairs: JSON always has them; leave it out")
    return TABLE_FORMATS[formats[0]] if formats else as_table


def _named_runs(names: Sequence[str]) -> list[Path]:
    """The runs of these names; none if they name texts. Raises UsageError for a mixture of both."""
    paths = [_named_run(name) for name in names]
    runs = [path for path in paths if path]
    if runs and len(runs) < len(names):
        text = names[paths.index(None)]
        raise UsageError(f"{runs[0]} is a run and {text} is not: name runs only, or a corpus")
    return runs


def _named_run(name: str) -> Path | None:
    """The run of that name. None for a text, which has priority over a run of the same name in checkpoints/."""
    path = Path(name) if os.path.exists(name) else find_run(name)  # noqa: PTH110 - a name may be too long for Path
    return path if is_run(path) else None


def _compare_runs(runs: list[Path], values: Mapping[str, Any], stop: StopRequest) -> Comparison:
    device, log = choose_device(values["device"]), ReadingLog()
    moved = (values["corpus_moved"], values["held_out"])
    split, sources = trained_already(runs, moved, log)
    show_notes(log)
    note_learned_by(runs, split.held_out, moved)
    stop.graceful = True
    return compare(
        sources, split, context=values["context"], adapt=values["adaptation"], seed=values["seed"] or 0, device=device,
        proving=values["prove"], observer=ComparisonView(stop),
    )  # fmt: skip


def _print_outcome(result: Comparison, signalled: int) -> int:
    """Print what went wrong and what is left to do; returns the exit code."""
    print_faults(result)
    if result.disturbed():
        print_message("when the machine is quiet, --again-disturbed trains those anew that were slowed down")
    if not result.stopped:
        return TrainingFault.exit_code if result.faults else 0
    print_message("stopped before the end; the same command goes on from here", "yellow")
    if result.interrupted:
        print_message(f"or only this run\n  charlm train --resume {shell_quoted(result.interrupted)}")
    return 128 + signalled
