"""How much memory there is, and knowing when it has run out."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_MESSAGES = ("out of memory", "can't allocate memory", "not enough memory", "bad allocation", "std::bad_alloc")
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # options of glibc's mallopt
_DEFAULT_BYTES, _MAX_BYTES = 128 * 1024, 32 * 1024 * 1024  # bytes: what glibc starts with, and the most that it accepts


def physical_memory() -> int:
    """The bytes of memory of this machine; where the system does not say, more than anything needs."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return sys.maxsize


def ran_out(problem: BaseException) -> bool:
    """Whether memory ran out, as Python, numpy, or torch on any device (always a RuntimeError) says it."""
    return isinstance(problem, MemoryError) or (
        isinstance(problem, RuntimeError) and any(sign in str(problem) for sign in _MESSAGES)
    )


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Memory that is freed stays with the process, for whoever asks next; afterwards all but 64 MiB goes back.

    Otherwise the C library returns each larger block at once, and the next one is new to the system, which clears it
    page by page: a quarter of the time of a training step. Does nothing where the C library is not glibc.
    """
    change = getattr(_c_library(), "mallopt", lambda _what, _value: 0)
    for option, value in ((_MMAP_THRESHOLD, _MAX_BYTES), (_TOP_PAD, 2 * _MAX_BYTES), (_TRIM_THRESHOLD, 2**31 - 1)):
        change(option, value)
    try:
        yield
    finally:
        for option, value in ((_TOP_PAD, _DEFAULT_BYTES), (_TRIM_THRESHOLD, 2 * _MAX_BYTES)):
            change(option, value)  # the most that glibc grows to by itself, which it no longer does once told
        return_freed_memory()


def return_freed_memory() -> None:
    """Memory that is freed goes back to the system now, that of other threads included, for which glibc keeps heaps."""
    getattr(_c_library(), "malloc_trim", lambda _kept: 0)(0)


def _c_library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
