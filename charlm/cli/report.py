"""`charlm report`: trained runs as one page to look at."""

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import click
from typing_extensions import override

from charlm.checkpoint import newest
from charlm.cli.live import bar, errors, stop_on_signal
from charlm.cli.options import (
    CONTEXT,
    GroupedCommand,
    apply,
    device_option,
    moved_options,
    option,
    threads_option,
)
from charlm.cli.runs import RUN
from charlm.cli.spelling import spelled
from charlm.cli.texts import note_learned_by, tell
from charlm.comparison import Comparison, ComparisonObserver, compare, trained_already
from charlm.corpus import ReadingLog
from charlm.progress import Listener
from charlm.report import check_output, find, write_page
from charlm.training import choose_device


class EvaluationBars(ComparisonObserver):
    """Shows how far the evaluation of each contender is."""

    @override
    def evaluating(self, name: str) -> AbstractContextManager[Listener]:
        return bar(name)


@click.command("report", cls=GroupedCommand)
@click.argument("runs", nargs=-1, type=RUN)
@option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The page; an earlier report there is replaced.",
)
@option("--context", type=int, default=None, help=CONTEXT)
@option("--seed", type=click.IntRange(min=0, max=2**63 - 1), default=0, show_default=True, help="Seed of the samples.")
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

    The file needs nothing else, so it can be sent, printed and opened without a network. The runs must have held out
    the same text.
    """
    check_output(output)
    target = choose_device(device)
    log = ReadingLog()
    runs, moved = runs or (newest(),), (corpus_moved, held_out_moved)
    split, sources = trained_already(runs, moved, log)
    tell(log)
    note_learned_by(runs, split.held_out, moved)
    with stop_on_signal():
        observer = EvaluationBars()
        result = compare(sources, split, context=context, seed=seed, device=target, observer=observer)
        for name, fault in result.faults.items():
            errors.print(f"{name}: left out: {spelled(fault)}", style="red", soft_wrap=True)
        write_report(result, output, seed)


def write_report(result: Comparison, output: Path, seed: int) -> None:
    """Work out what the page shows, write it, and say where it is."""
    with ExitStack() as stack:
        found = find(result, seed=seed, progress=lambda name: _next(stack, name))
    write_page(found, output)
    errors.print(f"{output}: {output.stat().st_size / 1e6:.1f} MB; open it in a browser", style="green", soft_wrap=True)


def _next(stack: ExitStack, name: str) -> Any:
    """A progress bar for the next contender, in place of the last one's."""
    stack.close()
    return stack.enter_context(bar(name))
