"""The embeddings of a network: their first two principal components, and nearest neighbours.

Shapes: M ids, E width of the embeddings.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from torch import nn

from charlm.analysis.surprisal import Floats, spelled
from charlm.config import BOUNDARY
from charlm.errors import UsageError
from charlm.models.base import LanguageModel
from charlm.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class EmbeddingMap:
    """The embeddings of the ids that occurred in training."""

    tokens: tuple[str, ...]  # (M,): the text of each id, bytes as \\xHH
    points: Floats  # (M, 2): the first two principal components
    explained: tuple[float, float]  # the shares of the variance that they explain
    cosines: Floats  # (M, M): cosine similarities of the whole vectors after subtracting their mean
    chance: float  # with a probability of 95 %, no pair of M random vectors of this width has a larger cosine

    def neighbours(self, number: int, count: int = 3) -> tuple[tuple[str, float], ...]:
        """The nearest tokens by cosine, nearest first, and their cosines; only those above `chance`."""
        order = [n for n in (-self.cosines[number]).argsort(kind="stable").tolist() if n != number][:count]
        return tuple(
            (self.tokens[n], float(self.cosines[number, n])) for n in order if self.cosines[number, n] > self.chance
        )


def tables_of(model: LanguageModel) -> list[nn.Embedding]:
    """The embedding layers of a network, the first one first."""
    layers = model.modules() if model.by_gradient else ()
    return [layer for layer in layers if isinstance(layer, nn.Embedding) and layer.num_embeddings == model.vocab_size]


def embedding_of(model: LanguageModel) -> nn.Embedding:
    """The first embedding layer. Raises UsageError for a model without one."""
    embedding = next(iter(tables_of(model)), None)
    if embedding is None:
        reason = "no embeddings" if model.by_gradient else "no embeddings and no gradients of its own"
        raise UsageError(
            f"this is for networks: {type(model).__name__} has {reason}; "
            "inspect an rnn, gru, lstm, transformer or feedforward run"
        )
    return embedding


def embedding_map(model: LanguageModel, tokenizer: Tokenizer) -> EmbeddingMap:
    """The map of a network's embeddings; the largest coordinate of each component is positive.

    Raises UsageError for a model without embeddings.
    """
    vectors = embedding_of(model).weight.detach().double().cpu().numpy()
    known = model.seen_ids().cpu().numpy().copy()
    known[BOUNDARY] = False
    ids, pieces = np.flatnonzero(known), tokenizer.pieces()
    centred = vectors[ids] - vectors[ids].mean(0)  # (M, E)
    left, singular_values, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(ids), 2))
    axes = min(2, len(singular_values))
    points[:, :axes] = left[:, :axes] * singular_values[:axes]
    largest = np.abs(points).argmax(0)
    points *= np.where(points[largest, [0, 1]] < 0, -1.0, 1.0)
    variances = singular_values**2
    shares = np.append(variances / max(float(variances.sum()), 1e-300), [0.0, 0.0])
    tokens = tuple(spelled(pieces[id], 1.0).text for id in ids.tolist())
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(min=1e-12)
    return EmbeddingMap(tokens, points, (float(shares[0]), float(shares[1])), unit @ unit.T, _chance(*centred.shape))


def _chance(count: int, width: int) -> float:
    """The cosine that no pair of `count` random vectors exceeds, with a probability of 95 %.

    The inverse hyperbolic tangent of such a cosine is approximately normal with variance 1 / (width - 2) (Fisher); the
    level is divided by the number of pairs (Bonferroni).
    """
    pairs = max(1, count * (count - 1) // 2)
    return math.tanh(NormalDist().inv_cdf(1 - 0.05 / pairs) / max(1, width - 2) ** 0.5)
