"""Telling whoever waits how far long work is."""

from collections.abc import Callable

Listener = Callable[[str, float], None]
"""Is told what is being done, and which fraction of it is done."""

Tell = Callable[[float], None]
"""Is told the fraction only: what is being done, whoever asked for it knows."""


def silent(_what: str, _done: float) -> None:
    """A listener who tells nobody."""
