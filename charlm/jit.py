"""Functions that numba compiles: the options that all kernels share. Imports numba."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

njit: Any = numba.njit
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
"""Sums may be computed in any order, which vector instructions need; NaN and infinity keep their meaning."""
NO_REFERENCES = {"_nrt": False}
"""For what allocates no array and returns none: numba counts no references to arrays. It would do so at most uses of
an array of a tuple: the kernel that reads contexts took 50 us a character with that, and 20 without."""


def inner(function: F) -> F:
    """A function that only kernels call, inlined into each of them by LLVM.

    Otherwise all kernels would call the copy of the kernel that is loaded first, and copies are optimised differently:
    the last bits would depend on which kernels were loaded or compiled before.
    """
    return _inner(function)


def inner_on_tuples(function: F) -> F:
    """The same for one that takes arrays from named tuples, allocates none and returns none."""
    return _inner(function, **NO_REFERENCES)


def _inner(function: F, **options: bool) -> F:
    without_wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True}
    return cast(F, njit(**OPTIONS, **without_wrappers, **options)(function))


def kernel_on_tuples(function: F) -> F:
    """What Python calls of those: compiled when it is called first on a machine."""
    return cast(F, njit(cache=True, **OPTIONS, **NO_REFERENCES)(function))


def is_compiled(function: Callable[..., Any]) -> bool:
    """Whether this machine has the kernel compiled from the present contents of its file."""
    dispatcher: Any = function
    try:
        return bool(dispatcher._cache._cache_file._load_index())  # empty if numba would compile it again
    except (OSError, AttributeError):  # there is no place for a cache
        return False
