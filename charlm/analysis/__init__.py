"""Why a model costs what it costs: analyses of one trained model, to be shown by whoever asks.

surprisal   what each character costs, what was expected instead, where two models part
kinds       letters, spaces, punctuation, digits, newlines
context     what a model makes of the last 1, 2, 4, ... characters
quoting     what a sample has from the training text
gradients   what an input long ago does to the loss now
attention   where a Transformer looks
embeddings  where a network has put its characters
activations what single units of a network follow
differences where two models differ by more than chance
"""

from charlm.analysis.activations import Activations, Unit, activations
from charlm.analysis.attention import AttentionMaps, attention_maps
from charlm.analysis.context import CONTEXTS, ContextPoint, context_curve
from charlm.analysis.differences import clear_differences
from charlm.analysis.embeddings import EmbeddingMap, embedding_map
from charlm.analysis.gradients import Gradients, gradients_through_time, untrained
from charlm.analysis.kinds import KINDS, Kind, bits_by_kind
from charlm.analysis.quoting import Quote, longest_quote
from charlm.analysis.surprisal import Character, Passage, Prediction, Reading, gains, lens, predict, read

__all__ = [
    "CONTEXTS",
    "KINDS",
    "Activations",
    "AttentionMaps",
    "Character",
    "ContextPoint",
    "EmbeddingMap",
    "Gradients",
    "Kind",
    "Passage",
    "Prediction",
    "Quote",
    "Reading",
    "Unit",
    "activations",
    "attention_maps",
    "bits_by_kind",
    "clear_differences",
    "context_curve",
    "embedding_map",
    "gains",
    "gradients_through_time",
    "lens",
    "longest_quote",
    "predict",
    "read",
    "untrained",
]
