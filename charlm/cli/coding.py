"""How compressing and decompressing look while they last, on standard error: a bar, or a line now and then."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn

from charlm.cli.live import LINE_SECONDS, errors
from charlm.cli.terminal import TimeLeft, keys_unseen
from charlm.compression import CodingProgress, OnProgress
from charlm.progress import duration


class _Pace:
    """Since when the present piece of work goes on, and when it was last told of."""

    def __init__(self) -> None:
        self.what, self.begun, self.told = "", 0.0, 0.0

    def follow(self, progress: CodingProgress) -> bool:
        """Whether another piece of work has begun."""
        new = progress.what != self.what
        if new:
            self.what, self.begun = progress.what, time.monotonic()
            self.told = self.begun
        return new

    def figures(self, progress: CodingProgress) -> str:
        """Bits per character so far, and characters a second."""
        seconds = time.monotonic() - self.begun
        speed = progress.done * progress.units / max(seconds, 1e-9)
        plural = f"{progress.unit}s"
        return f"{progress.bits_per_unit:.3f} bits per {progress.unit}  {speed:,.0f} {plural}/s"

    def line(self, progress: CodingProgress) -> str:
        """All there is to say of it."""
        left = (time.monotonic() - self.begun) * (1 - progress.done) / max(progress.done, 1e-9)
        return f"{progress.what} {progress.done:.0%}  {self.figures(progress)}  {duration(left)} left"


@contextmanager
def coding_view(title: str) -> Iterator[OnProgress]:
    """Shows how coding goes on; gives the function that is told of it."""
    pace = _Pace()
    if not errors.is_terminal:
        yield lambda progress: _print_line(pace, title, progress)
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[figures]}")
    with keys_unseen(), Progress(*columns, TimeLeft(), console=errors, transient=True) as shown:
        task = shown.add_task(title, total=1.0, figures="")

        def show(progress: CodingProgress) -> None:
            if pace.follow(progress):
                shown.reset(task, description=f"{title}: {progress.what}")
            shown.update(task, completed=progress.done, figures=pace.figures(progress))

        yield show


def _print_line(pace: _Pace, title: str, progress: CodingProgress) -> None:
    pace.follow(progress)
    if time.monotonic() - pace.told > LINE_SECONDS:
        pace.told = time.monotonic()
        errors.print(f"{title}: {pace.line(progress)}", soft_wrap=True)
