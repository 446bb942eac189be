"""Reading token by token: engines, which every reader of a model that no longer changes stands on."""

from charlm.inference.eager import EagerEngine
from charlm.inference.engine import Engine, EngineState, LogProbs, Tokens, reading
from charlm.inference.opening import BACKENDS, open_engine

__all__ = ["BACKENDS", "EagerEngine", "Engine", "EngineState", "LogProbs", "Tokens", "open_engine", "reading"]
