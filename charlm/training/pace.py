"""Budgets of time into steps: how many steps fit is measured while they are made, and corrected as the pace changes."""

import time

from charlm.threads import ThreadTuner
from charlm.training.budget import MEASURED_SHARES, Budget
from charlm.training.distributed import World
from charlm.training.state import Counters

UNMEASURED_STEPS = 2  # the first ones are slower than the rest
MIN_MEASURED_STEPS = 5
MIN_STEP_SECONDS = 1e-6  # what a step is taken to last where the clock has not moved
LATE_SHARE = 0.02  # of a budget of time; a run that is expected to end later than that is shortened
RECENT_SMOOTHING = 0.8  # of the seconds per step, from step to step
MAX_VALIDATION_SHARE = 0.25  # of a budget of time; a validation reads fewer tokens where it would take more


class Pace:
    """Keeps the clock of a run in its counters and, under a budget of time, sets `counters.steps` by it.

    The steps are set at each of `MEASURED_SHARES` of the budget and reduced whenever the run is late. With any other
    budget the number of steps is known from the start and stays as it is.
    """

    def __init__(
        self, budget: Budget, counters: Counters, reserved: float, tuner: ThreadTuner | None, world: World
    ) -> None:
        self.budget, self.counters, self.tuner, self.world = budget, counters, tuner, world
        self.reserved = (
            reserved  # seconds of the budget for tuning a mixture's gates, before the slice joins or at the end
        )
        self._start = 0.0  # when the run would have begun had it never been interrupted, by the monotonic clock
        self._step_seconds = 0.0  # in total, of the `_steps` made since then
        self._steps = 0
        self._recent = 0.0  # seconds per step, of the last few

    def start(self) -> None:
        """Start the clock, or go on from the seconds that the counters have."""
        self._start = time.monotonic() - self.counters.seconds

    def read_clock(self) -> float:
        """Seconds of training until now, which the counters get."""
        (self.counters.seconds,) = self.world.of_main(time.monotonic() - self._start)
        return self.counters.seconds

    def record_step(self, begin: float) -> None:
        """Read the clock after a step, which the counters have just counted; it began at `begin`."""
        c, now = self.counters, time.monotonic()
        c.seconds, seconds = self.world.of_main(now - self._start, now - begin)
        self._step_seconds, self._steps = self._step_seconds + seconds, self._steps + 1
        if c.step - c.begun > UNMEASURED_STEPS:
            self._recent = (
                RECENT_SMOOTHING * self._recent + (1 - RECENT_SMOOTHING) * seconds if self._recent else seconds
            )
            if self.tuner:
                self.tuner.record(seconds)
        if c.step - c.begun == UNMEASURED_STEPS:
            c.measured_step, c.measured_from = c.step, c.seconds

    def seconds_left(self) -> float:
        """What is left of a budget of time, without the seconds that are reserved."""
        c = self.counters
        return self.budget.amount - c.seconds - (self.reserved if c.joined is None else 0.0)

    def measurement_due(self) -> bool:
        """Whether to measure the pace now."""
        c = self.counters
        if self.budget.seconds is None or c.measured == len(MEASURED_SHARES) or c.step == c.steps:
            return False
        due = c.prepared + MEASURED_SHARES[c.measured] * (self.budget.seconds - c.prepared)
        enough = c.step >= max(UNMEASURED_STEPS, c.measured_step) + MIN_MEASURED_STEPS and c.seconds >= due
        return enough or (c.steps is None and c.seconds >= self.budget.seconds)

    def seconds_per_step(self) -> float:
        """The mean since the last measurement."""
        c = self.counters
        return max(MIN_STEP_SECONDS, (c.seconds - c.measured_from) / max(1, c.step - c.measured_step))

    def allot_validations(self, seconds: float) -> float:
        """What all full validations together may take of the `seconds` that they need; the counters get the share."""
        self.read_clock()
        allotted = min(seconds, max(0.0, MAX_VALIDATION_SHARE * self.seconds_left()))
        self.counters.validated = allotted / seconds if seconds else 1.0
        return allotted

    def fit_steps(self, seconds_per_step: float, validation_seconds: float) -> None:
        """Set the number of steps to what fits into the budget; the learning-rate schedule follows it."""
        c = self.counters
        c.steps = c.step + max(0, int((self.seconds_left() - validation_seconds) / seconds_per_step))
        (now,) = self.world.of_main(time.monotonic() - self._start)
        c.measured, c.measured_step, c.measured_from = c.measured + 1, c.step, now

    def late(self) -> bool:
        """Whether the steps to come take longer than a budget of time has left, at the pace of the last few."""
        c = self.counters
        if self.budget.seconds is None or c.steps is None:
            return False
        return (c.steps - c.step) * self._recent > self.seconds_left() + LATE_SHARE * self.budget.seconds

    def shorten(self) -> None:
        """Reduce the number of steps to what a budget of time has room for at the pace of the last few."""
        c = self.counters
        c.steps = c.step + max(0, int(self.seconds_left() / max(MIN_STEP_SECONDS, self._recent)))

    def resume_after_pause(self) -> None:
        """Set the steps for what a budget of time has left after work that was not a step."""
        c, seconds = self.counters, self.read_clock()
        if self.budget.seconds is not None:
            per_step = max(MIN_STEP_SECONDS, self._step_seconds / max(1, self._steps))
            c.steps = c.step + max(0, int((self.budget.seconds - seconds) / per_step))
            c.measured_step, c.measured_from = c.step, seconds  # the pause is no part of a step
