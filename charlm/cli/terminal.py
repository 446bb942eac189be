"""The two consoles that commands write to. What they print of other people's texts cannot control the terminal."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import ProgressColumn, Task
from rich.segment import Segment
from rich.text import Text
from typing_extensions import override

from charlm.cli.glyphs import sanitized
from charlm.progress import duration


class Terminal(Console):
    """Standard output or standard error, as every command writes to it.

    Names of files, runs and texts come from elsewhere: none of their characters is markup or the name of an emoji, and
    control characters are shown as signs (see `glyphs.sanitized`).
    """

    def __init__(self, *, stderr: bool = False, **options: Any) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False, **options)

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        # rich adds its own styles and cursor movements after this
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=sanitized(segment.text))


stderr = Terminal(stderr=True)


def print_message(message: str, style: str = "") -> None:
    """Print a sentence on standard error, on one line however long it is."""
    stderr.print(message, style=style, soft_wrap=True)


def echo(text: object) -> None:
    """Print a line of data on standard output: unchanged in a pipe, sanitized on a terminal."""
    line = str(text)
    click.echo(sanitized(line) if sys.stdout.isatty() else line)


class TimeLeft(ProgressColumn):
    """The time left as `duration` formats it; empty where it is unknown or zero."""

    max_refresh = 0.5  # seconds

    @override
    def render(self, task: Task) -> Text:
        return Text("" if task.finished or not task.time_remaining else f"{duration(task.time_remaining)} left")


@contextmanager
def no_echo() -> Iterator[None]:
    """Keep the terminal from echoing what is typed: the ^C of Ctrl-C would tear a frame that is redrawn in place.

    Does nothing without a terminal, or in the background: a background process that changes the terminal is stopped.
    """
    if sys.platform == "win32":
        yield
        return
    import termios

    def set_terminal(attributes: list[Any]) -> None:
        with suppress(OSError, termios.error):
            if os.tcgetpgrp(descriptor) == os.getpgrp():
                termios.tcsetattr(descriptor, termios.TCSADRAIN, attributes)

    try:
        descriptor = sys.stderr.fileno()
        before = termios.tcgetattr(descriptor)
    except (OSError, ValueError, termios.error):
        yield
        return
    try:
        set_terminal([*before[:3], before[3] & ~(termios.ECHO | termios.ECHONL), *before[4:]])
        yield
    finally:
        set_terminal(before)
