"""One stretch of training by gradients, up to its end or an interruption: what it saves, and when."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from charlm import checkpoint
from charlm.config import Settings, option_name
from charlm.decoding import Sampling, opening, sample
from charlm.errors import CharlmError, TrainingFault
from charlm.inference import open_engine
from charlm.memory import keeping_freed_memory, physical_memory, ran_out
from charlm.models import ALL_ARCHITECTURES, LanguageModel
from charlm.names import shell_quoted
from charlm.progress import Listener, silent
from charlm.threads import PROCESSOR_USE, MachineMeter
from charlm.tokenizers import Tokenizer
from charlm.training.budget import Budget
from charlm.training.counters import Progress
from charlm.training.loop import Stopped, Trainer
from charlm.training.mixture import Weighing
from charlm.training.policy import policy_of
from charlm.training.settings import TrainingConfig

SAVE_SECONDS = 60.0  # where nothing else is asked for
SAVE_SHARE = 0.01  # of the time, at most, then goes into saving
SAMPLE_CHARACTERS = 80
BUSY_SECONDS = 3.0  # how long the use of the machine is measured before it is judged
METRICS_LINES = 500  # over a run, besides those with a validation
BYTES_PER_PARAMETER = 20  # float32: the weight, its gradient, two averages of it, and the best weight so far


class Unsaved(KeyboardInterrupt):
    """The watcher asked for an end before there was anything to save."""


@dataclass(frozen=True)
class Watcher:
    """Who is told of a run: its progress, what is counted or encoded, a sample as it learns; and who may stop it.

    `notice` is told in a sentence what the user did not ask for and should know.
    """

    progress: Callable[[Progress], None] = lambda _: None
    stage: Listener = silent
    sample: Callable[[str], None] | None = None
    should_stop: Callable[[], bool] = lambda: False
    notice: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class Trained:
    """How a run ended: its folder, whether it came to the end of its budget, and the seconds that training took.

    `warning` says that what was learned is worse than nothing, and what to change.
    """

    path: Path
    model: LanguageModel
    finished: bool
    seconds: float
    warning: str | None = None


@dataclass
class Session:
    """Trains, reports, and saves: after the first step, then every so often, and at the end, whatever the end is.

    Only weights that have proved to predict are saved on the way, so a run that goes wrong leaves its last good save,
    its best weights, or, if it never had any, whatever was in its folder before.
    `model` is what is saved: the network that the trainer trains, or what it is a part of; for `settle` see `Trainer`.
    """

    path: Path
    tokenizer: Tokenizer
    architecture: str
    model: LanguageModel
    trainer: Trainer
    about: Mapping[str, Any]
    watcher: Watcher
    settle: Weighing | None = None
    due: float = -math.inf  # when to save next, by the monotonic clock
    written: int = -1
    meter: MachineMeter = field(default_factory=MachineMeter)  # of all of this stretch
    window: MachineMeter = field(default_factory=MachineMeter)  # of the last few seconds
    told_busy: bool = False
    reported: list[Progress] = field(default_factory=list)  # since the last line of metrics
    saved_step: int = 0  # the step of the last save
    unwritten: list[Mapping[str, Any]] = field(default_factory=list)  # metrics from before the first save

    def run(self) -> Trained:
        """Train to the end of the budget, or until the watcher says stop: then all is saved that `resume` needs.

        Raises TrainingFault when the numbers go wrong, with the last good weights saved.
        """
        trainer, finished = self.trainer, True
        with self._advising():
            if trainer.counters.step:
                self._wait(0.0)
                checkpoint.keep_metrics(self.path, trainer.counters.step)
            try:
                try:
                    with keeping_freed_memory():
                        trainer.run(self._report, self.watcher.should_stop, self._look, self.settle)
                except Stopped:
                    finished = False
                nats = self._loss()
            except TrainingFault as fault:
                raise self._explained(fault) from None
            self._save(finished=finished)
        use = self.meter.use()
        if use.disturbed and not self.told_busy:
            self.watcher.notice(f"the machine was busy while this trained: {use}")
        warning = self._warning(nats) if finished else None
        return Trained(self.path, self.model.cpu().eval(), finished, trainer.counters.seconds, warning)

    def _loss(self) -> float:
        """The loss of the weights as they are. Raises TrainingFault if it is not finite."""
        if not math.isfinite(nats := self.trainer.loss()):
            raise self.trainer.fault("loss")
        return nats

    def _warning(self, nats: float) -> str | None:
        """What to say of a loss, in nats per token, that guessing evenly beats."""
        trainer, bits = self.trainer, 1 / (math.log(2) * self.trainer.characters_per_token)
        if nats <= trainer.uniform:
            return None
        return (
            f"worse than guessing: {nats * bits:.1f} bits per character of the training text, which has "
            f"{trainer.uniform * bits:.1f} if all that occurs in it is equally likely. {trainer.advice()}"
        )

    @contextmanager
    def _advising(self) -> Iterator[None]:
        """Add to whatever cannot be written how to go on, if there is a save to go on from."""
        try:
            yield
        except TrainingFault:
            raise
        except CharlmError as problem:
            advice = f"; mend that, then charlm train --resume {shell_quoted(self.path)}" if self._resumable() else ""
            raise CharlmError(f"{problem}{advice}") from None

    def _report(self, progress: Progress) -> None:
        self.reported.append(progress)
        if time.monotonic() >= self.due and self.trainer.sound(self._loss()):
            self._save(finished=False)
        every = max(1, (progress.steps or 1) // METRICS_LINES)
        if progress.validation is not None or progress.step // every != self.written:
            self.written = progress.step // every
            self.unwritten.append({**asdict(progress), "loss": self._mean_loss()})
            self._write_metrics()
        self.watcher.progress(progress)
        self._watch_machine()

    def _watch_machine(self) -> None:
        """Say once that the machine is busy, and what that costs."""
        if self.told_busy or self.window.seconds < BUSY_SECONDS:
            return
        use, self.window = self.window.use(), MachineMeter()
        if use.disturbed:
            self.told_busy = True
            self.watcher.notice(f"the machine is busy: {use}, on {_threads(torch.get_num_threads())}")

    def _mean_loss(self) -> float | None:
        """The mean loss of what was reported since the last line of metrics; the running mean would lag behind."""
        losses = [progress.loss for progress in self.reported if progress.loss is not None]
        self.reported.clear()
        return fmean(losses) if losses else None

    def _write_metrics(self) -> None:
        """Append what is unwritten, once there is a save that it belongs to."""
        while self._resumable() and self.unwritten:
            checkpoint.add_metrics(self.path, self.unwritten.pop(0))

    def _look(self, network: LanguageModel) -> None:
        if self.watcher.sample is not None:
            generator = torch.Generator().manual_seed(self.trainer.config.seed)
            drawn = sample(
                open_engine(network, "eager"),  # whose weights still change
                self.tokenizer,
                opening(self.tokenizer),
                length=SAMPLE_CHARACTERS,
                settings=Sampling(temperature=0.8),
                generator=generator,
            )
            self.watcher.sample(drawn[0])

    def _save(self, *, finished: bool, faulty: bool = False) -> None:
        """Save the best weights so far, and unless finished all that `resume` needs.

        In a `faulty` run only the best weights are worth it: there is nothing to resume.
        """
        trainer, began = self.trainer, time.monotonic()
        tensors = None if finished or faulty else trainer.tensors()
        progress = {"finished": finished, **asdict(trainer.counters)}
        use = self.meter.use().to_json()
        about = {**self.about, "training": trainer.config.to_json(), "progress": progress, PROCESSOR_USE: use}
        about |= self._result(faulty=faulty)
        best = self._best() if faulty or trainer.counters.joined is None else None
        checkpoint.save(self.path, self.architecture, self.model, self.tokenizer, about, tensors, best)
        if not self._resumable():
            checkpoint.keep_metrics(self.path, 0)  # those of a run that was here before
        self.saved_step = trainer.counters.step
        self._wait(time.monotonic() - began)
        self._write_metrics()

    def _result(self, *, faulty: bool) -> dict[str, Any]:
        """What the validation slice last gave, for the card; as it is there where nothing was measured since.

        In a `faulty` run the best weights are saved, which are those that were measured.
        """
        trainer, c = self.trainer, self.trainer.counters
        nats = c.best
        if self.model is not trainer.model:  # the network's own figure is not that of the mixture
            nats = self.settle.nats_per_token if self.settle else None
        if nats is None:
            earlier = self.about.get("result")
            still_true = isinstance(earlier, Mapping) and earlier.get("text") == checkpoint.VALIDATION
            return {} if still_true else {"result": None}
        bits = nats * trainer.bits_per_nat
        result = checkpoint.Result(bits, checkpoint.VALIDATION, before_joining=c.joined is not None and not faulty)
        return {"result": result.to_json()}

    def _best(self) -> dict[str, Tensor] | None:
        """The numbers of the model with the network's best weights; None where none were validated."""
        trainer = self.trainer
        if trainer.best_weights is None:
            return None
        (place,) = (name for name, module in self.model.named_modules() if module is trainer.model)
        best = {f"{place}.{name}".lstrip("."): tensor for name, tensor in trainer.best_weights.items()}
        return {**self.model.state_dict(), **best}

    def _wait(self, cost: float) -> None:
        """Put the next save off by as long as was asked for; if nothing was, also until this one's cost is small."""
        asked = self.trainer.config.save_every
        wait = max(SAVE_SECONDS, cost / SAVE_SHARE) if asked == "auto" else Budget.parse(asked).amount
        self.due = time.monotonic() + wait

    def _resumable(self) -> bool:
        """Whether there is a save of this run to go on from."""
        return self.due > -math.inf

    def _explained(self, fault: TrainingFault) -> TrainingFault:
        """The fault, what is kept of the run, and where that is; better weights than the last save's are saved."""
        c = self.trainer.counters
        if self.trainer.sound(c.best) and self.saved_step < c.best_step:
            self._save(finished=False, faulty=True)
        if not self._resumable():
            before = f"; {self.path} is as it was" if (self.path / checkpoint.CARD).is_file() else ""
            return TrainingFault(f"{fault}\nnothing is saved{before}")
        return TrainingFault(
            f"{fault}\nits good weights from before are saved in {self.path}: train anew, or on from them with "
            f"--from {shell_quoted(self.path)}"
        )


