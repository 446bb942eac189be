"""Discounts that depend on the context, learned: what takes an n-gram past Kneser-Ney.

Kneser-Ney takes the same D1, D2, D3+ off every context of a length, and counts either occurrences or predecessors. Here
a small network looks at how a context has behaved (how often it was seen, how many symbols followed it, how many of
them once, twice, ...; the same for the context without its first symbol; its last symbol; its length) and says what
to take off counts of 1, 2, 3, 4 and more, of either kind, and how to mix the two kinds. It is trained on the validation
slice, to which the counts are then added. Its answers depend on the context alone, so that they are worked out once
and the model stays a table. Related: Jelinek & Mercer 1980 (weights by bucket of counts, from held-out text); Chen &
Goodman 1999 (discounts by count). It starts as Kneser-Ney, which is what little validation text leaves it at.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding

from charlm.models.ngram.counting import Level
from charlm.models.ngram.descent import descend
from charlm.models.ngram.smoothing import (
    FALLBACK,
    Estimate,
    Numbers,
    adjusted_counts,
    closed_form_discounts,
    with_contexts,
)
from charlm.models.ngram.windows import Integers
from charlm.progress import Tell
from charlm.threads import Workers

CLASSES = 4  # counts of 1, 2, 3, and 4 or more are discounted each in their own way
HIDDEN = 16
STEPS = 300
BATCH = 512
RATE = 1e-2
DECAY = 5  # on the squared weights: worth so many nats over the whole slice
SYMBOL_DECAY = 20  # on those of a symbol, of which a slice shows less
CHUNK = 1 << 15  # contexts answered for at once


class Behaviour:
    """Of the C contexts of a level: how often their n-grams occur, how many symbols precede those."""

    def __init__(self, level: Level, occurring: Integers, preceding: Integers, contexts: int) -> None:
        self._level, self._kinds = level, (occurring, preceding)
        self.counts = np.stack(self._kinds).astype(np.float32)  # (2, M)
        self.total = np.zeros((2, contexts), np.float32)
        self.types = np.zeros((2, CLASSES, contexts), np.float32)  # n-grams of each class
        self.features = np.zeros((2 * (CLASSES + 5), contexts), np.float32).T  # (C, F)

    def fill(self, begin: int) -> None:
        """Work out what there is to know of CHUNK contexts."""
        contexts = slice(begin, begin + CHUNK)
        ngrams = slice(*np.searchsorted(self._level.parent, (begin, begin + CHUNK)))
        total, types = self.total[:, contexts], self.types[:, :, contexts]  # filled here
        size = total.shape[1]
        top = np.zeros_like(total)
        parent = self._level.parent[ngrams].astype(np.int64) - begin
        first = np.flatnonzero(np.diff(parent, prepend=-1))  # n-gram of each context that has any
        for kind, counts in enumerate(part[ngrams] for part in self._kinds):
            total[kind] = np.bincount(parent, counts, size)
            class_of = parent * CLASSES + counts.clip(1, CLASSES) - 1
            types[kind] = np.bincount(class_of, counts > 0, size * CLASSES).reshape(size, CLASSES).T
            top[kind, parent[first]] = np.maximum.reduceat(self.counts[kind, ngrams], first) if len(first) else 0
        any_class = types.sum(1)  # (2, C')
        columns = (
            np.log1p(total) / 3,
            np.log1p(any_class) / 2,
            *(np.log1p(types) / 2).swapaxes(0, 1),
            any_class / (total + 1),
            types[:, 0] / (any_class + 1),
            top / np.maximum(total, 1),
        )
        self.features.T[:, contexts] = np.concatenate(columns)


class Gate:
    """The network: two layers, from F features of a context, those of its suffix, its last symbol and its length."""

    def __init__(self, levels: Sequence[Level]) -> None:
        generator = torch.Generator().manual_seed(0)
        inputs = 4 * (CLASSES + 5)
        self.inward = torch.randn(inputs, HIDDEN, generator=generator) / inputs**0.5
        self.length = torch.zeros(len(levels), HIDDEN)
        self.symbol = torch.zeros(int(levels[0].symbol[-1]) + 2, HIDDEN)
        self.outward = torch.zeros(HIDDEN, 2 * CLASSES + 1)
        self.bias = torch.logit(torch.tensor([_initial(*counts) for counts in _kinds(levels)]))  # (K, 2 CLASSES + 1)

    def __call__(self, features: Tensor, symbol: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """(.., 2 F), (..), (1) or (K) -> discounts of each class (.., 2, CLASSES), the kinds' shares (.., 2)."""
        symbol = symbol.clamp(max=len(self.symbol) - 1)  # what the gate never met shares the last row
        length = length.clamp(max=len(self.length) - 1)
        hidden = (features @ self.inward + embedding(symbol, self.symbol) + self.length[length]).tanh()
        answer = torch.sigmoid(hidden @ self.outward + self.bias[length])
        discounts = answer[..., :-1].reshape(*symbol.shape, 2, CLASSES) * torch.arange(1, CLASSES + 1)
        return discounts, torch.stack((1 - answer[..., -1], answer[..., -1]), -1)


