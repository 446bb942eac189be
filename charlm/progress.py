"""Telling whoever waits how far long work is, and for how long."""

from collections.abc import Callable

Listener = Callable[[str, float], None]
"""Is told what is being done, and which fraction of it is done."""

Tell = Callable[[float], None]
"""Is told the fraction only: what is being done, whoever asked for it knows."""


def silent(_what: str, _done: float) -> None:
    """A listener who tells nobody."""


def duration(seconds: float) -> str:
    """Seconds as a person says them: 0.3 s, 8 s, 1:30, 2:05:00."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if 0.05 <= seconds < 0.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
