"""The validation slice: the loss on it, the best weights so far, patience, and when it joins the training text."""

import time

import torch
from torch import Tensor

from charlm.training.observer import TrainingObserver
from charlm.training.settings import TrainingConfig
from charlm.training.state import Counters
from charlm.training.step import OptimizerStep
from charlm.training.streams import Ids, parallel

VALIDATIONS_PER_RUN = 12
VALIDATION_TOKENS = 20_000  # a quick look at places all over the validation slice, not the whole of it
VALIDATION_STREAMS = 20
MIN_STREAM_TOKENS = 100  # of the slice per stream; a shorter slice is read as fewer streams
SEGMENT_TOKENS = 250  # of each stream at a time
MIN_VALIDATED_TOKENS = 50  # of each stream
JOIN_SHARE = 0.5  # of the steps; then the network learns from the slice, too
PATIENCE_BEFORE_JOINING = 2  # validations without a new best: the network over-fits


class Validation:
    """Measures the network on the validation slice, at most `VALIDATIONS_PER_RUN` times, and keeps the best weights."""

    def __init__(self, step: OptimizerStep, ids: Ids, config: TrainingConfig, counters: Counters) -> None:
        self.step, self.ids, self.patience, self.counters = step, ids, config.patience, counters
        self.best_weights: dict[str, Tensor] | None = None

    def due(self) -> bool:
        """Whether to validate after the step that was just made."""
        c = self.counters
        if c.steps is None or c.joined is not None:
            return False
        every = self._steps_between(c.steps)
        return c.step == c.steps or (c.step % every == 0 and c.steps - c.step >= every // 2)

    def join_due(self) -> bool:
        """Whether the slice is to join the training text now: half-way, or as near to it as validations come."""
        c = self.counters
        steps = c.steps or 10**9
        half_way = c.step >= JOIN_SHARE * steps - self._steps_between(steps) / 2
        return half_way and not 0 < c.since_best < PATIENCE_BEFORE_JOINING

    def out_of_patience(self) -> bool:
        """Whether the loss has not fallen for as many validations as the user has patience for."""
        return 0 < self.patience <= self.counters.since_best

    @torch.inference_mode()
    def loss(self, max_stream_tokens: int = VALIDATION_TOKENS) -> float:
        """Nats per token over parts of the validation slice, as parallel streams: quick, close enough to choose by.

        At most `max_stream_tokens` of each stream are read.
        """
        network, device, total, count = self.step.network.eval(), self.step.device, 0.0, 0
        streams = max(1, min(VALIDATION_STREAMS, len(self.ids) // MIN_STREAM_TOKENS))
        rows = self.step.world.rows(streams)
        state = network.initial_state(rows.stop - rows.start)
        length = min(max_stream_tokens, int(self.counters.validated * VALIDATION_TOKENS) // streams)
        for tokens, targets in parallel(self.ids, streams, SEGMENT_TOKENS, max(MIN_VALIDATED_TOKENS, length)):
            if rows.start == rows.stop:
                break
            log_probs, state = network.score(tokens[rows].to(device), targets[rows].to(device), state)
            total, count = total - log_probs.double().sum().item(), count + log_probs.numel()
        total, tokens_read = self.step.world.total(total, count)
        return total / tokens_read

    def estimated_seconds(self, observer: TrainingObserver) -> float:
        """What all full validations of a run take, by a short one."""
        begin = time.monotonic()
        self.loss(MIN_VALIDATED_TOKENS)
        full = (time.monotonic() - begin) * VALIDATION_TOKENS / VALIDATION_STREAMS / MIN_VALIDATED_TOKENS
        begin = time.monotonic()
        observer.on_validation(self.step.network)
        (seconds,) = self.step.world.of_main(full + time.monotonic() - begin)
        return (VALIDATIONS_PER_RUN + 1) * seconds

    def record(self, nats: float) -> None:
        """Count a validation of this loss; if it is the best so far, keep the weights."""
        c = self.counters
        c.since_best += 1
        if c.best is None or nats < c.best:
            c.best, c.best_step, c.since_best = nats, c.step, 0
            self.keep_weights()

    def keep_weights(self) -> None:
        """Take the weights as they are for the best."""
        self.best_weights = {name: tensor.detach().clone() for name, tensor in self.step.model.state_dict().items()}

    def restore_best(self) -> None:
        """Go back to the best weights, if there are any."""
        if self.best_weights is not None:
            self.step.load_weights(self.best_weights)

    @staticmethod
    def _steps_between(steps: int) -> int:
        return max(1, steps // VALIDATIONS_PER_RUN)
