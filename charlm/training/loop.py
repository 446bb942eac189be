"""The training loop: parallel streams in segments, state carried along, one optimizer step a segment."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from charlm.corpus import blocks
from charlm.errors import UsageError
from charlm.models import LanguageModel, State
from charlm.threads import ThreadTuner
from charlm.training.budget import MEASURED_SHARES, Budget
from charlm.training.distributed import World
from charlm.training.mixture import MixtureTuning
from charlm.training.observer import Progress, TrainingObserver
from charlm.training.pace import Pace
from charlm.training.schedule import rate
from charlm.training.settings import TrainingConfig
from charlm.training.state import Counters, load_random_state, load_tensors, state_tensors
from charlm.training.step import OptimizerStep, not_finite
from charlm.training.streams import Ids, Streams
from charlm.training.validation import Validation

REPORT_SECONDS = 0.25
UNKNOWN_STEPS = 10**9  # while a budget of time is not yet measured: the schedule is at its beginning
DIVERGED_NATS = 2.0  # per token above guessing evenly: weights from there on are not worth saving
LOSS_SMOOTHING = 0.98  # of the training loss that is reported: a running mean. At first its weights are 4 / (t + 3),
AVERAGING = 4  # polynomial-decay averaging (Shamir & Zhang 2013): the last 1/4 of the steps, without bias at the start


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """The observer asked for an end; the trainer stands between two steps."""


class Trainer:
    """Trains one network by gradient descent; `tensors()` and `counters` have everything that a resumed run needs.

    The validation slice is the text nearest to whatever comes next, so it is not wasted: half-way through it joins the
    training text (`config.join`), and there is no more validation. A network that has begun to over-fit by then goes
    back to its best weights and learns for as many steps as those took, at the falling rate: half as many, or twice,
    gave 1 and 4 % more bits on a text of 200 KB, and to go on apart from the slice 11 %.
    """

    def __init__(
        self,
        model: LanguageModel,
        ids: Ids,
        validation_ids: Ids,
        config: TrainingConfig,
        characters_per_token: float = 1.0,
        tuner: ThreadTuner | None = None,
        mixture: MixtureTuning | None = None,
        world: World | None = None,
    ) -> None:
        assert config.batch is not None, "`plan.complete` fills in what is open"
        assert config.segment is not None
        self.model, self.config, self.mixture = model, config, mixture
        self.world = world = world or World()
        self.characters_per_token = characters_per_token  # of the training text, to report in characters
        segment = max(config.segment, model.min_segment)
        batch = max(1, min(config.batch, len(ids) // segment))
        if batch < world.size:
            raise UsageError(f"{batch} streams of text cannot be shared among {world.size} processes", "batch")
        self.streams = Streams(ids, batch, min(segment, len(ids)), config.seed)
        self.joins = config.join and not isinstance(ids, np.memmap)  # a text as long as that can spare the slice
        joined_ids = np.concatenate([ids, validation_ids]) if self.joins else ids
        self.joined_streams = replace(self.streams, ids=joined_ids)
        self.step = OptimizerStep(model, config, batch, world)
        self.token_counts = torch.from_numpy(_counts(joined_ids, model.vocab_size)).to(self.step.device)
        self.uniform_nats = math.log(max(1, int((self.token_counts > 0).sum())))  # per token, of guessing evenly
        self.state = self._initial_state()
        budget, prepared = Budget.parse(config.budget), mixture.seconds if mixture else 0.0
        steps = budget.steps(batch * self.streams.segment_length, len(ids))
        self.counters = Counters(steps=steps, seconds=prepared, prepared=prepared)
        self.pace = Pace(budget, self.counters, mixture.reserved(budget) if mixture else 0.0, tuner, world)
        self.validation = Validation(self.step, validation_ids, config, self.counters)
        self._losses: list[float] = []  # nats per token, of the steps since the last progress

    def expect_frequencies(self, *, anew: bool) -> None:
        """Tell the model how often each id occurs (see `LanguageModel.expect`); `anew`: it has learned nothing yet."""
        for network in (self.model, self.step.network):
            network.expect(self.token_counts, anew=anew)

    def run(self, observer: TrainingObserver | None = None) -> None:
        """Train to the end of the budget. The model then holds the weights that did best on the validation slice.

        Raises TrainingFault when the numbers go wrong, and Stopped, with all counters and weights as they stand
        between two steps, when the observer says so. The gates of a mixture are tuned once: just before the network
        learns from the validation slice, or at the end.
        """
        observer, reported = observer or TrainingObserver(), -math.inf
        self.pace.start()
        self.step.network.learn_only(self.token_counts)
        while not self._done():
            if self.world.any(observer.should_stop()):
                raise Stopped
            self._step()
            self._adjust_pace(observer)
            if self.validation.due():
                progress = self._validate(observer)
                if self.joins and self.validation.join_due():
                    self._join()
                observer.on_progress(progress)  # last: it may save, so all that this step decides must be decided
            elif self.counters.seconds - reported > REPORT_SECONDS:
                reported = self.counters.seconds
                observer.on_progress(self._progress(None))
        if self.counters.joined is None:
            self.validation.restore_best()
            if self.mixture:
                self.mixture.tune()
                self.pace.read_clock()

    def _done(self) -> bool:
        c = self.counters
        return self.validation.out_of_patience() or (c.steps is not None and c.step >= c.steps)

    def _step(self) -> None:
        """One optimizer step on the next segment."""
        c, begin = self.counters, time.monotonic()
        steps = c.steps or UNKNOWN_STEPS
        self.step.set_learning_rate(rate(self.config.schedule, c.step - c.begun, steps - c.begun))
        streams = self.streams if c.joined is None else self.joined_streams
        position = c.step - (c.joined or 0)  # in these streams
        tokens, targets = streams.segment(position)
        if not self.step.network.carries_state or streams.starts_afresh(position):
            self.state = self._initial_state()
        nats, self.state = self.step.take(c.step + 1, tokens, targets, self.state)
        c.training += max(1 - LOSS_SMOOTHING, AVERAGING / (c.step + AVERAGING)) * (nats - c.training)
        self._losses.append(nats)
        c.step += 1
        self.pace.record_step(begin)

    def _initial_state(self) -> State:
        """That of this rank's streams."""
        rows = self.step.rows
        return self.step.network.initial_state(rows.stop - rows.start)

    def _adjust_pace(self, observer: TrainingObserver) -> None:
        """Under a budget of time, set or correct the number of steps where that is due."""
        if self.pace.measurement_due():
            per_step, validating = self.pace.seconds_per_step(), 0.0
            if not self.counters.measured and self.counters.joined is None:  # no validation has been made yet
                validating = self.pace.allot_validations(self.validation.estimated_seconds(observer))
            self.pace.fit_steps(per_step, validating)
        elif self.pace.late():
            self.pace.shorten()

    def _validate(self, observer: TrainingObserver) -> Progress:
        self.step.align()
        nats = self.validation.loss()
        if not math.isfinite(nats):
            raise not_finite("validation loss", self.counters.step + 1, self.config)
        observer.on_validation(self.step.network)
        self.validation.record(nats)
        self.pace.read_clock()
        return self._progress(nats)

    def _join(self) -> None:
        """Learn from the validation slice, too; after over-fitting from the best weights on, as long as they took."""
        c = self.counters
        over_fits = c.since_best > 0
        if over_fits:
            self.validation.restore_best()
        c.joined = c.step
        if self.mixture:
            self.mixture.tune()
            self.pace.resume_after_pause()
        if over_fits and c.steps is not None:
            c.steps, c.measured = min(c.steps, c.step + c.best_step), len(MEASURED_SHARES)

    def _progress(self, validation_nats: float | None) -> Progress:
        c, bits = self.counters, self.bits_per_nat
        per_step = (c.seconds - c.prepared) / max(1, c.step - c.begun)
        characters = c.step * self.streams.batch * self.streams.segment_length * self.characters_per_token
        losses, self._losses = self._losses, []
        return Progress(
            step=c.step,
            steps=c.steps,
            seconds=c.seconds,
            seconds_left=None if c.steps is None else per_step * (c.steps - c.step),
            characters_per_second=characters / max(c.seconds, 1e-9),
            learning_rate=self.step.optimizers[0].param_groups[0]["lr"],
            training=c.training * bits,
            validation=None if validation_nats is None else validation_nats * bits,
            best=None if c.best is None else c.best * bits,
            loss=fmean(losses) * bits if losses else None,
        )

    @property
    def bits_per_nat(self) -> float:
        """What one nat per token is in bits per character."""
        return 1 / (math.log(2) * self.characters_per_token)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that change as training goes on, for `resume`; see `state_tensors`."""
        return state_tensors(self.step, self.world.gather(self.state, self.streams.batch))

    def resume(self, tensors: Mapping[str, Tensor], counters: Counters, best: dict[str, Tensor]) -> None:
        """Go on from `tensors()` and `counters` of an earlier trainer over the same text; `best` its best weights.

        Raises one of many errors for tensors that no such trainer can have had.
        """
        self.counters.replace_by(counters)
        if counters.best is not None:
            self.validation.best_weights = best
        state = load_tensors(self.step, tensors, self.state)
        if any(len(leaf) != self.streams.batch for leaf in state):
            raise ValueError("the state is not that of so many streams")
        self.state = tuple(leaf[self.step.rows] for leaf in state)
        self.loss()  # raises for a state that does not fit
        load_random_state(tensors, self.step.device)

    def extend(self, counters: Counters) -> None:
        """Go on with a finished run, whose weights the model has, under `Counters.extended`; see `resume`.

        The optimizer starts afresh, and the learning rate rises once more.
        """
        self.counters.replace_by(counters)
        if counters.best is not None and counters.joined is None:
            self.validation.keep_weights()

    @torch.inference_mode()
    def loss(self) -> float:
        """Nats per token of a segment of the training text with the weights as they are; nan if they are not finite."""
        if not all(weight.isfinite().all() for weight in self.model.parameters()):
            return math.nan
        device, rows = self.step.device, self.step.rows
        tokens, targets = (ids[rows].to(device) for ids in self.streams.segment(self.counters.step))
        log_probs, _ = self.step.network.eval().score(tokens, targets, self.state)
        return self.world.total(-log_probs.double().mean().item() * self.step.share)[0]

    def worth_saving(self, nats: float | None) -> bool:
        """Whether weights of this loss are: not where there is none (None), nor after the loss has diverged."""
        return nats is not None and nats <= self.uniform_nats + DIVERGED_NATS


def _counts(ids: Ids, vocab_size: int) -> Ids:
    """How often each id occurs, (V,) int64."""
    counts = np.zeros(vocab_size, np.int64)
    for block in blocks(ids):
        counts += np.bincount(block, minlength=vocab_size)
    return counts
