"""How a step is computed: in which arithmetic, and whether it is compiled first."""

import os
import shutil
from collections.abc import Callable

import torch
from torch import Tensor

from charlm.errors import UsageError
from charlm.models import State

Score = Callable[[Tensor, Tensor, State], tuple[Tensor, State]]


def bfloat16_reason() -> tuple[bool, str]:
    """Whether this processor is built for bfloat16, and why."""
    found: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    names = [name for name in ("amx_bf16", "avx512_bf16") if found.get(name)]
    return bool(names), f"the processor has {names[0]}" if names else "the processor has neither AMX nor AVX-512 bf16"


def compute_type(precision: str, device: torch.device) -> torch.dtype:
    """The type of the arithmetic: float32, or bfloat16 where asked for or (auto) where the device is built for it."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    able: dict[str, Callable[[], bool]] = {
        "cpu": lambda: bfloat16_reason()[0],
        "cuda": torch.cuda.is_bf16_supported,
    }
    return torch.bfloat16 if able.get(device.type, lambda: False)() else torch.float32


def compiled(score: Score) -> Score:
    """The same, faster once its kernels are made. Raises UsageError where nothing can make them."""
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise UsageError("--compile: no C++ compiler on the PATH; install g++, or leave --compile out")
    faster: Score = torch.compile(score)
    return faster
