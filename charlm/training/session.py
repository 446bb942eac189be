"""One stretch of training by gradients, up to its end or an interruption: what it saves, and when."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from charlm import checkpoint
from charlm.config import Settings, option_name
from charlm.decoding import Sampling, sample
from charlm.errors import CharlmError, TrainingFault
from charlm.memory import physical_memory, ran_out
from charlm.models import CountingModel, LanguageModel, Network
from charlm.tokenizers import Tokenizer
from charlm.training.budget import Budget
from charlm.training.counters import Progress
from charlm.training.loop import Stopped, Trainer
from charlm.training.settings import TrainingConfig

SAVE_SECONDS = 60.0  # where nothing else is asked for
SAVE_SHARE = 0.01  # of the time, at most, then goes into saving
SAMPLE_CHARACTERS = 80
METRICS_LINES = 500  # over a run, besides those with a validation
BYTES_PER_PARAMETER = 20  # float32: the weight, its gradient, two averages of it, and the best weight so far
SIZE_SETTINGS = ("width", "layers", "embedding", "window", "order")  # of an architecture: what memory depends on


class Unsaved(KeyboardInterrupt):
    """The watcher asked for an end before there was anything to save."""


@dataclass(frozen=True)
class Watcher:
    """Who is told of a run: its progress, what is counted or encoded, a sample as it learns; and who may stop it."""

    progress: Callable[[Progress], None] = lambda _: None
    stage: Callable[[str, float], None] = lambda _what, _done: None
    sample: Callable[[str], None] | None = None
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Trained:
    """How a run ended: its folder, whether it came to the end of its budget, and the seconds that training took."""

    path: Path
    model: LanguageModel
    finished: bool
    seconds: float


@dataclass
class Session:
    """Trains, reports, and saves: after the first step, then every so often, and at the end, whatever the end is."""

    path: Path
    tokenizer: Tokenizer
    architecture: str
    model: Network
    trainer: Trainer
    about: Mapping[str, Any]
    watcher: Watcher
    due: float = -math.inf  # when to save next, by the monotonic clock
    written: int = -1

    def run(self) -> Trained:
        """Train to the end of the budget, or until the watcher says stop: then all is saved that `resume` needs.

        Raises TrainingFault when the numbers go wrong, with the last good weights saved.
        """
        checkpoint.keep_metrics(self.path, self.trainer.counters.step)
        if self.trainer.counters.step:
            self._wait(0.0)
        try:
            self.trainer.run(self._report, self.watcher.should_stop, self._look)
        except Stopped:
            self._save(finished=False)
            return self._trained(False)
        except TrainingFault as fault:
            raise self._explained(fault) from None
        self._save(finished=True)
        return self._trained(True)

    def _trained(self, finished: bool) -> Trained:
        return Trained(self.path, self.model.cpu().eval(), finished, self.trainer.counters.seconds)

    def _report(self, progress: Progress) -> None:
        if time.monotonic() >= self.due:
            self._save(finished=False)
        every = max(1, (progress.steps or 1) // METRICS_LINES)
        if progress.validation is not None or progress.step // every != self.written:
            self.written = progress.step // every
            checkpoint.add_metrics(self.path, asdict(progress))
        self.watcher.progress(progress)

    def _look(self, network: Network) -> None:
        if self.watcher.sample is not None:
            generator = torch.Generator().manual_seed(self.trainer.config.seed)
            drawn = sample(
                network,
                self.tokenizer,
                "\n",
                length=SAMPLE_CHARACTERS,
                settings=Sampling(temperature=0.8),
                generator=generator,
            )
            self.watcher.sample(drawn[0])

    def _save(self, *, finished: bool) -> None:
        """Save the best weights so far, and unless finished all that `resume` needs.

        Raises TrainingFault, with the last save as it was, for weights that are not finite.
        """
        trainer, began = self.trainer, time.monotonic()
        if not all(weight.isfinite().all() for weight in self.model.parameters()):
            raise trainer.fault("weights", "are")
        tensors = None if finished else trainer.tensors()
        last = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        if trainer.best_weights is not None and trainer.counters.joined is None:
            self.model.load_state_dict(trainer.best_weights)
        progress = {"finished": finished, **asdict(trainer.counters)}
        about = {**self.about, "training": trainer.config.to_json(), "progress": progress}
        try:
            checkpoint.save(self.path, self.architecture, self.model, self.tokenizer, about, tensors)
        except CharlmError as problem:
            advice = f"\nmend that, then go on with charlm train --resume {self.path}" if self._resumable() else ""
            raise CharlmError(f"{problem}{advice}") from None
        if not finished:
            self.model.load_state_dict(last)
        self._wait(time.monotonic() - began)

    def _wait(self, cost: float) -> None:
        """Put the next save off by as long as was asked for; if nothing was, also until this one's cost is small."""
        asked = self.trainer.config.save_every
        wait = max(SAVE_SECONDS, cost / SAVE_SHARE) if asked == "auto" else Budget.parse(asked).amount
        self.due = time.monotonic() + wait

    def _resumable(self) -> bool:
        """Whether there is a save of this run to go on from."""
        return self.due > -math.inf

    def _explained(self, fault: TrainingFault) -> TrainingFault:
        """The fault, the weights from before it saved if they are any good, and where they are."""
        try:
            self._save(finished=False)
        except TrainingFault:
            if not self._resumable():
                return TrainingFault(f"{fault}\nnothing is saved")
        return TrainingFault(f"{fault}\nsaved in {self.path}; with that, --from {self.path} goes on from its weights")


@contextmanager
def enough_memory(training: TrainingConfig, config: Settings) -> Iterator[None]:
    """Say which settings to change when memory runs out: CharlmError instead of whatever the system raised."""
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
        if ran_out(problem):
            raise out_of_memory("out of memory", training, config) from None
        raise


def out_of_memory(what: str, training: TrainingConfig, config: Settings) -> CharlmError:
    """The error that names each setting that takes memory, and its value, and offers half of the easiest."""
    sizes = config.to_json()
    batch, segment = training.batch or 1, training.segment or 1
    given = {"batch": batch, "segment": segment, **{n: sizes[n] for n in SIZE_SETTINGS if sizes.get(n) is not None}}
    said = ", ".join(f"{option_name(name)} {value}" for name, value in given.items())
    return CharlmError(f"{what} with {said}\ntry --batch {max(1, batch // 2)}, or less of the others; or --size small")


def check_size(kind: type[LanguageModel], config: Settings, vocab_size: int, training: TrainingConfig) -> None:
    """Raises CharlmError for a network that cannot be trained in this machine's memory, before it takes any."""
    if issubclass(kind, CountingModel):
        return
    try:
        with torch.device("meta"):
            needed = BYTES_PER_PARAMETER * kind(config, vocab_size).parameters_count
    except (RuntimeError, TypeError, OverflowError):
        raise out_of_memory("no machine has memory enough for a network", training, config) from None
    if needed > (there := physical_memory()):
        what = f"training this network takes {needed / 1e9:,.1f} GB and this machine has {there / 1e9:,.1f} GB"
        raise out_of_memory(f"{what}:", training, config)
