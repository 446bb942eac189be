"""Telling whoever waits how far long work is."""

from collections.abc import Callable

Listener = Callable[[str, float], None]
"""Is told what is being done, and which fraction of it is done."""


def silent(_what: str, _done: float) -> None:
    """A listener who tells nobody."""
