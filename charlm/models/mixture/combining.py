"""Ways to combine the distributions of several experts, the members of a mixture, into one.

While weights are tuned, the ids that do not occur in the text share one column. `log_counts` is the logarithm of the
number of ids of each column; all of these ids have the probability in that column.

Shapes: N places, K experts, A ids or columns of ids, F features, H hidden units; expert log-probabilities (..., K, A).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from charlm.models.ngram.descent import descend
from charlm.progress import Tell

Array = Any  # a tensor of torch or an array of numpy

MAX_EM_ROUNDS = 200
MIN_LOG_SHARE = -50.0  # of an expert, ln
MIN_GAIN_NATS = 1e-7  # per place, in a round of expectation maximisation
ADAM_STEPS = 400
MAX_BATCH_PLACES = 1024  # fewer where there are many columns
MIN_BATCH_PLACES = 128
MAX_BATCH_NUMBERS = 1 << 18  # places times columns
LEARNING_RATE = 2e-2
FEATURES_PER_EXPERT = 5
HIDDEN_UNITS = 16
WEIGHT_DECAY_NATS = 1  # times the squared weights, over the whole slice


class Combination(nn.Module, ABC):
    """One way to combine K experts; before tuning, all have the same weight."""

    about: ClassVar[str]  # a short description
    by_score: ClassVar[bool] = False  # whether ln P of an id depends on the experts' ln P of this id only

    @abstractmethod
    def combine(self, xp: Any, parameters: Sequence[Array], experts: Array, log_counts: Array | None) -> Array:
        """(..., K, A) log-probabilities -> (..., A), normalised.

        `parameters` are those of this module, as arrays of `xp`, which is torch or numpy; numpy is several times faster
        for a single place.
        """

    @abstractmethod
    def tune(self, experts: Tensor, targets: Tensor, log_counts: Tensor, tell: Tell) -> None:
        """Fit the parameters to the columns `targets` (N,), given the experts (N, K, A) at each place."""

    @abstractmethod
    def weights(self, experts: Tensor) -> Tensor:
        """(..., K, V) log-probabilities -> (..., K): how much each expert counts at a place; they sum to 1."""

    def forward(self, experts: Tensor, log_counts: Tensor | None = None) -> Tensor:
        """`combine` with this combination's parameters."""
        log_probs: Tensor = self.combine(torch, list(self.parameters()), experts, log_counts)
        return log_probs

    def on_arrays(self) -> Callable[[Array], Array]:
        """`forward` for arrays (B, K, V) of numpy, with the present values of the parameters."""
        parameters = [weight.cpu().numpy() for weight in self.parameters()]
        return lambda experts: self.combine(np, parameters, experts, None)


class Linear(Combination):
    """P = sum of share_k P_k, with shares found by expectation maximisation (Jelinek & Mercer 1980)."""

    about = "a weighted sum"
    by_score = True

    def __init__(self, members: int) -> None:
        super().__init__()
        self.shares = _parameter(torch.zeros(members))  # as logarithms, up to a constant

    @override
    def combine(self, xp: Any, parameters: Sequence[Array], experts: Array, log_counts: Array | None) -> Array:
        (shares,) = parameters
        return _log_sum(xp, (shares - _log_sum(xp, shares, 0))[:, None] + experts, -2)

    @override
    def weights(self, experts: Tensor) -> Tensor:
        return self.shares.softmax(0).expand(experts.shape[:-1])

    @override
    def tune(self, experts: Tensor, targets: Tensor, log_counts: Tensor, tell: Tell) -> None:
        """In each round, each share becomes the mean responsibility of its expert."""
        target_log_probs = (
            experts.gather(2, targets.view(-1, 1, 1).expand(-1, experts.shape[1], 1)).squeeze(2).double()
        )  # (N, K)
        shares, before = self.shares.double().log_softmax(0), -math.inf
        for number in range(MAX_EM_ROUNDS):
            joint = target_log_probs + shares
            total = joint.logsumexp(1, keepdim=True)
            shares = (joint - total).exp().mean(0).log()
            tell(number / MAX_EM_ROUNDS)
            if (log_likelihood := total.mean().item()) < before + MIN_GAIN_NATS:
                break
            before = log_likelihood
        self.shares.copy_(shares.clamp(min=MIN_LOG_SHARE))


class LogLinear(Combination):
    """P = product of P_k ^ exponent_k, normalised (Klakow 1998)."""

    about = "a weighted product"

    def __init__(self, members: int) -> None:
        super().__init__()
        self.exponents = _parameter(torch.full((members,), 1 / members))

    @override
    def combine(self, xp: Any, parameters: Sequence[Array], experts: Array, log_counts: Array | None) -> Array:
        return _product(xp, experts, parameters[0], log_counts)

    @override
    def weights(self, experts: Tensor) -> Tensor:
        """By the sizes of the exponents."""
        return _shares_of(self.exponents).expand(experts.shape[:-1])

    @override
    def tune(self, experts: Tensor, targets: Tensor, log_counts: Tensor, tell: Tell) -> None:
        _descend(self, (0,), experts, targets, log_counts, tell)


