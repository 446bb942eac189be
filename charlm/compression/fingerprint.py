"""What both sides must have in common: the model, number for number, and the machine's arithmetic."""

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import torch

from charlm import __version__
from charlm.compression import portable
from charlm.compression.predictors import Predictor
from charlm.machine import instruction_sets, processor
from charlm.models import LanguageModel, architecture_of

LIBRARIES = ("torch", "numpy", "numba", "llvmlite")
"""Whose versions decide the last bits of probabilities."""

SHOWN, MAX_LISTED = 40, 8  # characters of a value in a message, and how many values


def model_digest(model: LanguageModel) -> str:
    """SHA-256 over the architecture, its settings and every number of a model, in hexadecimal."""
    described = [architecture_of(model), model.vocab_size, model.config.to_json()]
    hashed = hashlib.sha256(json.dumps(described).encode())
    for name, tensor in sorted(model.state_dict().items()):
        hashed.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        hashed.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def machine(predictor: Predictor) -> dict[str, str | int]:
    """What has to be equal for the same steps to give the same bits, by name."""
    coder = ".".join(version("constriction").split(".")[:2])  # what is behind that changes no output
    always: dict[str, str | int] = {"backend": predictor.backend, "threads": predictor.threads, "constriction": coder}
    if predictor.backend == portable.BACKEND:  # integers are the same everywhere
        return always
    return {
        **always,
        "charlm": __version__,
        **{library: _version(library) for library in LIBRARIES},
        "system": f"{platform.system()} {platform.machine()} {' '.join(platform.libc_ver())}".strip(),
        "processor": processor(),
        "instruction sets": instruction_sets(),
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # numba, where it has no wheel
        return "none"


def differences(there: Mapping[str, str | int], here: Mapping[str, str | int]) -> list[str]:
    """What is not equal of two machines, each in a few words: "torch 2.12.0, here 2.13.0"."""
    names = [name for name in dict.fromkeys([*there, *here]) if there.get(name) != here.get(name)]
    lines = [
        f"{name[:SHOWN]} {_shown(there.get(name, 'unknown'))}, here {_shown(here.get(name, 'unknown'))}"
        for name in names[:MAX_LISTED]
    ]
    return [*lines, f"and {len(names) - MAX_LISTED} more"] if len(names) > MAX_LISTED else lines


def _shown(value: str | int) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"…{text[1 - SHOWN :]}"
