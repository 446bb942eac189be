"""Ways to make one distribution of several: what each member says is a voice, and the voices are weighed.

Where weights are tuned, ids that the text does not have are one column, told apart from the others by `copies`: the
logarithm of how many ids a column stands for, each of the probability that the column holds.

Shapes: N places, K members, A ids or groups of ids, F features, H hidden units; voices are (..., K, A).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from charlm.models.ngram.descent import descend
from charlm.progress import Tell

Array = Any  # a tensor of torch or an array of numpy

ROUNDS = 200  # of EM, at most
LEAST = -50.0  # logarithm of a share
ENOUGH = 1e-7  # nats per place that a round must gain
STEPS = 400
BATCH = 1024  # places, or fewer where there are many columns
LEAST_BATCH = 128
CELLS = 1 << 18  # places times columns
RATE = 2e-2
SEEN = 5  # features of each voice
HIDDEN = 16
DECAY = 1  # on the squared weights: worth so many nats over the whole slice


class Combination(nn.Module, ABC):
    """One way to combine K voices; untuned, all count the same."""

    about: ClassVar[str]  # how, in a few words
    by_score: ClassVar[bool] = False  # whether what the members say of an id is all that matters for it

    @abstractmethod
    def weighed(self, xp: Any, numbers: Sequence[Array], voices: Array, copies: Array | None) -> Array:
        """(..., K, A) log-probabilities -> (..., A), normalised; `numbers` are the parameters.

        `xp` is torch, for all of a text, or numpy, which answers for a single place several times faster.
        """

    @abstractmethod
    def tune(self, voices: Tensor, targets: Tensor, copies: Tensor, tell: Tell) -> None:
        """Learn to predict what came, the columns `targets` (N,), from voices (N, K, A), as well as can be."""

    def forward(self, voices: Tensor, copies: Tensor | None = None) -> Tensor:
        """As `weighed`."""
        log_probs: Tensor = self.weighed(torch, list(self.parameters()), voices, copies)
        return log_probs

    def on_arrays(self) -> Callable[[Array], Array]:
        """`forward` for arrays (B, K, V) of numpy, while the parameters stay as they are."""
        numbers = [weight.cpu().numpy() for weight in self.parameters()]
        return lambda voices: self.weighed(np, numbers, voices, None)


class Linear(Combination):
    """P = sum of share_k P_k, the shares by expectation maximisation (Jelinek & Mercer 1980)."""

    about = "a weighted sum"
    by_score = True

    def __init__(self, members: int) -> None:
        super().__init__()
        self.shares = _numbers(torch.zeros(members))  # as logarithms, up to a constant

    def weighed(self, xp: Any, numbers: Sequence[Array], voices: Array, copies: Array | None) -> Array:  # noqa: ARG002
        """As above; A may be any ids."""
        (shares,) = numbers
        return _log_sum(xp, (shares - _log_sum(xp, shares, 0))[:, None] + voices, -2)

    def tune(self, voices: Tensor, targets: Tensor, copies: Tensor, tell: Tell) -> None:  # noqa: ARG002
        """Each round gives a member the share of the places that it is found responsible for."""
        said = voices.gather(2, targets.view(-1, 1, 1).expand(-1, voices.shape[1], 1)).squeeze(2).double()  # (N, K)
        shares, before = self.shares.double().log_softmax(0), -math.inf
        for number in range(ROUNDS):
            joint = said + shares
            total = joint.logsumexp(1, keepdim=True)
            shares = (joint - total).exp().mean(0).log()
            tell(number / ROUNDS)
            if (now := total.mean().item()) < before + ENOUGH:
                break
            before = now
        self.shares.copy_(shares.clamp(min=LEAST))


class LogLinear(Combination):
    """P = product of P_k ^ exponent_k, made to add up to one (Klakow 1998)."""

    about = "a weighted product"

    def __init__(self, members: int) -> None:
        super().__init__()
        self.exponents = _numbers(torch.full((members,), 1 / members))

    def weighed(self, xp: Any, numbers: Sequence[Array], voices: Array, copies: Array | None) -> Array:
        """As above."""
        return _product(xp, voices, numbers[0], copies)

    def tune(self, voices: Tensor, targets: Tensor, copies: Tensor, tell: Tell) -> None:
        """By gradient descent."""
        _descend(self, (0,), voices, targets, copies, tell)


class Gate(Combination):
    """Exponents of a product, and shares of that product and of each member, from a network that sees the voices.

    How sure each member is and how far it is from the others says how far to trust it here.
    """

    about = "a small network that sees what they say"

    def __init__(self, members: int) -> None:
        super().__init__()
        size, generator = SEEN * members, torch.Generator().manual_seed(0)
        self.centre, self.scale = _numbers(torch.zeros(size)), _numbers(torch.ones(size))
        self.inward = _numbers(torch.randn(size, HIDDEN, generator=generator) / size**0.5)
        self.hidden = _numbers(torch.zeros(HIDDEN))
        self.outward = _numbers(torch.zeros(HIDDEN, 2 * members + 1))
        even = torch.full((members,), 1 / members)
        self.bias = _numbers(torch.cat([even, torch.tensor([2.0]), torch.zeros(members)]))

    def weighed(self, xp: Any, numbers: Sequence[Array], voices: Array, copies: Array | None) -> Array:
        """As above."""
        centre, scale, inward, hidden, outward, bias = numbers
        members = voices.shape[-2]
        seen = (features(xp, voices, copies) - centre) * scale
        answer = _times(xp, xp.tanh(_times(xp, seen, inward) + hidden), outward) + bias  # (..., 2 K + 1)
        product = _product(xp, voices, answer[..., :members], copies)
        shares = answer[..., members:]
        shares = shares - _log_sum(xp, shares, -1)[..., None]
        return _log_sum(xp, xp.concatenate((product[..., None, :], voices), -2) + shares[..., None], -2)

    def tune(self, voices: Tensor, targets: Tensor, copies: Tensor, tell: Tell) -> None:
        """By gradient descent."""
        seen = features(torch, voices, copies)
        self.centre.copy_(seen.mean(0))
        self.scale.copy_(1 / (seen.std(0, correction=0) + 0.01))
        _descend(self, (math.inf, math.inf, DECAY, DECAY, DECAY, 0), voices, targets, copies, tell)


COMBINATIONS: dict[str, type[Combination]] = {"gate": Gate, "log-linear": LogLinear, "linear": Linear}


def features(xp: Any, voices: Array, copies: Array | None) -> Array:
    """(..., K, A) -> (..., SEEN K), of each voice and its surprisal: mean and variance, the least, how far from others.

    How far: the divergences from the mean of all voices and of that mean from each.
    """
    p = xp.exp(voices if copies is None else voices + copies)
    mean = p.mean(-2)[..., None, :]
    log_mean = (_log_sum(xp, voices, -2) - math.log(voices.shape[-2]))[..., None, :]
    entropy = -(p * voices).sum(-1)
    apart = -(p * log_mean).sum(-1) - entropy
    off = (mean * (log_mean - voices)).sum(-1)
    variance = (p * voices**2).sum(-1) - entropy**2
    return xp.concatenate((entropy, variance, xp.amax(voices, -1), apart, off), -1)


def _log_sum(xp: Any, x: Array, axis: int) -> Array:
    """The logarithm of the sum of the exponentials along an axis, which goes."""
    if xp is torch:
        total: Array = x.logsumexp(axis)
        return total
    most = x.max(axis, keepdims=True)
    return np.log(np.exp(x - most).sum(axis)) + most.squeeze(axis)


def _times(xp: Any, x: Array, W: Array) -> Array:
    """(..., N) by (N, M); of arrays, added up in one order however many rows there are, which BLAS does not."""
    return x @ W if xp is torch else (x[..., None] * W).sum(-2)


def _product(xp: Any, voices: Array, exponents: Array, copies: Array | None) -> Array:
    """(..., K, A) and (..., K) -> (..., A)."""
    product = (voices * exponents[..., None]).sum(-2)
    total = product if copies is None else product + copies
    return product - _log_sum(xp, total, -1)[..., None]


def _numbers(start: Tensor) -> nn.Parameter:
    return nn.Parameter(start, requires_grad=False)


def _descend(
    combination: Combination,
    decays: tuple[float, ...],
    voices: Tensor,
    targets: Tensor,
    copies: Tensor,
    tell: Tell,
) -> None:
    def probability(at: Tensor) -> Tensor:
        found: Tensor = combination(voices[at], copies).gather(-1, targets[at].unsqueeze(-1)).squeeze(-1)
        return found.exp()

    kept = [(weight, decay) for weight, decay in zip(combination.parameters(), decays, strict=True) if decay < math.inf]
    weights, penalties = zip(*kept, strict=True)
    batch = max(LEAST_BATCH, min(BATCH, CELLS // voices.shape[-1]))
    descend(weights, penalties, probability, len(targets), steps=STEPS, batch=batch, rate=RATE, tell=tell)
