"""What is needed while something is redrawn in place on a terminal: an estimate of the time left, no echo of keys."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.progress import ProgressColumn, Task
from rich.text import Text

from charlm.progress import duration


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
