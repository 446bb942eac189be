"""Compiling kernels in the background, so that nobody has to wait for them later."""

import os
import subprocess
import sys
from contextlib import suppress
from functools import cache
from threading import Thread

from charlm.config import Settings
from charlm.inference.opening import uncompiled
from charlm.models.base import LanguageModel


def compile_in_background(kind: type[LanguageModel], config: Settings) -> None:
    """Start a process of the lowest priority that compiles the kernels `open_engine` loads for such a model.

    A kernel without a signature is not among them: it compiles while the model is counted.
    """
    kernels = [kernel for kernel in uncompiled(kind, config) if hasattr(kernel, "signature")]
    if kernels:
        _start(tuple(f"{kernel.__module__.rpartition('.')[2]}.{kernel.__name__}" for kernel in kernels))


@cache
def _start(names: tuple[str, ...]) -> None:
    """Start it once for each set of kernels; the process may outlive this one."""
    command, nothing = [sys.executable, "-m", "charlm.inference.kernels", *names], subprocess.DEVNULL
    with suppress(OSError):
        process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
        if hasattr(os, "setpriority"):
            os.setpriority(os.PRIO_PROCESS, process.pid, 19)
        Thread(target=process.wait, daemon=True).start()
