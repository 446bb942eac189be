"""What is printed: text of others is shown, not obeyed; and what is needed while something is redrawn in place."""

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

from charlm.cli.glyphs import harmless
from charlm.progress import duration


class Terminal(Console):
    """Standard output or standard error as it is written to by all commands.

    Names of files, of runs and of texts are text of others: nothing in them is markup or the name of an emoji, and what
    a terminal would obey is shown as a sign (see `glyphs.harmless`), whatever it stands in.
    """

    def __init__(self, *, stderr: bool = False, **options: Any) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As in rich; the styles and movements that rich adds later are its own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))


def echo(text: object) -> None:
    """A line of data on standard output: as it is in a pipe, harmless on a terminal."""
    line = str(text)
    click.echo(harmless(line) if sys.stdout.isatty() else line)


class TimeLeft(ProgressColumn):
    """The time left as `duration` says it; nothing where it is not known, or none is left."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """The cell of one task."""
        return Text("" if task.finished or not task.time_remaining else f"{duration(task.time_remaining)} left")


@contextmanager
def keys_unseen() -> Iterator[None]:
    """Meanwhile the terminal does not echo what is typed: the ^C of Ctrl-C would tear the frame that is redrawn.

    Nothing is changed where there is no terminal, or where another program has it: who sets a terminal from the
    background is stopped.
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
