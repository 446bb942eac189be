"""The training loop: parallel streams in segments, state carried along, one optimizer step a segment."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean

import numpy as np
import torch
from torch import Tensor, nn

from charlm.corpus import blocks
from charlm.errors import TrainingFault
from charlm.models import LanguageModel, State, detach
from charlm.threads import ThreadTuner
from charlm.training.budget import MEASURED_SHARES, Budget
from charlm.training.computing import compiled, compute_type
from charlm.training.counters import Counters, Progress
from charlm.training.optimizers import DECAYS, build_optimizers, restore
from charlm.training.schedule import rate
from charlm.training.settings import TrainingConfig
from charlm.training.streams import Ids, Streams, parallel

VALIDATIONS = 12  # over a run
VALIDATION_TOKENS = 20_000  # a quick look at places all over the validation slice, not the whole of it
VALIDATION_STREAMS = 20
VALIDATION_SEGMENT = 250  # tokens of each stream at a time
LEAST_VALIDATED = 50  # tokens of each stream
VALIDATING = 0.25  # of a budget of time, at most; a look is at fewer tokens where it would take more
FIRST_STEPS = 2  # are slower than the rest and not measured
MEASURED_STEPS = 5  # at least
MIN_STEP_SECONDS = 1e-6  # what a step is taken to last where the clock has not moved
LATE = 0.02  # of a budget of time; a run that is expected to end later than that is shortened
PACE_SMOOTHING = 0.8  # of the seconds per step, from step to step
REPORT_SECONDS = 0.25
JOIN = 0.5  # of the steps; then the run learns from the validation slice too
OVERFITTED = 2  # validations without a new best
LOST = 2.0  # nats per token above guessing evenly: weights from there on are not worth saving
SMOOTHING = 0.98  # of the training loss that is reported: a running mean, at first over the last 1/4 of the steps only:
RECENT = 4  # weights of 4 / (t + 3), polynomial-decay averaging (Shamir & Zhang 2013), which has no bias at the start


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """`should_stop` asked for an end; the trainer stands between two steps."""


class Trainer:
    """Trains one model by gradient descent; everything that a resumed run needs is in `tensors()` and `counters`.

    The validation slice is the text nearest to whatever comes next, so it is not wasted: half-way through it joins the
    training text (`config.join`), and there is no more validation. A network that has begun to over-fit by then goes
    back to its best weights and learns for as many steps as those took, at the falling rate: half as many, or twice,
    gave 1 and 4 % more bits on a text of 200 KB, and to go on apart from the slice 11 %.

    Weights and optimizer are float32. With bfloat16 a working copy of the network computes, takes its weights from the
    originals after each step and gives them its gradients.
    """

    def __init__(
        self,
        model: LanguageModel,
        ids: Ids,
        validation: Ids,
        config: TrainingConfig,
        characters_per_token: float = 1.0,
        tuner: ThreadTuner | None = None,
    ) -> None:
        assert config.batch is not None, "`plan.complete` fills in what is open"
        assert config.segment is not None
        assert config.optimizer is not None
        assert config.learning_rate is not None
        assert config.weight_decay is not None
        self.model, self.config, self.learning_rate = model, config, config.learning_rate
        self.validation_ids = validation
        self.device = next(model.parameters()).device
        segment = max(config.segment, model.least_segment)
        batch = max(1, min(config.batch, len(ids) // segment))
        self.streams = Streams(ids, batch, min(segment, len(ids)), config.seed)
        self.joins = config.join and not isinstance(ids, np.memmap)  # a text as long as that can spare the slice
        self.all_streams = replace(self.streams, ids=np.concatenate([ids, validation])) if self.joins else self.streams
        kind = compute_type(config.precision, self.device)
        self.working = model if kind == torch.float32 else copy.deepcopy(model).to(kind)
        self.score = compiled(self.working.score) if config.compile else self.working.score
        self.counts = torch.from_numpy(_counts(self.all_streams.ids, model.vocab_size)).to(self.device)
        self.uniform = math.log(max(1, int((self.counts > 0).sum())))  # nats per token of guessing evenly
        self.optimizers = build_optimizers(model, config.optimizer, self.learning_rate, config.weight_decay)
        self.state: State = self.working.initial_state(batch)
        self.best_weights: dict[str, Tensor] | None = None
        self.characters_per_token = characters_per_token  # of the training text, to report in characters
        self.counters = Counters(steps=Budget.parse(config.budget).steps(batch * self.streams.segment_length, len(ids)))
        self.reserved = 0.0  # seconds of the budget for `settle` at the end, which comes sooner if the slice joins
        self._began = self._stepping = 0.0  # the latter: seconds that steps alone took, of which so many were made
        self._made = 0
        self._recent = 0.0  # seconds per step, of the last few
        self.tuner = tuner
        self._losses: list[float] = []  # nats per token, of the steps since the last progress

    def expect_frequencies(self, *, anew: bool) -> None:
        """Tell the model how often each id occurs (see `LanguageModel.expect`); `anew`: it has learned nothing yet."""
        for network in (self.model, self.working):
            network.expect(self.counts, anew=anew)

    def run(
        self,
        report: Callable[[Progress], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
        look: Callable[[LanguageModel], None] = lambda _: None,
        settle: Callable[[], None] | None = None,
    ) -> None:
        """Train to the end of the budget. The model then holds the weights that did best on the validation slice.

        Raises TrainingFault when the numbers go wrong, and Stopped, with all counters and weights as they stand
        between two steps, when `should_stop` says so. `look` is shown the network, in eval mode, after each validation;
        the time it takes is part of the budget. `settle` is called once: just before the network learns from the
        validation slice, or at the end.
        """
        self._began, self._look = time.monotonic() - self.counters.seconds, look
        self.working.learn_only(self.counts)
        reported = -math.inf
        while not self._done():
            if should_stop():
                raise Stopped
            self._step()
            if self._measuring_due():
                self._measure()
            elif self._late():
                self._shorten()
            if self._validation_due():
                progress = self._validate()
                if self.joins and self._past_the_middle() and not 0 < self.counters.since_best < OVERFITTED:
                    self._join(settle)
                report(progress)  # who may save: all that this step decides is decided
            elif self.counters.seconds - reported > REPORT_SECONDS:
                reported = self.counters.seconds
                report(self._progress(None))
        if self.counters.joined is None:
            if self.best_weights is not None:
                self.model.load_state_dict(self.best_weights)
                self.working.load_state_dict(self.best_weights)
            if settle:
                settle()
                self.counters.seconds = time.monotonic() - self._began

    def _join(self, settle: Callable[[], None] | None) -> None:
        """Learn from the validation slice, too; after over-fitting from the best weights on, as long as they took."""
        c, fits = self.counters, not self.counters.since_best
        if not fits and self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
            self.working.load_state_dict(self.best_weights)
        c.joined = c.step
        if settle:
            self._settle(settle)
        if not fits and c.steps is not None:
            c.steps, c.measured = min(c.steps, c.step + c.best_step), len(MEASURED_SHARES)

    def _settle(self, settle: Callable[[], None]) -> None:
        """Let `settle` have its time; of a budget of time, what is left becomes a number of steps anew."""
        settle()
        c, budget = self.counters, Budget.parse(self.config.budget).seconds
        c.seconds = time.monotonic() - self._began
        if budget is not None:
            per_step = max(MIN_STEP_SECONDS, self._stepping / max(1, self._made))
            c.steps = c.step + max(0, int((budget - c.seconds) / per_step))
            c.measured_step, c.measured_from = c.step, c.seconds  # what it took is no time of a step

    def _past_the_middle(self) -> bool:
        """Or as near to it as validations come."""
        steps = self.counters.steps or 10**9
        return self.counters.step >= JOIN * steps - max(1, steps // VALIDATIONS) / 2

    def _step(self) -> None:
        c, working, begun = self.counters, self.working, time.monotonic()
        factor = rate(self.config.schedule, c.step - c.begun, (c.steps or 10**9) - c.begun)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * factor
        streams = self.streams if c.joined is None else self.all_streams
        place = c.step - (c.joined or 0)  # in these streams
        tokens, targets = (ids.to(self.device) for ids in streams.segment(place))
        if not working.carries_state or streams.starts_afresh(place):
            self.state = working.initial_state(self.streams.batch)
        working.train()
        log_probs, state = self.score(tokens, targets, self.state)
        loss = -log_probs.mean()
        torch.autograd.backward(loss)
        self.state = detach(state)
        nats = self._update(loss)
        c.training += max(1 - SMOOTHING, RECENT / (c.step + RECENT)) * (nats - c.training)
        self._losses.append(nats)
        c.step, self._made = c.step + 1, self._made + 1
        c.seconds = time.monotonic() - self._began
        took = time.monotonic() - begun
        self._stepping += took
        if c.step - c.begun > FIRST_STEPS:
            self._recent = PACE_SMOOTHING * self._recent + (1 - PACE_SMOOTHING) * took if self._recent else took
            if self.tuner:
                self.tuner.record(took)
        if c.step - c.begun == FIRST_STEPS:
            c.measured_step, c.measured_from = c.step, c.seconds

    def _update(self, loss: Tensor) -> float:
        """Gradients to the float32 weights, one optimizer step, and back. Returns the loss in nats per token."""
        masters: list[Tensor] = list(self.model.parameters())
        workers: list[Tensor] = list(self.working.parameters())
        if self.working is not self.model:
            for master, worker in zip(masters, workers, strict=True):
                master.grad = None if worker.grad is None else worker.grad.float()
                worker.grad = None
        norm = nn.utils.clip_grad_norm_(masters, self.config.clip or math.inf)
        if not math.isfinite(nats := loss.item()) or not math.isfinite(norm.item()):
            raise self.fault("loss" if not math.isfinite(nats) else "gradient")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if self.working is not self.model:
            with torch.no_grad():
                torch._foreach_copy_(workers, masters)
        return nats

    def fault(self, what: str) -> TrainingFault:
        """The error for numbers that went wrong: what, when, and which setting to change."""
        return TrainingFault(f"the {what} is not finite at step {self.counters.step + 1}. {self.advice()}")

    def advice(self) -> str:
        """Which setting to change when the numbers go wrong."""
        assert self.config.optimizer is not None
        assert self.config.weight_decay is not None
        usual = DECAYS[self.config.optimizer]
        if self.learning_rate * self.config.weight_decay >= 1 > self.learning_rate * usual:  # more than the weight
            return f"Try --weight-decay {usual:g}"
        clip = "" if self.config.clip else " or --clip 1"
        return f"Try --learning-rate {min(self.learning_rate / 3, 3e-3):.1g}{clip}"

    def _measuring_due(self) -> bool:
        c, budget = self.counters, Budget.parse(self.config.budget)
        if budget.seconds is None or c.measured == len(MEASURED_SHARES) or c.step == c.steps:
            return False
        due = c.prepared + MEASURED_SHARES[c.measured] * (budget.seconds - c.prepared)
        enough = c.step >= max(FIRST_STEPS, c.measured_step) + MEASURED_STEPS and c.seconds >= due
        return enough or (c.steps is None and c.seconds >= budget.seconds)

    def _measure(self) -> None:
        """Turn what is left of a budget of time into a number of steps; the schedule is fitted to it."""
        c, given = self.counters, 0.0
        per_step = max(MIN_STEP_SECONDS, (c.seconds - c.measured_from) / max(1, c.step - c.measured_step))
        if not c.measured and c.joined is None:  # the first steps knew no validation
            begun = time.monotonic()
            self._validation_loss(LEAST_VALIDATED)
            whole = (time.monotonic() - begun) * VALIDATION_TOKENS / VALIDATION_STREAMS / LEAST_VALIDATED
            begun = time.monotonic()
            self._look(self.working)
            wanted = (VALIDATIONS + 1) * (whole + time.monotonic() - begun)
            c.seconds = time.monotonic() - self._began
            given = min(wanted, max(0.0, VALIDATING * self._seconds_left()))
            c.validated = given / wanted if wanted else 1.0
        c.steps = c.step + max(0, int((self._seconds_left() - given) / per_step))
        c.measured, c.measured_step, c.measured_from = c.measured + 1, c.step, time.monotonic() - self._began

    def _seconds_left(self) -> float:
        """What is left of a budget of time, without what is set aside for its end."""
        c = self.counters
        return Budget.parse(self.config.budget).amount - c.seconds - (self.reserved if c.joined is None else 0.0)

    def _late(self) -> bool:
        """Whether the steps to come take longer than a budget of time has left, at the pace of the last few."""
        c, budget = self.counters, Budget.parse(self.config.budget).seconds
        if budget is None or c.steps is None:
            return False
        return (c.steps - c.step) * self._recent > self._seconds_left() + LATE * budget

    def _shorten(self) -> None:
        """As many steps as a budget of time still has room for at the pace of the last few."""
        c = self.counters
        c.steps = c.step + max(0, int(self._seconds_left() / max(MIN_STEP_SECONDS, self._recent)))

    def _validation_due(self) -> bool:
        c = self.counters
        if c.steps is None or c.joined is not None:
            return False
        every = max(1, c.steps // VALIDATIONS)
        return c.step == c.steps or (c.step % every == 0 and c.steps - c.step >= every // 2)

    def _validate(self) -> Progress:
        c = self.counters
        nats = self._validation_loss()
        if not math.isfinite(nats):
            raise self.fault("validation loss")
        self._look(self.working)
        improved = c.best is None or nats < c.best
        c.since_best += 1
        if improved:
            c.best, c.best_step, c.since_best = nats, c.step, 0
            self.best_weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        c.seconds = time.monotonic() - self._began
        return self._progress(nats)

    @torch.inference_mode()
    def _validation_loss(self, most: int = VALIDATION_TOKENS) -> float:
        """Nats per token over parts of the validation slice, as parallel streams: quick, close enough to choose by.

        At most `most` tokens of each stream are read.
        """
        working, total, count = self.working.eval(), 0.0, 0
        streams = max(1, min(VALIDATION_STREAMS, len(self.validation_ids) // 100))
        state = working.initial_state(streams)
        most = min(most, int(self.counters.validated * VALIDATION_TOKENS) // streams)
        for tokens, targets in parallel(self.validation_ids, streams, VALIDATION_SEGMENT, max(LEAST_VALIDATED, most)):
            log_probs, state = working.score(tokens.to(self.device), targets.to(self.device), state)
            total, count = total - log_probs.double().sum().item(), count + targets.numel()
        return total / count

    def _done(self) -> bool:
        c = self.counters
        return 0 < self.config.patience <= c.since_best or (c.steps is not None and c.step >= c.steps)

    def _progress(self, validation: float | None) -> Progress:
        c = self.counters
        per_step = (c.seconds - c.prepared) / max(1, c.step - c.begun)
        characters = c.step * self.streams.batch * self.streams.segment_length * self.characters_per_token
        bits = self.bits_per_nat
        losses, self._losses = self._losses, []
        return Progress(
            step=c.step,
            steps=c.steps,
            seconds=c.seconds,
            seconds_left=None if c.steps is None else per_step * (c.steps - c.step),
            characters_per_second=characters / max(c.seconds, 1e-9),
            learning_rate=self.optimizers[0].param_groups[0]["lr"],
            training=c.training * bits,
            validation=None if validation is None else validation * bits,
            best=None if c.best is None else c.best * bits,
            loss=fmean(losses) * bits if losses else None,
        )

    @property
    def bits_per_nat(self) -> float:
        """What one nat per token is in bits per character."""
        return 1 / (math.log(2) * self.characters_per_token)

    def tensors(self) -> dict[str, Tensor]:
        """All that changes as training goes on, for `resume`: weights, optimizers, carried state, random state.

        Not copies: what they hold is as it is now until the next step.
        """
        found = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for number, optimizer in enumerate(self.optimizers):
            for place, values in optimizer.state_dict()["state"].items():
                found |= {f"optimizer.{number}.{place}.{key}": value for key, value in values.items()}
        found |= {f"state.{number}": leaf for number, leaf in enumerate(self.state)}
        found["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            found["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return found

    def resume(self, tensors: dict[str, Tensor], counters: Counters, best: dict[str, Tensor]) -> None:
        """Go on from `tensors()` and `counters` of an earlier trainer over the same text; `best` its best weights.

        Raises one of many errors for tensors that no such trainer can have had.
        """
        self.counters = counters
        if counters.best is not None:
            self.best_weights = best
        self.model.load_state_dict({n[6:]: t for n, t in tensors.items() if n.startswith("model.")})
        if self.working is not self.model:
            self.working.load_state_dict(self.model.state_dict())
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                match name.split("."):
                    case ["optimizer", which, place, key] if int(which) == number:
                        state.setdefault(int(place), {})[key] = tensor
            restore(optimizer, state)
        self.state = tuple(tensors[f"state.{n}"].to(self.device) for n in range(len(self.state)))
        self.loss()  # a state that does not fit is found out before anything is changed
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)

    def extend(self, counters: Counters) -> None:
        """Go on with a finished run, whose weights the model has, under `Counters.extended`; see `resume`.

        The optimizer starts afresh, and the learning rate rises once more.
        """
        self.counters = counters
        if counters.best is not None and counters.joined is None:
            self.best_weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    @torch.inference_mode()
    def loss(self) -> float:
        """Nats per token of a segment of the training text with the weights as they are; nan if they are not finite."""
        if not all(weight.isfinite().all() for weight in self.model.parameters()):
            return math.nan
        tokens, targets = (ids.to(self.device) for ids in self.streams.segment(self.counters.step))
        log_probs, _ = self.working.eval().score(tokens, targets, self.state)
        return -log_probs.double().mean().item()

    def sound(self, nats: float | None) -> bool:
        """Whether weights of this loss are worth saving: none (None) and those that have diverged are not."""
        return nats is not None and nats <= self.uniform + LOST


def _counts(ids: Ids, vocab_size: int) -> Ids:
    """How often each id occurs, (V,) int64."""
    counts = np.zeros(vocab_size, np.int64)
    for block in blocks(ids):
        counts += np.bincount(block, minlength=vocab_size)
    return counts
