"""Opening an engine. Model and machine alone decide which one."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from charlm.config import Settings
from charlm.errors import UsageError
from charlm.inference.eager import EagerEngine
from charlm.inference.engine import Engine
from charlm.inference.mixture import MixtureEngine
from charlm.models.base import LanguageModel, device_of
from charlm.models.contexts import Contexts
from charlm.models.mixture import Mixture, MixtureConfig
from charlm.models.ngram import NGram
from charlm.models.recurrent import GRU, LSTM, RNN
from charlm.models.transformer import Transformer

BACKENDS = ("auto", "eager", "compiled")

COMPILED: dict[type[LanguageModel], tuple[str, str]] = {
    RNN: ("recurrent", "RecurrentEngine"),
    GRU: ("recurrent", "RecurrentEngine"),
    LSTM: ("recurrent", "RecurrentEngine"),
    Transformer: ("transformer", "TransformerEngine"),
    NGram: ("ngram", "NGramEngine"),
}
"""The compiled engine of each architecture that has one: its file in this package, with `kernels_of`, and its class."""


def open_engine(model: LanguageModel, backend: str = "auto") -> Engine:
    """The engine for a model, whose weights must not change while it is used.

    "auto" is "compiled" if the architecture has kernels, numba is installed and has a place for its cache, and the
    model is on the CPU; otherwise "eager". A mixture opens an engine for each member. Raises UsageError if the backend
    is not available for this model on this machine.
    """
    if backend not in BACKENDS:
        raise UsageError(f"must be one of {', '.join(BACKENDS)}, not {backend!r}", "backend")
    if backend == "eager":
        return EagerEngine(model)
    engine = _compiled(model)
    if engine is None and backend == "compiled":
        raise UsageError(f"no compiled backend here for {type(model).__name__} on {device_of(model)}: use eager")
    return engine or EagerEngine(model)


def backend_of(model: LanguageModel) -> str:
    """The backend that "auto" chooses, "compiled" or "eager", if numba works."""
    return "compiled" if _has_kernels(model) else "eager"


def as_engine(model: LanguageModel | Engine) -> Engine:
    """The engine itself, or one for a model."""
    return model if isinstance(model, Engine) else open_engine(model)


def uncompiled(kind: type[LanguageModel], config: Settings) -> list[Any]:
    """The kernels that reading with such a model would have to compile on this machine."""
    if not find_spec("numba"):
        return []
    from charlm.jit import is_compiled

    return [kernel for kernel in _kernels(kind, config) if not is_compiled(kernel)]


def _kernels(kind: type[LanguageModel], config: Settings) -> list[Any]:
    from charlm.inference.kernels import sampling

    if isinstance(config, MixtureConfig):
        return [kernel for member in config.members for kernel in _kernels(member.kind, member.config)]
    if kind is Contexts:
        from charlm.models.contexts import reading

        return [reading.read]
    if kind not in COMPILED:
        return []
    return [*_file(kind).kernels_of(kind, config), sampling.draw]


def _has_kernels(model: LanguageModel) -> bool:
    if isinstance(model, Mixture):
        return any(_has_kernels(member) for member in model.each())
    return type(model) in COMPILED and device_of(model).type == "cpu" and find_spec("numba") is not None


def _file(kind: type[LanguageModel]) -> Any:
    return import_module(f"charlm.inference.{COMPILED[kind][0]}")


def _compiled(model: LanguageModel) -> Engine | None:
    if not _has_kernels(model):
        return None
    if isinstance(model, Mixture):
        return MixtureEngine(model, open_engine)
    kind = type(model)
    try:
        engine: Engine = getattr(_file(kind), COMPILED[kind][1])(model)
    except (ImportError, RuntimeError, OSError):  # numba does not load, or has no place for its cache
        return None
    return engine
