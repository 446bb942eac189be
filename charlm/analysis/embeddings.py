"""Where a network has put its characters: its embeddings, seen from where they lie widest apart.

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
    """The text of each id that training has seen, bytes as \\xHH; its first two principal components (M, 2); and the
    shares of the variance that these explain.

    `cosines` (M, M) compares the whole vectors, their mean subtracted. `chance` is the cosine that no pair of as many
    random vectors of this width reaches, with a probability of 95 %.
    """

    tokens: tuple[str, ...]
    points: Floats
    explained: tuple[float, float]
    cosines: Floats
    chance: float

    def neighbours(self, number: int, count: int = 3) -> tuple[tuple[str, float], ...]:
        """The tokens nearest to one by cosine, nearest first, and how near; only those nearer than chance."""
        order = [n for n in (-self.cosines[number]).argsort(kind="stable").tolist() if n != number][:count]
        return tuple(
            (self.tokens[n], float(self.cosines[number, n])) for n in order if self.cosines[number, n] > self.chance
        )


def tables_of(model: LanguageModel) -> list[nn.Embedding]:
    """The layers of a network that turn an id into a vector, the first one first."""
    layers = model.modules() if model.by_gradient else ()
    return [layer for layer in layers if isinstance(layer, nn.Embedding) and layer.num_embeddings == model.vocab_size]


def embedding_of(model: LanguageModel) -> nn.Embedding:
    """The layer that turns ids into vectors. Raises UsageError for a model that has none."""
    embedding = next(iter(tables_of(model)), None)
    if embedding is None:
        lacking = "no embeddings" if model.by_gradient else "no embeddings and no gradients of its own"
        raise UsageError(
            f"this is for networks: {type(model).__name__} has {lacking}; "
            "inspect an rnn, gru, lstm, transformer or feedforward run"
        )
    return embedding


def embedding_map(model: LanguageModel, tokenizer: Tokenizer) -> EmbeddingMap:
    """The embeddings in two dimensions, by principal components; the sign is such that the widest is positive.

    Raises UsageError for a model without embeddings.
    """
    vectors = embedding_of(model).weight.detach().double().cpu().numpy()
    known = model.seen_ids().cpu().numpy().copy()
    known[BOUNDARY] = False
    ids, pieces = np.flatnonzero(known), tokenizer.pieces()
    centred = vectors[ids] - vectors[ids].mean(0)  # (M, E)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(ids), 2))
    axes = min(2, len(sizes))
    points[:, :axes] = left[:, :axes] * sizes[:axes]
    widest = np.abs(points).argmax(0)
    points *= np.where(points[widest, [0, 1]] < 0, -1.0, 1.0)
    shares = np.append(sizes**2 / max(float((sizes**2).sum()), 1e-300), [0.0, 0.0])
    tokens = tuple(spelled(pieces[id], 1.0).text for id in ids.tolist())
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(min=1e-12)
    return EmbeddingMap(tokens, points, (float(shares[0]), float(shares[1])), unit @ unit.T, _chance(*centred.shape))


def _chance(count: int, width: int) -> float:
    """The cosine that the nearest of all pairs of `count` random vectors stays below, with a probability of 95 %.

    Fisher: the inverse hyperbolic tangent of such a cosine is about normal, its variance 1 / (width - 2). Bonferroni.
    """
    pairs = max(1, count * (count - 1) // 2)
    return math.tanh(NormalDist().inv_cdf(1 - 0.05 / pairs) / max(1, width - 2) ** 0.5)
