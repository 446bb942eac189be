"""The progress of compressing and decompressing on standard error: a bar, or a line every few seconds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn

from charlm.cli.live import SECONDS_BETWEEN_LINES
from charlm.cli.terminal import TimeLeft, no_echo, print_message, stderr
from charlm.compression import CodingProgress, OnProgress
from charlm.progress import duration


class _Stage:
    """The stage that is running, when it started, and when a line was last printed of it."""

    def __init__(self) -> None:
        self.name, self.started_at, self.line_printed_at = "", 0.0, 0.0

    def update(self, progress: CodingProgress) -> bool:
        """Whether another stage has begun."""
        is_new = progress.what != self.name
        if is_new:
            self.name, self.started_at = progress.what, time.monotonic()
            self.line_printed_at = self.started_at
        return is_new

    def figures(self, progress: CodingProgress) -> str:
        """Bits per character (or byte) so far, and characters a second."""
        seconds = time.monotonic() - self.started_at
        speed = progress.done * progress.units / max(seconds, 1e-9)
        return f"{progress.bits_per_unit:.3f} bits per {progress.unit}  {speed:,.0f} {progress.unit}s/s"

    def line(self, progress: CodingProgress) -> str:
        """Share done, figures and time left."""
        left = (time.monotonic() - self.started_at) * (1 - progress.done) / max(progress.done, 1e-9)
        return f"{progress.what} {progress.done:.0%}  {self.figures(progress)}  {duration(left)} left"


@contextmanager
def coding_view(title: str) -> Iterator[OnProgress]:
    """Show the progress of coding; yields the callback to pass to the library."""
    stage = _Stage()
    if not stderr.is_terminal:
        yield lambda progress: _print_line(stage, title, progress)
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[figures]}")
    with no_echo(), Progress(*columns, TimeLeft(), console=stderr, transient=True) as bars:
        task = bars.add_task(title, total=1.0, figures="")

        def show(progress: CodingProgress) -> None:
            if stage.update(progress):
                bars.reset(task, description=f"{title}: {progress.what}")
            bars.update(task, completed=progress.done, figures=stage.figures(progress))

        yield show


def _print_line(stage: _Stage, title: str, progress: CodingProgress) -> None:
    stage.update(progress)
    if time.monotonic() - stage.line_printed_at > SECONDS_BETWEEN_LINES:
        stage.line_printed_at = time.monotonic()
        print_message(f"{title}: {stage.line(progress)}")
