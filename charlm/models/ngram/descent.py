"""Training the small networks of n-gram models and mixtures on the validation slice."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

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
    means, squares = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]
    counts = [torch.zeros(()) for _ in weights]  # of steps, as `adam` wants them
    for step in range(steps if places else 0):
        if step % 20 == 0:
            tell(step / steps)
        sample = torch.randint(places, (min(batch, places),), generator=generator)
        with torch.enable_grad():
            for weight in weights:
                weight.requires_grad_()
            penalty = sum(decay * weight.square().sum() for weight, decay in zip(weights, decays, strict=True))
            loss = penalty / places - probability(sample).log().mean()
            gradients = torch.autograd.grad(loss, weights)
        for weight in weights:
            weight.requires_grad_(False)
        adam(  # not torch.optim.Adam, whose making imports torch's compiler: 1.2 s of each process that counts
            list(weights), list(gradients), means, squares, [], counts, fused=True, amsgrad=False, maximize=False,
            beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, lr=rate * (1 - step / steps),
        )  # fmt: skip
