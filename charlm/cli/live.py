"""The progress of long work on standard error: a live panel on a terminal, plain lines elsewhere; and how it stops."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as ProgressBars
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from charlm.cli import Interrupted
from charlm.cli.glyphs import printable
from charlm.cli.terminal import TimeLeft, no_echo, print_message, stderr
from charlm.progress import Listener, duration, silent
from charlm.training import Progress, TrainingObserver

BLOCKS = "▁▂▃▄▅▆▇█"
MAX_CURVE_POINTS = 60
WIDE_PANEL_COLUMNS = 80  # of the terminal, from which on figures stand further apart
TITLE_MARGIN_CELLS = 6  # of the frame beside its title
SECONDS_BETWEEN_LINES = 5.0  # at least, where there is no terminal


def sparkline(values: list[float]) -> str:
    """At most MAX_CURVE_POINTS of the values as block characters, the lowest value as the lowest block."""
    points = min(len(values), MAX_CURVE_POINTS)
    sampled = [values[(number + 1) * len(values) // points - 1] for number in range(points)]
    low, high = min(sampled), max(sampled)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in sampled)


def _on_own_line(progress_bar: ProgressBar) -> Padding:
    return Padding(progress_bar, 0)  # a bar by itself does not end its line


class TrainingView(TrainingObserver):
    """Shows one training run."""

    def __init__(self, title: str, *, stop: Callable[[], object], quiet: bool = False) -> None:
        self.title, self.quiet, self.stop = Text(printable(title)), quiet, stop
        self.wants_samples = not quiet
        self.losses: list[float] = []  # bits per character on the training text, thinned as they become many
        self.last: Progress | None = None
        self.validation: float | None = None
        self.sample, self.stage, self.line_printed_at = "", ("starting", 0.0), 0.0
        self.live = Live(console=stderr, get_renderable=self._panel, refresh_per_second=4, transient=True)
        self.contexts = ExitStack()

    def __enter__(self) -> "TrainingView":
        if stderr.is_terminal and not self.quiet:
            self.contexts.enter_context(no_echo())
            self.contexts.enter_context(self.live)
        return self

    def __exit__(self, *_: object) -> None:
        self.contexts.close()

    @override
    def on_stage(self, what: str, done: float) -> None:
        self.stage = (what, done)

    @override
    def on_notice(self, sentence: str) -> None:
        if not self.quiet:
            print_message(sentence, "yellow")

    @override
    def on_sample(self, text: str) -> None:
        self.sample = printable(" ".join(text.split()))

    @override
    def on_progress(self, progress: Progress) -> None:
        self.last = progress
        if progress.validation is not None:
            self.validation = progress.validation
        self.losses.append(progress.training)
        if len(self.losses) > 2 * MAX_CURVE_POINTS:
            self.losses = self.losses[::2]
        if stderr.is_terminal or self.quiet:
            return
        now = time.monotonic()
        if progress.validation is not None or now - self.line_printed_at > SECONDS_BETWEEN_LINES:
            self.line_printed_at = now
            print_message(self._line(progress))

    @override
    def should_stop(self) -> bool:
        return bool(self.stop())

    def _line(self, p: Progress) -> str:
        validation = "" if p.validation is None else f"  validation {p.validation:.3f}"
        left = "measuring" if p.seconds_left is None else f"{duration(p.seconds_left)} left"
        step = f"step {p.step:,}" + (f"/{p.steps:,}" if p.steps else "")
        return f"{step}  bits/char train {p.training:.3f}{validation}  {p.characters_per_second:,.0f} chars/s  {left}"

    def _panel(self) -> Panel:
        if self.last is None:
            stage, done = self.stage
            return self._framed([Text(stage), _on_own_line(ProgressBar(total=1.0, completed=done))])
        p = self.last
        rows: list[Any] = [
            _on_own_line(ProgressBar(total=p.steps or 1, completed=p.step if p.steps else 0)),
            self._figures(p),
        ]
        if len(self.losses) > 1:
            rows.append(Text(sparkline(self.losses), "cyan", overflow="crop", no_wrap=True))
        if self.sample:
            rows.append(Text(self.sample, "italic dim", overflow="ellipsis", no_wrap=True))
        return self._framed(rows, "Ctrl-C saves and stops")

    def _figures(self, p: Progress) -> Table:
        figures = Table.grid(padding=(0, 3 if stderr.width >= WIDE_PANEL_COLUMNS else 1))
        for heading in ("step", "train", "validation", "chars/s", "time left"):
            figures.add_column(min_width=len(heading), overflow="fold")
        figures.add_row("step", "bits/char train", "validation", "chars/s", "time left")
        figures.add_row(
            f"{p.step:,}" + (f" of {p.steps:,}" if p.steps else ""),
            Text(f"{p.training:.3f}", "bold"),
            Text("–" if self.validation is None else f"{self.validation:.3f}", "bold green"),
            f"{p.characters_per_second:,.0f}",
            "measuring" if p.seconds_left is None else duration(p.seconds_left),
        )
        return figures

    def _framed(self, rows: list[Any], subtitle: str | None = None) -> Panel:
        """The rows in a frame. A title that is too wide for the frame becomes the first line, folded."""
        fits = self.title.cell_len + TITLE_MARGIN_CELLS <= stderr.width
        rows = rows if fits else [Text(self.title.plain, overflow="fold"), *rows]
        title = self.title if fits else None
        return Panel(Group(*rows), title=title, title_align="left", subtitle=subtitle, subtitle_align="right")


STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a polite kill, a closed terminal (Windows has no SIGHUP)


class StopRequest:
    """Which signal has asked the command to stop; 0 while none has.

    While `graceful`, the first signal is only recorded: the running work polls for it, saves and returns.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.graceful = False

    def __call__(self) -> int:
        """The number of the signal."""
        return self.signal

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler. A second signal, or one that is not graceful, ends the command at once."""
        passed_on = "TORCHELASTIC_RUN_ID" in os.environ and number != self.signal  # torchrun adds SIGTERM to a Ctrl-C
        recorded = self.graceful and (not self.signal or passed_on)
        self.signal = self.signal or number
        if not recorded:
            raise KeyboardInterrupt


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Record the STOP_SIGNALS; see `StopRequest`. Raises Interrupted for one that ends the command at once."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield request
        return
    numbers = [getattr(signal, name) for name in STOP_SIGNALS if hasattr(signal, name)]
    # nohup ignores SIGHUP for its command, and that is to stay so
    handled = [n for n in numbers if n == signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, request.handle) for number in handled}
    try:
        yield request
    except KeyboardInterrupt:
        raise Interrupted(request.signal or signal.SIGINT) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_bar(title: str) -> Iterator[Listener]:
    """A progress bar for one piece of work; yields the function (stage, fraction done) that moves it."""
    if not stderr.is_terminal:
        yield silent
        return
    columns, current = (TextColumn("{task.description}", markup=False), BarColumn(), TimeLeft()), ""
    with no_echo(), ProgressBars(*columns, console=stderr, transient=True) as bars:
        task = bars.add_task(title, total=1.0)

        def move(stage: str, done: float) -> None:
            nonlocal current
            if stage != current:  # the speed of the last stage says nothing about this one
                bars.reset(task, description=f"{title}: {stage}")
                current = stage
            bars.update(task, completed=done)

        yield move