@contextmanager
def enough_memory(architecture: str, config: Settings, training: TrainingConfig) -> Iterator[None]:
    """Say which settings to change when memory runs out: CharlmError instead of whatever the system raised."""
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
        if not ran_out(problem):
            raise
        less = f"--batch {max(1, (training.batch or 1) // 2)}, or less of the others"
        raise CharlmError(
            f"out of memory with {_sizes(training, config)}\ntry {less}{_smaller(architecture)}"
        ) from None


def check_size(architecture: str, config: Settings, vocab_size: int, training: TrainingConfig) -> None:
    """Raises CharlmError for a network that cannot be trained in this machine's memory, before it takes any."""
    kind = ALL_ARCHITECTURES[architecture]
    if not kind.by_gradient:
        return
    try:
        with torch.device("meta"):
            needed: float = BYTES_PER_PARAMETER * kind(config, vocab_size).parameters_count
    except (RuntimeError, TypeError, OverflowError):  # beyond what a tensor can have
        needed = math.inf
    if needed > (there := physical_memory()):
        raise CharlmError(
            f"a network of {_sizes(training, config)} takes {needed / 1e9:,.1f} GB to train, "
            f"and this machine has {there / 1e9:,.1f} GB\ntry half of the largest of these{_smaller(architecture)}"
        )


def _smaller(architecture: str) -> str:
    """What else to try, for an architecture that comes in sizes."""
    return ", or --size small" if policy_of(architecture).sizes else ""


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _sizes(training: TrainingConfig, config: Settings) -> str:
    """The settings that memory may depend on, those that are whole numbers, and their values, as they are typed."""
    settings = {"batch": training.batch, "segment": training.segment, **config.to_json()}
    return ", ".join(f"{option_name(name)} {value}" for name, value in settings.items() if type(value) is int)
