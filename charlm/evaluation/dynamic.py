"""Dynamic evaluation: the model continues to learn from the tokens that it has just predicted.

Shapes: N tokens, T of them in a segment.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from charlm.config import BOUNDARY, Settings, setting
from charlm.corpus import Stream
from charlm.evaluation.bootstrap import Floats
from charlm.evaluation.scoring import bits_of, check_finite
from charlm.models.base import LanguageModel, detach, device_of, evaluating

SQUARES_DECAY = 0.999
"""The decay of the moving average of squared gradients, per step."""


@dataclass(frozen=True)
class Dynamic(Settings):
    """How a model learns while it is evaluated; the defaults had the lowest loss on a validation slice."""

    rate: float = setting(4e-4, "step of each weight along a gradient that is as large as root_mean_square", above=0.0)
    decay: float = setting(1e-3, "share of the way back to the trained weights at each step", min=0.0, below=1.0)
    segment: int = setting(64, "tokens between two steps", min=1)


def dynamic_token_bits(model: LanguageModel, ids: Stream, settings: Dynamic = Dynamic()) -> Iterator[Floats]:
    """`token_bits` of a copy of the model that learns from every segment of T tokens after it has been scored.

    This is the RMS rule with decay of Krause et al. 2018 (arXiv 1709.07432), with mean squares of the gradients so far
    instead of those on the training text. Raises TrainingFault as `token_bits` does.
    """
    learner = copy.deepcopy(model).float()
    step = _learning(list(learner.parameters()), settings)
    state, last = learner.initial_state(1), BOUNDARY
    with evaluating(learner):
        for begin in range(0, len(ids), settings.segment):
            stream = np.concatenate([[last], ids[begin : begin + settings.segment]], dtype=np.int64)
            tokens = torch.from_numpy(stream).to(device_of(learner)).unsqueeze(0)
            with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # no gradients in evaluation mode
                log_probs, state = learner.score(tokens[:, :-1], tokens[:, 1:], state)
                bits = bits_of(log_probs.detach())[0]
                check_finite(bits, begin)
                step(-log_probs.mean())
            state, last = detach(state), int(stream[-1])
            yield bits


def _learning(weights: list[Tensor], settings: Dynamic) -> Callable[[Tensor], None]:
    """A function that changes the weights by the gradients of a loss."""
    trained = [weight.detach().clone() for weight in weights]
    squares = [torch.zeros_like(weight) for weight in weights]
    steps = 0

    def step(loss: Tensor) -> None:
        nonlocal steps
        steps += 1
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            torch._foreach_mul_(squares, SQUARES_DECAY)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - SQUARES_DECAY)
            root_mean_square = torch._foreach_sqrt(torch._foreach_div(squares, 1 - SQUARES_DECAY**steps))
            torch._foreach_add_(root_mean_square, 1e-8)  # it is 0 for a weight without gradients so far
            torch._foreach_addcdiv_(weights, gradients, root_mean_square, -settings.rate)
            torch._foreach_lerp_(weights, trained, settings.decay)

    return step
