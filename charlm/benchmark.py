"""How fast each architecture is on this machine: training, scoring, sampling, searching; in characters a second."""

import math
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from charlm import __version__
from charlm.corpus import Split, open_corpus, split
from charlm.decoding import beam_search, sample
from charlm.evaluation import evaluate
from charlm.inference import open_engine
from charlm.machine import numba_version, processor
from charlm.models import ARCHITECTURES, CountingModel, LanguageModel
from charlm.progress import Listener, silent
from charlm.tokenizers import TOKENIZERS, Tokenizer
from charlm.training import Budget, Progress, TrainingConfig, TrainingObserver, complete, model_config, speed, train
from charlm.training.computing import bfloat16_reason, compute_type

CORPUS = "builtin:python-reference"
ENDLESS = "1000000000steps"  # the clock ends it
WARM_STEPS = 3  # of training, slower than the rest
STREAMS, BEAMS = 64, 5
LENGTH, LENGTH_OF_MANY, LENGTH_OF_BEAMS = 1000, 250, 100  # characters of a text that is drawn or searched
SCORED = 20_000  # characters


@dataclass(frozen=True)
class Speeds:
    """Of one architecture, in characters a second; `sampling_many` of `STREAMS` texts together, `beam` of one text."""

    architecture: str
    parameters: int
    training: float
    scoring: float
    sampling: float
    sampling_many: float
    beam: float


def machine(device: torch.device) -> dict[str, Any]:
    """What was measured on."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bfloat16": bfloat16_reason()[1],
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "training_precision": str(compute_type("auto", device)).removeprefix("torch."),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numba": numba_version(),
        "charlm": __version__,
    }


def benchmark(
    architectures: Iterable[str],
    *,
    size: str,
    seconds: float,
    device: torch.device,
    progress: Listener = silent,
) -> Iterator[Speeds]:
    """The speeds of each architecture, about `seconds` for each of the five; `progress` is told (what, fraction done).

    The text is `CORPUS`; a counting model counts all of it, however long that takes. Drawing and searching include
    the reading of a prompt of one character.
    """
    names = list(architectures)
    parts = split(open_corpus([CORPUS]))
    kind = TOKENIZERS["characters"]
    tokenizer = kind.train(parts.training.chunks(), kind.Config())
    for number, name in enumerate(names):

        def told(what: str, done: float, name: str = name, number: int = number) -> None:
            progress(f"{name}: {what}", (number + done) / len(names))

        told("training", 0.0)
        model, training = _trained(name, size, seconds, parts, tokenizer, device)
        yield Speeds(
            name, model.parameters_count, training, **_speeds(model.to(device), tokenizer, parts, seconds, told)
        )


class _UntilSeconds(TrainingObserver):
    """Stops a run when it has trained for so many seconds after its first steps."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.marks: list[Progress] = []  # without the first steps

    @override
    def on_progress(self, progress: Progress) -> None:
        if progress.step >= WARM_STEPS:
            self.marks.append(progress)

    @override
    def should_stop(self) -> bool:
        return len(self.marks) > 1 and self.marks[-1].seconds - self.marks[0].seconds >= self.seconds


def _trained(
    name: str, size: str, seconds: float, parts: Split, tokenizer: Tokenizer, device: torch.device
) -> tuple[LanguageModel, float]:
    """A model that has learned for a while, and how fast it did."""
    counting = issubclass(ARCHITECTURES[name], CountingModel)
    observer = _UntilSeconds(math.inf if counting else seconds)
    usual = TrainingConfig()
    pace = speed(usual.precision, device)
    config = model_config(name, size, {}, parts.training.characters, Budget.parse(usual.budget), pace)
    training = complete(TrainingConfig(budget=ENDLESS), name)
    with tempfile.TemporaryDirectory() as folder:
        trained = train(Path(folder), parts, tokenizer, name, config, training, device=device, observer=observer)
    if counting:
        return trained.model, parts.training.characters / trained.seconds
    first, last = observer.marks[0], observer.marks[-1]
    learned = last.characters_per_second * last.seconds - first.characters_per_second * first.seconds
    return trained.model, learned / (last.seconds - first.seconds)


def _speeds(
    model: LanguageModel, tokenizer: Tokenizer, parts: Split, seconds: float, told: Listener
) -> Mapping[str, float]:
    text, draws = parts.held_out.slice(0, SCORED), torch.Generator().manual_seed(0)
    engine = open_engine(model)

    def draw(length: int, streams: int) -> int:
        sample(engine, tokenizer, "\n", length=length, streams=streams, generator=draws)
        return length * streams

    def search() -> int:
        beam_search(engine, tokenizer, "\n", length=LENGTH_OF_BEAMS, beams=BEAMS)
        return LENGTH_OF_BEAMS

    work: dict[str, Callable[[], int]] = {
        "scoring": lambda: evaluate(model, tokenizer, text).characters,
        "sampling": lambda: draw(LENGTH, 1),
        "sampling_many": lambda: draw(LENGTH_OF_MANY, STREAMS),
        "beam": search,
    }
    rates = {}
    for number, (name, function) in enumerate(work.items(), 1):
        told(name.replace("_", " "), number / (len(work) + 1))
        rates[name] = _rate(function, seconds)
    return rates


def _rate(work: Callable[[], int], seconds: float) -> float:
    """Characters a second of work that is done again and again for `seconds`, once before the clock starts."""
    work()
    begin, characters = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begin) < seconds or not characters:
        characters += work()
    return characters / elapsed
