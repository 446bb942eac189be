"""One optimizer step: the precision of the arithmetic, gradients, clipping, optimizers.

Weights and optimizers are float32. With bfloat16 a working copy of the network computes: it passes its gradients to the
float32 weights before each step and copies the weights back after it.
"""

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from charlm.errors import TrainingFault
from charlm.models import LanguageModel, State, detach
from charlm.models.base import Dropout
from charlm.training.computing import compiled, compute_type
from charlm.training.distributed import World
from charlm.training.optimizers import DECAYS, build_optimizers
from charlm.training.settings import TrainingConfig

MAX_ADVISED_LEARNING_RATE = 3e-3
ADVISED_CLIP = 1.0  # L2 norm


class OptimizerStep:
    """Computes the gradient of one segment of every stream and updates the weights.

    `model` has the float32 weights; `network` computes, and is the same module unless the precision is bfloat16.
    """

    def __init__(self, model: LanguageModel, config: TrainingConfig, batch: int, world: World) -> None:
        assert config.optimizer is not None, "`plan.complete` fills in what is open"
        assert config.learning_rate is not None
        assert config.weight_decay is not None
        self.model, self.config, self.learning_rate = model, config, config.learning_rate
        self.device = next(model.parameters()).device
        dtype = compute_type(config.precision, self.device)
        self.network = model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)
        self.score = compiled(self.network.score) if config.compile else self.network.score
        self.optimizers = build_optimizers(
            model, config.optimizer, config.learning_rate, config.weight_decay, config.precision
        )
        self.world, self.rows = world, world.rows(batch)
        self.share = (self.rows.stop - self.rows.start) / batch  # of the batch that is this rank's
        for module in self.network.modules():
            if isinstance(module, Dropout):
                module.batch, module.rows = batch, self.rows
        self.align()

    def align(self) -> None:
        """Take the weights of rank 0: other processors may round otherwise."""
        if self.world.size > 1:
            self.world.copy_from_main(list(self.model.state_dict().values()))
            self._copy_weights()

    def set_learning_rate(self, share: float) -> None:
        """Set the learning rate of all optimizers to this share of the highest."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * share

    def take(self, number: int, tokens: Tensor, targets: Tensor, state: State) -> tuple[float, State]:
        """Make step `number` (from 1) on a segment, (B, T) each: the loss in nats per token, and the state to carry on.

        The segment is that of all ranks, the state that of this rank's rows.

        Raises TrainingFault for a loss or gradient that is not finite; the weights are then as they were.
        """
        self.network.train()
        tokens, targets = (ids[self.rows].to(self.device) for ids in (tokens, targets))
        log_probs, state = self.score(tokens, targets, state)
        loss = -log_probs.mean() * self.share
        torch.autograd.backward(loss)
        return self._update(number, loss), detach(state)

    def _update(self, number: int, loss: Tensor) -> float:
        """Update the weights by the gradients of `loss`, which is returned in nats per token."""
        self._collect_gradients()
        loss = loss.detach().float()
        self.world.add_up([p.grad for p in self.model.parameters() if p.grad is not None] + [loss])
        norm = nn.utils.clip_grad_norm_(list(self.model.parameters()), self.config.clip or math.inf)
        if not math.isfinite(nats := loss.item()) or not math.isfinite(norm.item()):
            raise not_finite("loss" if not math.isfinite(nats) else "gradient", number, self.config)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self._copy_weights()
        return nats

    def _copy_weights(self) -> None:
        """Give the working copy, if there is one, the float32 weights."""
        if self.network is not self.model:
            with torch.no_grad():
                torch._foreach_copy_(list(self.network.parameters()), list(self.model.parameters()))

    def _collect_gradients(self) -> None:
        """Move the gradients of the working copy, if there is one, to the float32 weights."""
        if self.network is self.model:
            return
        for master, working in zip(self.model.parameters(), self.network.parameters(), strict=True):
            master.grad = None if working.grad is None else working.grad.float()
            working.grad = None

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Replace the weights by those of a state dict."""
        self.model.load_state_dict(weights)
        if self.network is not self.model:
            self.network.load_state_dict(weights)


def not_finite(what: str, number: int, config: TrainingConfig) -> TrainingFault:
    """The error for a number that is not finite at step `number`, and which setting to change."""
    return TrainingFault(f"the {what} is not finite at step {number}. {advice(config)}")


def advice(config: TrainingConfig) -> str:
    """Which setting to change when the numbers go wrong."""
    assert config.optimizer is not None
    assert config.learning_rate is not None
    assert config.weight_decay is not None
    usual = DECAYS[config.optimizer]
    if config.learning_rate * config.weight_decay >= 1 > config.learning_rate * usual:  # more than the weight
        return f"Try `weight_decay={usual:g}`"
    clip = "" if config.clip else f" or `clip={ADVISED_CLIP:g}`"
    return f"Try `learning_rate={min(config.learning_rate / 3, MAX_ADVISED_LEARNING_RATE):.1g}`{clip}"
