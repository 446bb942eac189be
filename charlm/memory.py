"""How much memory there is, and knowing when it has run out."""

import os
import sys

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "bad allocation", "std::bad_alloc")


def physical_memory() -> int:
    """The bytes of memory of this machine; where the system does not say, more than anything needs."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return sys.maxsize


def ran_out(problem: BaseException) -> bool:
    """Whether memory ran out, as Python, numpy, or torch on any device (always a RuntimeError) says it."""
    return isinstance(problem, MemoryError) or (
        isinstance(problem, RuntimeError) and any(sign in str(problem) for sign in _SIGNS)
    )
