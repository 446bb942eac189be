"""Which engine reads a model: decided once, by the model and the machine alone."""

from charlm.errors import UsageError
from charlm.inference.eager import EagerEngine
from charlm.inference.engine import Engine
from charlm.models.base import LanguageModel

BACKENDS = ("auto", "eager", "compiled")


def open_engine(model: LanguageModel, backend: str = "auto") -> Engine:
    """The engine for a model, whose weights must not change while it is used.

    auto is "compiled" where the architecture has kernels, numba is installed and the model is on the CPU, otherwise
    "eager". Raises UsageError for a backend that this model or machine cannot have.
    """
    if backend not in BACKENDS:
        raise UsageError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    return EagerEngine(model)
