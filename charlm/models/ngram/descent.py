"""Gradient descent for the small networks of the n-gram: Adam over samples of the validation slice."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from charlm.progress import Tell


def descend(
    weights: Sequence[Tensor],
    decays: Sequence[float],
    probability: Callable[[Tensor], Tensor],
    places: int,
    *,
    steps: int,
    batch: int,
    rate: float,
    tell: Tell = lambda _fraction: None,
) -> None:
    """Change `weights` in place so that `probability` of what stands at `places` grows: Adam, Kingma & Ba 2015.

    `probability` is given the numbers of some places and answers with one number each. `decays` are what the squared
    weights cost, in nats over all places; the rate falls to 0. The same places make the same weights: seed 0.
    """
    generator = torch.Generator().manual_seed(0)
    averages = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight in weights]
    for step in range(steps if places else 0):
        if step % 20 == 0:
            tell(step / steps)
        sample = torch.randint(places, (min(batch, places),), generator=generator)
        with torch.enable_grad():
            for weight in weights:
                weight.requires_grad_()
            size = sum(decay * weight.square().sum() for weight, decay in zip(weights, decays, strict=True))
            gradients = torch.autograd.grad(size / places - probability(sample).log().mean(), weights)
        for weight, gradient, (mean, square) in zip(weights, gradients, averages, strict=True):
            weight.requires_grad_(False)
            mean.lerp_(gradient, 0.1)
            square.lerp_(gradient.square(), 0.001)
            pace = rate * (1 - step / steps) * (1 - 0.999 ** (step + 1)) ** 0.5 / (1 - 0.9 ** (step + 1))
            weight.sub_(pace * mean / (square.sqrt() + 1e-8))
