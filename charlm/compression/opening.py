"""Which predictor codes by a model, with how many threads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from charlm.compression.portable import BACKEND, IntegerNGram
from charlm.compression.predictors import EnginePredictor, Predictor
from charlm.errors import UsageError
from charlm.inference import BACKENDS, open_engine
from charlm.models import LanguageModel, adapted

PREDICTORS = (*BACKENDS, BACKEND)
"""What can be asked for: the backends of engines, and integers."""


@contextmanager
def opened(
    model: LanguageModel, backend: str = "auto", threads: int = 1, adapt: str | None = None
) -> Iterator[Predictor]:
    """The predictor of a model with this adaptation, while torch computes with so many threads.

    Raises UsageError for a backend or an adaptation that this model or machine cannot have, or more threads than it has
    cores.
    """
    cores = os.cpu_count() or 1
    if threads > cores:
        raise UsageError(f"{threads} threads are more than this machine has cores: {cores}")
    model = adapted(model, adapt)
    if backend == BACKEND:
        if adapt not in (None, "none"):
            raise UsageError(
                f"{adapt}: does not go with backend {BACKEND}, which stays as it is; leave it out", "adapt"
            )
        yield IntegerNGram(model)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield EnginePredictor(open_engine(model, backend))
    finally:
        torch.set_num_threads(before)