class Gate(Combination):
    """A small network that computes, at each place, the exponents of a product, and the shares of it and each expert.

    Its inputs are `features` of the experts.
    """

    about = "a small network that sees what they predict"

    def __init__(self, members: int) -> None:
        super().__init__()
        size, generator = FEATURES_PER_EXPERT * members, torch.Generator().manual_seed(0)
        self.centre, self.scale = _parameter(torch.zeros(size)), _parameter(torch.ones(size))
        self.inward = _parameter(torch.randn(size, HIDDEN_UNITS, generator=generator) / size**0.5)
        self.hidden = _parameter(torch.zeros(HIDDEN_UNITS))
        self.outward = _parameter(torch.zeros(HIDDEN_UNITS, 2 * members + 1))
        even = torch.full((members,), 1 / members)
        self.bias = _parameter(torch.cat([even, torch.tensor([2.0]), torch.zeros(members)]))

    @override
    def combine(self, xp: Any, parameters: Sequence[Array], experts: Array, log_counts: Array | None) -> Array:
        exponents, shares = self._gated(xp, parameters, experts, log_counts)
        product = _product(xp, experts, exponents, log_counts)
        return _log_sum(xp, xp.concatenate((product[..., None, :], experts), -2) + shares[..., None], -2)

    @staticmethod
    def _gated(xp: Any, parameters: Sequence[Array], experts: Array, log_counts: Array | None) -> tuple[Array, Array]:
        """The exponents (..., K), and the logarithms of the shares of the product and of each expert (..., 1 + K)."""
        centre, scale, inward, hidden, outward, bias = parameters
        members = experts.shape[-2]
        inputs = (features(xp, experts, log_counts) - centre) * scale
        outputs = _times(xp, xp.tanh(_times(xp, inputs, inward) + hidden), outward) + bias  # (..., 2 K + 1)
        shares = outputs[..., members:]
        return outputs[..., :members], shares - _log_sum(xp, shares, -1)[..., None]

    @override
    def weights(self, experts: Tensor) -> Tensor:
        """The share of each expert, and its part of the product's share, by the sizes of the exponents."""
        exponents, shares = self._gated(torch, list(self.parameters()), experts, None)
        of_product, own = shares.exp().split([1, experts.shape[-2]], -1)
        weights: Tensor = own + of_product * _shares_of(exponents)
        return weights

    @override
    def tune(self, experts: Tensor, targets: Tensor, log_counts: Tensor, tell: Tell) -> None:
        inputs = features(torch, experts, log_counts)
        self.centre.copy_(inputs.mean(0))
        self.scale.copy_(1 / (inputs.std(0, correction=0) + 0.01))
        _descend(
            self,
            (math.inf, math.inf, WEIGHT_DECAY_NATS, WEIGHT_DECAY_NATS, WEIGHT_DECAY_NATS, 0),
            experts,
            targets,
            log_counts,
            tell,
        )


COMBINATIONS: dict[str, type[Combination]] = {"gate": Gate, "log-linear": LogLinear, "linear": Linear}


def features(xp: Any, experts: Array, log_counts: Array | None) -> Array:
    """(..., K, A) -> (..., FEATURES_PER_EXPERT K): each of five statistics for all experts.

    They are the entropy, the variance of the surprisal, the largest log-probability, and the Kullback-Leibler
    divergences of the expert from the mean of all experts and of that mean from the expert.
    """
    p = xp.exp(experts if log_counts is None else experts + log_counts)
    mean = p.mean(-2)[..., None, :]
    log_mean = (_log_sum(xp, experts, -2) - math.log(experts.shape[-2]))[..., None, :]
    entropy = -(p * experts).sum(-1)
    from_mean = -(p * log_mean).sum(-1) - entropy
    of_mean = (mean * (log_mean - experts)).sum(-1)
    variance = (p * experts**2).sum(-1) - entropy**2
    return xp.concatenate((entropy, variance, xp.amax(experts, -1), from_mean, of_mean), -1)


def _log_sum(xp: Any, x: Array, axis: int) -> Array:
    """The logarithm of the sum of the exponentials along an axis, which is removed."""
    if xp is torch:
        total: Array = x.logsumexp(axis)
        return total
    maximum = x.max(axis, keepdims=True)
    return np.log(np.exp(x - maximum).sum(axis)) + maximum.squeeze(axis)


def _times(xp: Any, x: Array, W: Array) -> Array:
    """(..., N) by (N, M). For arrays, unlike in BLAS, the order of summation does not depend on the number of rows."""
    return x @ W if xp is torch else (x[..., None] * W).sum(-2)


def _product(xp: Any, experts: Array, exponents: Array, log_counts: Array | None) -> Array:
    """The normalised weighted product of (..., K, A) with exponents (..., K) -> (..., A)."""
    product = (experts * exponents[..., None]).sum(-2)
    total = product if log_counts is None else product + log_counts
    return product - _log_sum(xp, total, -1)[..., None]


def _shares_of(exponents: Tensor) -> Tensor:
    """(..., K) -> (..., K): the absolute values, divided by their sum."""
    sizes = exponents.abs()
    return sizes / sizes.sum(-1, keepdim=True)


def _parameter(start: Tensor) -> nn.Parameter:
    return nn.Parameter(start, requires_grad=False)


def _descend(
    combination: Combination,
    decays: tuple[float, ...],
    experts: Tensor,
    targets: Tensor,
    log_counts: Tensor,
    tell: Tell,
) -> None:
    """Fit the parameters with finite `decays` by `descend`."""

    def probability(sample: Tensor) -> Tensor:
        log_probs: Tensor = combination(experts[sample], log_counts)  # (N, A)
        return log_probs.gather(-1, targets[sample].unsqueeze(-1)).squeeze(-1).exp()

    pairs = zip(combination.parameters(), decays, strict=True)
    decaying = [(weight, decay) for weight, decay in pairs if decay < math.inf]
    weights, penalties = zip(*decaying, strict=True)
    batch = max(MIN_BATCH_PLACES, min(MAX_BATCH_PLACES, MAX_BATCH_NUMBERS // experts.shape[-1]))
    descend(weights, penalties, probability, len(targets), steps=ADAM_STEPS, batch=batch, rate=LEARNING_RATE, tell=tell)
