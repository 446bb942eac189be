"""How long work looks on a terminal: a live panel there, plain lines elsewhere; always on standard error."""

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
from charlm.cli.glyphs import shown
from charlm.cli.terminal import Terminal, TimeLeft, keys_unseen
from charlm.progress import Listener, duration, silent
from charlm.training import Progress, TrainingObserver

BARS = "▁▂▃▄▅▆▇█"
CURVE_POINTS = 60
WIDE_PANEL = 80  # columns of a terminal where the figures have room
TITLE_MARGIN = 6  # cells of the frame beside its title
LINE_SECONDS = 5.0  # between two plain lines, at least

errors = Terminal(stderr=True)


def curve(values: list[float]) -> str:
    """At most CURVE_POINTS of the values as block characters, the lowest value the lowest block."""
    points = min(len(values), CURVE_POINTS)
    shown = [values[(number + 1) * len(values) // points - 1] for number in range(points)]
    low, high = min(shown), max(shown)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in shown)


def _line_of(shown: ProgressBar) -> Padding:
    return Padding(shown, 0)  # a bar by itself does not end its line


class TrainingView(TrainingObserver):
    """Shows one training run."""

    def __init__(self, title: str, *, stopping: Callable[[], object], quiet: bool = False) -> None:
        self.title, self.quiet, self.stopping = Text(shown(title)), quiet, stopping
        self.wants_samples = not quiet
        self.curve: list[float] = []
        self.last: Progress | None = None
        self.validation: float | None = None
        self.text, self.stage, self.lined = "", ("starting", 0.0), 0.0
        self.live = Live(console=errors, get_renderable=self._panel, refresh_per_second=4, transient=True)
        self.opened = ExitStack()

    def __enter__(self) -> "TrainingView":
        if errors.is_terminal and not self.quiet:
            self.opened.enter_context(keys_unseen())
            self.opened.enter_context(self.live)
        return self

    def __exit__(self, *_: object) -> None:
        self.opened.close()

    @override
    def on_stage(self, what: str, done: float) -> None:
        self.stage = (what, done)

    @override
    def on_notice(self, sentence: str) -> None:
        if not self.quiet:
            errors.print(sentence, style="yellow", soft_wrap=True)

    @override
    def on_sample(self, text: str) -> None:
        self.text = shown(" ".join(text.split()))

    @override
    def on_progress(self, progress: Progress) -> None:
        self.last = progress
        if progress.validation is not None:
            self.validation = progress.validation
        self.curve.append(progress.training)
        if len(self.curve) > 2 * CURVE_POINTS:
            self.curve = self.curve[::2]
        now = time.monotonic()
        if (
            not errors.is_terminal
            and not self.quiet
            and (progress.validation is not None or now - self.lined > LINE_SECONDS)
        ):
            self.lined = now
            errors.print(self._line(progress), soft_wrap=True)

    @override
    def should_stop(self) -> bool:
        return bool(self.stopping())

    def _line(self, p: Progress) -> str:
        validation = "" if p.validation is None else f"  validation {p.validation:.3f}"
        left = "measuring" if p.seconds_left is None else f"{duration(p.seconds_left)} left"
        step = f"step {p.step:,}" + (f"/{p.steps:,}" if p.steps else "")
        return f"{step}  bits/char train {p.training:.3f}{validation}  {p.characters_per_second:,.0f} chars/s  {left}"

    def _panel(self) -> Panel:
        if self.last is None:
            what, done = self.stage
            return self._framed([Text(what), _line_of(ProgressBar(total=1.0, completed=done))])
        p = self.last
        figures = Table.grid(padding=(0, 3 if errors.width >= WIDE_PANEL else 1))
        for heading in ("step", "train", "validation", "chars/s", "time left"):
            figures.add_column(min_width=len(heading), overflow="fold")
        validation = "–" if self.validation is None else f"{self.validation:.3f}"
        figures.add_row("step", "bits/char train", "validation", "chars/s", "time left")
        figures.add_row(
            f"{p.step:,}" + (f" of {p.steps:,}" if p.steps else ""),
            Text(f"{p.training:.3f}", "bold"),
            Text(validation, "bold green"),
            f"{p.characters_per_second:,.0f}",
            "measuring" if p.seconds_left is None else duration(p.seconds_left),
        )
        rows: list[Any] = [_line_of(ProgressBar(total=p.steps or 1, completed=p.step if p.steps else 0)), figures]
        if len(self.curve) > 1:
            rows.append(Text(curve(self.curve), "cyan", overflow="crop", no_wrap=True))
        if self.text:
            rows.append(Text(self.text, "italic dim", overflow="ellipsis", no_wrap=True))
        return self._framed(rows, "Ctrl-C saves and stops")

    def _framed(self, rows: list[Any], subtitle: str | None = None) -> Panel:
        """In a frame; a title that is wider than that is its first line, folded."""
        fits = self.title.cell_len + TITLE_MARGIN <= errors.width
        rows = rows if fits else [Text(self.title.plain, overflow="fold"), *rows]
        title = self.title if fits else None
        return Panel(Group(*rows), title=title, title_align="left", subtitle=subtitle, subtitle_align="right")


STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a polite kill, a terminal that is closed (none on Windows)


class Stopping:
    """Which signal has asked for an end (0: none), to be asked between steps.

    While `patient` the first signal is only noted: whoever is at work looks, saves what there is, and says so.
    """

    def __init__(self) -> None:
        self.came = 0
        self.patient = False

    def __call__(self) -> int:
        """The number of the signal."""
        return self.came

    def note(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler: a second signal, or one that nobody would look for, ends it all at once."""
        passed_on = "TORCHELASTIC_RUN_ID" in os.environ and number != self.came  # torchrun adds SIGTERM to a Ctrl-C
        heeded = self.patient and (not self.came or passed_on)
        self.came = self.came or number
        if not heeded:
            raise KeyboardInterrupt


@contextmanager
def stop_on_signal() -> Iterator[Stopping]:
    """The signals in STOPPING ask for an end; see `Stopping`. Raises Interrupted where it had to be at once."""
    stopping = Stopping()
    if threading.current_thread() is not threading.main_thread():  # only the main thread hears signals
        yield stopping
        return
    numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    heard = [n for n in numbers if n == signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]  # as nohup has it
    before = {number: signal.signal(number, stopping.note) for number in heard}
    try:
        yield stopping
    except KeyboardInterrupt:
        raise Interrupted(stopping.came or signal.SIGINT) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def bar(title: str) -> Iterator[Listener]:
    """A progress bar for one piece of work; gives the function (what, fraction done) that moves it."""
    if not errors.is_terminal:
        yield silent
        return
    columns, doing = (TextColumn("{task.description}", markup=False), BarColumn(), TimeLeft()), ""
    with keys_unseen(), ProgressBars(*columns, console=errors, transient=True) as shown:
        task = shown.add_task(title, total=1.0)

        def move(what: str, done: float) -> None:
            nonlocal doing
            if what != doing:  # how fast the last stage went tells nothing of this one
                shown.reset(task, description=f"{title}: {what}")
                doing = what
            shown.update(task, completed=done)

        yield move
