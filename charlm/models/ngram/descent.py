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
    optimizer = torch.optim.Adam([weight.requires_grad_() for weight in weights], fused=True)
    for step in range(steps if places else 0):
        if step % 20 == 0:
            tell(step / steps)
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        sample = torch.randint(places, (min(batch, places),), generator=generator)
        with torch.enable_grad():
            size = sum(decay * weight.square().sum() for weight, decay in zip(weights, decays, strict=True))
            torch.autograd.backward(size / places - probability(sample).log().mean())
        optimizer.step()
        optimizer.zero_grad()
    for weight in weights:
        weight.requires_grad_(False)