def gated(levels: Sequence[Level], gate: Gate, pool: Workers) -> list[Estimate]:
    """The estimates that a gate makes of counts, level by level."""
    behaviours = _behaviours(levels, pool)
    estimates = [
        Estimate(np.zeros(len(level), np.float32), np.ones(len(behaviour.features), np.float32))
        for level, behaviour in zip(levels, behaviours, strict=True)
    ]
    chunks = [(k, begin) for k, estimate in enumerate(estimates) for begin in range(0, len(estimate.backoff), CHUNK)]
    list(pool.map(lambda chunk: _gate_chunk(levels, behaviours, gate, estimates, *chunk), chunks))
    return estimates


def _gate_chunk(
    levels: Sequence[Level],
    behaviours: Sequence[Behaviour],
    gate: Gate,
    estimates: Sequence[Estimate],
    k: int,
    begin: int,
) -> None:
    """Fill in the estimates of level k + 1 for CHUNK of its contexts."""
    level, behaviour, (mass, backoff, _) = levels[k], behaviours[k], estimates[k]
    rows = np.arange(begin, min(len(backoff), begin + CHUNK))
    discounts, share = (answer.numpy() for answer in gate(*_inputs(levels, behaviours, k, rows), torch.tensor([k])))
    total = np.maximum(behaviour.total[:, rows], 1)  # (2, C')
    off = (discounts * behaviour.types[:, :, rows].transpose(2, 0, 1)).sum(-1) / total.T  # (C', 2)
    backoff[rows] = np.where(behaviour.total[1, rows] > 0, (off * share).sum(-1), 1.0)
    ngrams = slice(*np.searchsorted(level.parent, (begin, begin + CHUNK)))
    parent = level.parent[ngrams] - begin
    for kind, counts in enumerate(behaviour.counts[:, ngrams]):
        taken = discounts[parent, kind, counts.clip(1, CLASSES).astype(int) - 1]
        kept = np.maximum(counts - taken, 0) / total[kind, parent]
        mass[ngrams] += share[parent, kind] * kept


def train(
    levels: Sequence[Level], contexts: Integers, ngrams: Integers, base: Numbers, pool: Workers, tell: Tell
) -> tuple[Gate, Numbers, Numbers]:
    """The gate that makes counts predict best the places where `matches` found contexts and n-grams, both (P, K).

    With the mass of those n-grams and the back-off of those contexts, as the gate makes them; both (P, K).
    """
    gate = Gate(levels)
    behaviours = _behaviours(levels, pool)
    at = np.where(ngrams[:, 0] >= 0, ngrams[:, 0], 0)
    lowest = torch.from_numpy(np.where(ngrams[:, 0] >= 0, base[at], 1 - base.sum() + 1e-9).astype(np.float32))
    by_length = [_observed(levels, behaviours, k, contexts[:, k], ngrams[:, k]) for k in range(len(levels))]
    observed = [torch.stack(columns, 1) for columns in zip(*by_length, strict=True)]  # each (P, K, ..)
    weights = (gate.inward, gate.length, gate.symbol, gate.outward, gate.bias)

    def predicted(sample: Tensor) -> Tensor:
        return _walk(lowest[sample], *_steps(gate, [column[sample] for column in observed]))

    descend(
        weights,
        (DECAY, DECAY, SYMBOL_DECAY, DECAY, 0),
        predicted,
        len(lowest),
        steps=STEPS,
        batch=BATCH,
        rate=RATE,
        tell=tell,
    )
    pieces = [_steps(gate, piece) for piece in zip(*(torch.split(column, CHUNK) for column in observed), strict=True)]
    mass, backoff = (torch.cat(columns).numpy() for columns in zip(*pieces, strict=True))
    return gate, mass, backoff


