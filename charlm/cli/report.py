"""`charlm report`: trained runs as one page to look at."""

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import click
from typing_extensions import override

from charlm.checkpoint import newest
from charlm.cli.live import progress_bar, stop_on_signal
from charlm.cli.options import (
    CONTEXT_HELP,
    MAX_SEED,
    GroupedCommand,
    apply,
    device_option,
    integer_option,
    option,
    threads_option,
)
from charlm.cli.runs import RUN
from charlm.cli.spelling import spelled
from charlm.cli.terminal import print_message
from charlm.cli.text_options import moved_options
from charlm.cli.texts import note_learned_by, show_notes
from charlm.comparison import Comparison, ComparisonObserver, compare, trained_already
from charlm.corpus import ReadingLog
from charlm.progress import Listener
from charlm.report import check_output, find, write_page
from charlm.training import choose_device


class EvaluationBars(ComparisonObserver):
    """Shows how far the evaluation of each contender is."""

    @override
    def evaluating(self, name: str) -> AbstractContextManager[Listener]:
        return progress_bar(name)


@click.command("report", cls=GroupedCommand)
@click.argument("runs", nargs=-1, type=RUN)
@option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The page; replaces an earlier report there.",
)
@option("--context", type=int, default=None, help=CONTEXT_HELP)
@integer_option("--seed", low=0, high=MAX_SEED, default=0, help="Seed of the samples.")
@apply(moved_options)
@device_option()
@threads_option()
def command(
    runs: tuple[Path, ...],
    output: Path,
    context: int | None,
    seed: int,
    corpus_moved: tuple[str, ...],
    held_out_moved: str | None,
    device: str,
) -> None:
    """Make one HTML page of RUNS (by default the newest): figures, curves, what surprises them, what they write.

    The page is one file that can be sent, printed and opened without a network. The runs must have held out the same
    text.
    """
    check_output(output)
    target, log = choose_device(device), ReadingLog()
    runs, moved = runs or (newest(),), (corpus_moved, held_out_moved)
    split, sources = trained_already(runs, moved, log)
    show_notes(log)
    note_learned_by(runs, split.held_out, moved)
    with stop_on_signal():
        observer = EvaluationBars()
        result = compare(sources, split, context=context, seed=seed, device=target, observer=observer)
        print_faults(result)
        write_report(result, output, seed)


def print_faults(result: Comparison) -> None:
    """Print which models were left out, and why."""
    for name, fault in result.faults.items():
        print_message(f"{name}: left out: {spelled(fault)}", "red")


def write_report(result: Comparison, output: Path, seed: int) -> None:
    """Compute what the page shows, write the page, and print where it is."""
    with ExitStack() as stack:
        findings = find(result, seed=seed, progress=lambda name: _next_bar(stack, name))
    write_page(findings, output)
    print_message(f"{output}: {output.stat().st_size / 1e6:.1f} MB; open it in a browser", "green")


def _next_bar(stack: ExitStack, name: str) -> Any:
    """A progress bar for the next contender, in place of the last one's."""
    stack.close()
    return stack.enter_context(progress_bar(name))
