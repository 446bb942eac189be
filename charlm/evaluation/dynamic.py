"""Dynamic evaluation: the model goes on learning from what it has just been asked to predict.

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

MEMORY = 0.999
"""Share of the mean square of the gradients that is kept at each step."""


@dataclass(frozen=True)
class Dynamic(Settings):
    """How a model learns while it is evaluated; the defaults did best on a validation slice."""

    rate: float = setting(4e-4, "step of each weight along a gradient that is as large as usual", above=0.0)
    decay: float = setting(1e-3, "share of the way back to the trained weights at each step", min=0.0, below=1.0)
    segment: int = setting(64, "tokens between two steps", min=1)


def dynamic_token_bits(model: LanguageModel, ids: Stream, settings: Dynamic = Dynamic()) -> Iterator[Floats]:
    """As `token_bits`, but a copy of the model learns from every segment of T tokens once it has been scored.

    Source: Krause et al. 2018 (arXiv 1709.07432), their RMS rule with decay, the mean squares being those of the
    gradients met so far instead of the training text's. Raises TrainingFault as `token_bits` does.
    """
    learner = copy.deepcopy(model).float()
    step = _learning(list(learner.parameters()), settings)
    state, last = learner.initial_state(1), BOUNDARY
    with evaluating(learner):
        for begin in range(0, len(ids), settings.segment):
            stream = np.concatenate([[last], ids[begin : begin + settings.segment]], dtype=np.int64)
            read = torch.from_numpy(stream).to(device_of(learner)).unsqueeze(0)
            with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # which learns in training mode only
                log_probs, state = learner.score(read[:, :-1], read[:, 1:], state)
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
            torch._foreach_mul_(squares, MEMORY)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - MEMORY)
            usual = torch._foreach_sqrt(torch._foreach_div(squares, 1 - MEMORY**steps))
            torch._foreach_add_(usual, 1e-8)  # of a weight that has not had a gradient yet
            torch._foreach_addcdiv_(weights, gradients, usual, -settings.rate)
            torch._foreach_lerp_(weights, trained, settings.decay)

    return step
