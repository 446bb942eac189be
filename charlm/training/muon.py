"""Muon: momentum whose every direction is made equally long (Jordan et al. 2024).

Matrices are cut into squares (the gates of a recurrent layer, the queries, keys and values of attention, ...), and all
squares of one size are worked on in one batched product: on a CPU several times faster than one matrix at a time.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from charlm.training.computing import compute_type

MOMENTUM = 0.95
RMS = 0.2  # of an update, as AdamW's are about (Liu et al. 2025), so that one learning rate serves both
QUINTIC = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration (Jordan et al. 2024)
ITERATIONS = 5


class Muon(Optimizer):
    """SGD with Nesterov's momentum, its update replaced by the nearest orthogonal matrix, square by square.

    That is computed in bfloat16 where the device is built for it, which is precise enough, unless `exact`.
    """

    exact = False

    def __init__(self, groups: Any, lr: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, _closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients as they are."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in weights]
            for p in weights:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            momenta = [self.state[p]["momentum"] for p in weights]
            torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
            updates = _orthogonal(torch._foreach_lerp(gradients, momenta, MOMENTUM), exact=self.exact)
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, updates, alpha=-group["lr"])


def _orthogonal(matrices: Sequence[Tensor], *, exact: bool) -> list[Tensor]:
    """Each square of each matrix made orthogonal, and scaled to root mean square RMS."""
    by_shape: dict[torch.Size, list[int]] = defaultdict(list)
    cut = [_squares(matrix) for matrix in matrices]  # (K, n, n) each
    for number, squares in enumerate(cut):
        by_shape[squares.shape[1:]].append(number)
    orthogonal = list(matrices)
    kind = compute_type("float32" if exact else "auto", matrices[0].device)
    for shape, numbers in by_shape.items():
        together = newton_schulz(torch.cat([cut[n].to(kind) for n in numbers])).mul_(RMS * max(shape) ** 0.5)
        for n, squares in zip(numbers, torch.split(together, [len(cut[n]) for n in numbers]), strict=True):
            rows, columns = matrices[n].shape
            whole = squares.reshape(max(rows, columns), -1)
            orthogonal[n] = (whole if rows >= columns else whole.T).to(matrices[n].dtype)
    return orthogonal


def _squares(matrix: Tensor) -> Tensor:
    """(R, C) or (C, R) with R a multiple of C -> (R/C, C, C); any other matrix as it is, (1, R, C) with R >= C."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    rows, columns = tall.shape
    return tall.reshape(-1, columns if rows % columns == 0 else rows, columns)


def newton_schulz(x: Tensor) -> Tensor:
    """The orthogonal matrices nearest to those of x (K, R, C), roughly: singular values between 0.7 and 1.2."""
    a, b, c = QUINTIC
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).to(x.dtype)
    for _ in range(ITERATIONS):
        gram = x.mT @ x  # (K, C, C)
        x = torch.baddbmm(x, x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), beta=a)
    return x
