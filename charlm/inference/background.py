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
    """Start a process of the lowest priority that compiles the kernels `open_engine` loads for such a model."""
    if names := uncompiled(kind, config):
        _start(tuple(names))


@cache
def _start(names: tuple[str, ...]) -> None:
    """Start it once for each set of kernels; the process may outlive this one."""
    command, nothing = [sys.executable, "-m", "charlm.inference.kernels", *names], subprocess.DEVNULL
    with suppress(OSError):
        process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
        if hasattr(os, "setpriority"):
            os.setpriority(os.PRIO_PROCESS, process.pid, 19)
        Thread(target=process.wait, daemon=True).start()
