"""Training the small networks of n-gram models and mixtures on the validation slice."""

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
    """Minimise the cross-entropy over `places` places by Adam (Kingma & Ba 2015), changing `weights` in place.

    `probability` maps indices of places (N,) to the probabilities of their symbols (N,). `decays`, one a weight
    tensor, multiply its squared sum, in nats over all places. The learning rate decreases linearly from `rate` to 0.
    Batches are drawn with seed 0.
    """
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam([weight.requires_grad_() for weight in weights], fused=True)
    for step in range(steps if places else 0):
        if step % 20 == 0:
            tell(step / steps)
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        sample = torch.randint(places, (min(batch, places),), generator=generator)
        with torch.enable_grad():
            penalty = sum(decay * weight.square().sum() for weight, decay in zip(weights, decays, strict=True))
            torch.autograd.backward(penalty / places - probability(sample).log().mean())
        optimizer.step()
        optimizer.zero_grad()
    for weight in weights:
        weight.requires_grad_(False)
