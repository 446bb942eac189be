"""Engines, which read a trained model token by token."""

from charlm.inference.background import compile_in_background
from charlm.inference.eager import EagerEngine
from charlm.inference.engine import Engine, EngineState, LogProbs, Tokens, reading
from charlm.inference.opening import BACKENDS, as_engine, backend_of, open_engine, uncompiled

__all__ = [
    "BACKENDS",
    "EagerEngine",
    "Engine",
    "EngineState",
    "LogProbs",
    "Tokens",
    "as_engine",
    "backend_of",
    "compile_in_background",
    "open_engine",
    "reading",
    "uncompiled",
]