def _kinds(levels: Sequence[Level]) -> list[tuple[Integers, Integers]]:
    """Of each level, how often its n-grams occur and how many symbols precede them."""
    return [(level.count, adjusted) for level, adjusted in zip(levels, adjusted_counts(levels), strict=True)]


def _initial(*kinds: Integers) -> list[float]:
    """The gate's answers before it has learned: the discounts of Kneser-Ney, and nearly all weight on its counts."""
    discounts = [closed_form_discounts(counts) or FALLBACK for counts in kinds]
    shares = [d / j for ds in discounts for j, d in enumerate((*ds, ds[2] + 0.3), 1)]
    return [min(max(share, 0.02), 0.98) for share in shares] + [0.9]


def _behaviours(levels: Sequence[Level], pool: Workers) -> list[Behaviour]:
    behaviours = [
        Behaviour(level, *counts, n) for (level, n), counts in zip(with_contexts(levels), _kinds(levels), strict=True)
    ]
    chunks = [(behaviour, at) for behaviour in behaviours for at in range(0, len(behaviour.features), CHUNK)]
    list(pool.map(lambda chunk: chunk[0].fill(chunk[1]), chunks))
    return behaviours


def _inputs(levels: Sequence[Level], behaviours: Sequence[Behaviour], k: int, rows: Integers) -> tuple[Tensor, Tensor]:
    """What the gate reads of contexts of length k: features with those of their suffix, last symbols."""
    own = behaviours[k].features[rows]
    if k == 0:
        suffix, symbol = np.zeros_like(own), np.zeros_like(rows)
    else:
        level = levels[k - 1]
        suffix = behaviours[k - 1].features[level.suffix[rows] if k > 1 else np.zeros_like(rows)]
        symbol = level.symbol[rows]
    features = torch.from_numpy(np.concatenate((own, suffix), 1))
    return features, torch.from_numpy(symbol.astype(np.int64))


def _observed(
    levels: Sequence[Level], behaviours: Sequence[Behaviour], k: int, contexts: Integers, ngrams: Integers
) -> tuple[Tensor, ...]:
    """Of P places, all that the likelihood needs from level k + 1."""
    behaviour, rows = behaviours[k], np.maximum(contexts, 0)
    known = (contexts >= 0) & (behaviour.total[1, rows] > 0)
    counts = np.where(ngrams >= 0, behaviour.counts[:, np.maximum(ngrams, 0)], 0).T  # (P, 2)
    total = np.maximum(behaviour.total[:, rows].T, 1)  # (P, 2)
    types = behaviour.types[:, :, rows].transpose(2, 0, 1)  # (P, 2, CLASSES)
    classes = counts.clip(1, CLASSES).astype(np.int64) - 1
    arrays = (known, counts, classes, total, types)
    return (*_inputs(levels, behaviours, k, rows), *(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))


def _steps(gate: Gate, observed: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mass and back-off (P, K) that `gated` will say of what was observed at P places."""
    features, symbol, known, counts, classes, total, types = observed
    discounts, share = gate(features, symbol, torch.arange(symbol.shape[1]))  # (P, K, 2, CLASSES), (P, K, 2)
    taken = discounts.gather(-1, classes.unsqueeze(-1)).squeeze(-1)
    share = share / total
    mass = (share * (counts - taken) * (counts > 0)).sum(-1) * known
    return mass, torch.where(known, (share * (discounts * types).sum(-1)).sum(-1), 1.0)


def _walk(probability: Tensor, mass: Tensor, backoff: Tensor) -> Tensor:
    """(P,): of what stands at P places, from what no context at all says of it."""
    for own, left in zip(mass.unbind(1), backoff.unbind(1), strict=True):
        probability = own + left * probability
    return probability
