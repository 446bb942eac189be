"""What computes here: the versions, the processor and the threads that a figure or a run was made with."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from charlm import __version__


def environment() -> dict[str, Any]:
    """Versions of charlm, Python, torch, NumPy; system, processor, its cores, and the threads that torch uses now."""
    return {
        "charlm": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def numba_version() -> str:
    """The version of the numba that compiles sampling, or how to have one."""
    try:
        return version("numba")
    except PackageNotFoundError:
        return "none (pip install numba)"


def processor() -> str:
    """What the processor is called, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
