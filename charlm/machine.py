"""What computes here: the versions, the processor and the threads that a figure or a run was made with."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from charlm import __version__

_VECTOR = re.compile("sse|ssse|avx|amx|fma|f16c|asimd|neon|sve|fphp")  # instruction sets for vectors, x86 and ARM


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
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def instruction_sets() -> str:
    """The vector instructions that arithmetic is done with here, by which its last bits can differ.

    Those that the processor has, as far as the system lists them, then what torch and NumPy make of them.
    """
    listed = sorted(word for word in _cpuinfo("flags", "Features").split() if _VECTOR.match(word))
    numpy = np.show_config(mode="dicts")["SIMD Extensions"]
    used = [torch.backends.cpu.get_cpu_capability(), *numpy.get("baseline", []), *numpy.get("found", [])]
    return " ".join([*listed, *used])


def _cpuinfo(*names: str) -> str:
    """The first line of /proc/cpuinfo with one of these names; empty on other systems than Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in fields if name.strip() in names), "")
