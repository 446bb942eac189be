"""Training by gradients up to its end or an interruption: what is saved, and when."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from charlm import checkpoint
from charlm.decoding import Sampling, opening, sample
from charlm.errors import CharlmError, TrainingFault
from charlm.inference import open_engine
from charlm.memory import keeping_freed_memory
from charlm.models import LanguageModel
from charlm.names import code_quoted
from charlm.threads import MachineMeter
from charlm.tokenizers import Tokenizer
from charlm.training.budget import Budget
from charlm.training.distributed import RankLost
from charlm.training.loop import Stopped, Trainer
from charlm.training.observer import Progress, TrainingObserver
from charlm.training.step import advice, not_finite

SAVE_SECONDS = 60.0  # where nothing else is asked for
SAVE_SHARE = 0.01  # of the time, at most, then goes into saving
SAMPLE_CHARACTERS = 80
SAMPLE_TEMPERATURE = 0.8
BUSY_SECONDS = 3.0  # how long the use of the machine is measured before it is judged
METRICS_LINES = 500  # over a run, besides those with a validation


class Unsaved(KeyboardInterrupt):
    """The observer asked for an end before there was anything to save."""


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
class Session(TrainingObserver):
    """Trains, reports, and saves: after the first step, then every so often, and at the end, whatever the end is.

    It observes the trainer and passes on what it is told to the `observer` of the run. Only weights that have proved to
    predict are saved on the way, so a run that goes wrong leaves its last good save, its best weights, or, if it never
    had any, whatever was in its folder before. `model` is what is saved: the network that the trainer trains, or the
    mixture that it is a member of.
    """

    path: Path
    tokenizer: Tokenizer
    architecture: str
    model: LanguageModel
    trainer: Trainer
    history: checkpoint.History
    observer: TrainingObserver
    next_save: float = -math.inf  # by the monotonic clock; before the first save: at once
    metrics_written: int = -1  # how many `METRICS_LINES`-ths of the steps had passed at the last line of metrics
    meter: MachineMeter = field(default_factory=MachineMeter)  # of all of this session
    window: MachineMeter = field(default_factory=MachineMeter)  # of the last few seconds
    busy_noticed: bool = False
    reported: list[Progress] = field(default_factory=list)  # since the last line of metrics
    saved_step: int = 0  # the step of the last save
    unwritten: list[Mapping[str, Any]] = field(default_factory=list)  # metrics from before the first save

    def run(self) -> Trained:
        """Train to the end of the budget, or until the observer says stop: then all is saved that `resume` needs.

        Raises TrainingFault when the numbers go wrong, with the last good weights saved.
        """
        trainer, finished = self.trainer, True
        with self._advising_to_resume():
            if trainer.counters.step:
                self._schedule_save(0.0)
            if trainer.counters.step and trainer.world.is_main:
                checkpoint.keep_metrics(self.path, trainer.counters.step)
            try:
                try:
                    with keeping_freed_memory():
                        trainer.run(self)
                except Stopped:
                    finished = False
                nats = self._loss()
            except TrainingFault as fault:
                raise self._explained(fault) from None
            self._save(finished=finished)
        use = self.meter.use()
        if use.disturbed and not self.busy_noticed:
            self.observer.on_notice(f"the machine was busy while this trained: {use}")
        warning = _warning(trainer, nats) if finished else None
        return Trained(self.path, self.model.cpu().eval(), finished, trainer.counters.seconds, warning)

    def should_stop(self) -> bool:
        """What the observer says."""
        return self.observer.should_stop()

    def on_progress(self, progress: Progress) -> None:
        """Save if that is due, and add to the metrics."""
        self.reported.append(progress)
        (due,) = self.trainer.world.of_main(time.monotonic() >= self.next_save)
        if due and self.trainer.worth_saving(self._loss()):
            self._save(finished=False)
        every = max(1, (progress.steps or 1) // METRICS_LINES)
        if progress.validation is not None or progress.step // every != self.metrics_written:
            self.metrics_written = progress.step // every
            self.unwritten.append({**asdict(progress), "loss": self._mean_loss()})
            self._write_metrics()
        self.observer.on_progress(progress)
        self._watch_machine()

    def on_validation(self, network: LanguageModel) -> None:
        """Draw a sample for the observer if it wants one."""
        self.observer.on_validation(network)
        if self.observer.wants_samples:
            samples = sample(
                open_engine(network, "eager"),  # compiled kernels would copy weights that still change
                self.tokenizer,
                opening(self.tokenizer),
                length=SAMPLE_CHARACTERS,
                settings=Sampling(temperature=SAMPLE_TEMPERATURE),
                generator=torch.Generator().manual_seed(self.trainer.config.seed),
            )
            self.observer.on_sample(samples[0])

    def _loss(self) -> float:
        """The loss of the weights as they are. Raises TrainingFault if it is not finite."""
        if not math.isfinite(nats := self.trainer.loss()):
            raise not_finite("loss", self.trainer.counters.step + 1, self.trainer.config)
        return nats

    @contextmanager
    def _advising_to_resume(self) -> Iterator[None]:
        """Add to the error of a file that cannot be written how to resume, if there is a save to resume from."""
        try:
            yield
        except TrainingFault:
            raise
        except RankLost as problem:
            way_on = f"; `train(resume={code_quoted(self.path)})` goes on from the last save"
            raise RankLost(f"{problem}{way_on if self._resumable() else ''}") from None
        except CharlmError as problem:
            advised = f"; mend that, then `train(resume={code_quoted(self.path)})`" if self._resumable() else ""
            raise CharlmError(f"{problem}{advised}") from None

    def _watch_machine(self) -> None:
        """Say once that the machine is busy, and what that costs."""
        if self.busy_noticed or self.window.seconds < BUSY_SECONDS:
            return
        use, self.window = self.window.use(), MachineMeter()
        if use.disturbed:
            self.busy_noticed = True
            self.observer.on_notice(f"the machine is busy: {use}, on {_threads(torch.get_num_threads())}")

    def _mean_loss(self) -> float | None:
        """The mean loss of what was reported since the last line of metrics; the running mean would lag behind."""
        losses = [progress.loss for progress in self.reported if progress.loss is not None]
        self.reported.clear()
        return fmean(losses) if losses else None

    def _write_metrics(self) -> None:
        """Append the unwritten metrics once there is a save that they belong to."""
        if not self.trainer.world.is_main:
            self.unwritten.clear()
        while self._resumable() and self.unwritten:
            checkpoint.add_metrics(self.path, self.unwritten.pop(0))

    def _save(self, *, finished: bool, faulty: bool = False) -> None:
        """Save the best weights so far, and unless finished all that `resume` needs.

        In a `faulty` run only the best weights are worth it: there is nothing to resume.
        """
        trainer, begin = self.trainer, time.monotonic()
        tensors = None if finished or faulty else trainer.tensors()  # of all ranks, which all come here at one step
        if not trainer.world.is_main:
            self.next_save = begin  # there is a save now; rank 0 says when the next is due
            return
        progress = {"finished": finished, **asdict(trainer.counters)}
        history = replace(
            self.history,
            training=trainer.config.to_json(),
            progress=progress,
            processor_use=self.meter.use().to_json(),
            result=self._result(faulty=faulty),
        )
        best = self._best() if faulty or trainer.counters.joined is None else None
        checkpoint.save(self.path, self.architecture, self.model, self.tokenizer, history, tensors, best)
        if not self._resumable():
            checkpoint.keep_metrics(self.path, 0)  # those of a run that was here before
        self.saved_step = trainer.counters.step
        self._schedule_save(time.monotonic() - begin)
        self._write_metrics()

    def _result(self, *, faulty: bool) -> checkpoint.Result | None:
        """What the validation slice last gave, for the card; as it is there where nothing was measured since.

        In a `faulty` run the best weights are saved, which are those that were measured.
        """
        trainer, c = self.trainer, self.trainer.counters
        nats = c.best
        if self.model is not trainer.model:  # the network's own figure is not that of the mixture
            nats = trainer.mixture.nats_per_token if trainer.mixture else None
        if nats is None:
            earlier = self.history.result
            return earlier if earlier and earlier.text == checkpoint.VALIDATION else None
        bits = nats * trainer.bits_per_nat
        return checkpoint.Result(bits, checkpoint.VALIDATION, before_joining=c.joined is not None and not faulty)

    def _best(self) -> dict[str, Tensor] | None:
        """The weights of the model with the network's best ones; None where none were validated."""
        trainer = self.trainer
        if (best := trainer.validation.best_weights) is None:
            return None
        (prefix,) = (name for name, module in self.model.named_modules() if module is trainer.model)
        return {
            **self.model.state_dict(),
            **{f"{prefix}.{name}".lstrip("."): tensor for name, tensor in best.items()},
        }

    def _schedule_save(self, cost: float) -> None:
        """Put the next save off by as long as was asked for; if nothing was, also until this one's cost is small."""
        asked = self.trainer.config.save_every
        wait = max(SAVE_SECONDS, cost / SAVE_SHARE) if asked == "auto" else Budget.parse(asked).amount
        self.next_save = time.monotonic() + wait

    def _resumable(self) -> bool:
        """Whether there is a save of this run to resume from."""
        return self.next_save > -math.inf

    def _explained(self, fault: TrainingFault) -> TrainingFault:
        """The fault, what is kept of the run, and where that is; better weights than the last save's are saved."""
        c = self.trainer.counters
        if self.trainer.worth_saving(c.best) and self.saved_step < c.best_step:
            self._save(finished=False, faulty=True)
        if not self._resumable():
            before = f"; {self.path} is as it was" if (self.path / checkpoint.CARD).is_file() else ""
            return TrainingFault(f"{fault}\nnothing is saved{before}")
        return TrainingFault(
            f"{fault}\nits good weights from before are saved in {self.path}: train anew, or on from them with "
            f"`train(TEXT, start={code_quoted(self.path)})`"
        )


def _warning(trainer: Trainer, nats: float) -> str | None:
    """What to say of a loss, in nats per token, that guessing evenly beats."""
    if nats <= trainer.uniform_nats:
        return None
    return (
        f"worse than guessing: {nats * trainer.bits_per_nat:.1f} bits per character of the training text, which "
        f"has {trainer.uniform_nats * trainer.bits_per_nat:.1f} if all that occurs in it is equally likely. "
        f"{advice(trainer.config)}"
    )


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"
