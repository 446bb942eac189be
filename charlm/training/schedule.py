"""Learning-rate schedules: how the rate falls over a run, as a share of its highest value."""

import math
from collections.abc import Callable

WARMUP_STEPS = 50
STABLE = 0.3  # warmup-stable-decay holds the rate for this share of the run

SCHEDULES: dict[str, Callable[[float], float]] = {
    "warmup-stable-decay": lambda done: min(1.0, (1.0 - done) / (1.0 - STABLE)),
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 + 0.5 * math.cos(math.pi * done),
    "step": lambda done: 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01,
    "constant": lambda _: 1.0,
}


def rate(schedule: str, step: int, steps: int) -> float:
    """The share of the learning rate for `step` (from 0) of `steps`: linear warm-up, then the schedule, at last 0.

    The warm-up takes 50 steps, or a tenth of a shorter run.
    """
    warmup = min(WARMUP_STEPS, max(1, steps // 10))
    return min(1.0, (step + 1) / warmup) * SCHEDULES[schedule](min(1.0, step / steps))
