"""How a step is computed: in which arithmetic, and whether it is compiled first."""

import math
import os
import shutil
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from charlm.errors import UsageError
from charlm.models import State

Score = Callable[[Tensor, Tensor, State], tuple[Tensor, State]]


def bfloat16_reason() -> tuple[bool, str]:
    """Whether this processor is built for bfloat16, and why."""
    names = _among(("amx_bf16", "avx512_bf16"))
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


RELATIVE_SPEEDS = {"amx_bf16": 1.0, "avx512_bf16": 1.0, "avx512_f": 0.5, "cpu": 0.25, "mps": 1.0, "cuda": 8.0}
"""Training speed of two cores, or of a GPU, relative to two cores with AMX. Measured: AMX, the same in float32 (which
stands for AVX-512 without bfloat16), AVX2 (any other). The rest are guesses."""


def speed(precision: str, device: torch.device) -> float:
    """How fast networks learn here, about, as a multiple of `plan.TOKENS_PER_SECOND`.

    Looked up, not timed, so that the same plan always has the same sizes and dropout.
    """
    if device.type != "cpu":
        return RELATIVE_SPEEDS.get(device.type, 1.0)
    built_for = ("amx_bf16", "avx512_bf16", "avx512_f")
    capabilities = _among(built_for if compute_type(precision, device) == torch.bfloat16 else built_for[2:])
    return RELATIVE_SPEEDS[capabilities[0] if capabilities else "cpu"] * math.sqrt(torch.get_num_threads() / 2)


def _among(capabilities: Sequence[str]) -> list[str]:
    """Those that this processor has."""
    there: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return [name for name in capabilities if there.get(name)]


def compiled(score: Score) -> Score:
    """The same, faster once its kernels are made. Raises UsageError where nothing can make them."""
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise UsageError("needs a C++ compiler, and none is on the PATH; install g++, or leave it out", "compile")
    faster: Score = torch.compile(score)
    return faster
