"""Analyses of a trained model.

surprisal   bits of each character, the predictions at its place, passages where two models differ
kinds       bits by kind of character: letters, spaces, punctuation, digits, newlines
context     bits with a context of 1, 2, 4, ... characters
quoting     the longest quote from the training text in a sample
gradients   gradients of the loss with respect to earlier inputs, on average and at one place
attention   attention maps of a Transformer
embeddings  principal components and neighbours of a network's embeddings
activations units of a network that correlate with properties of the text
differences passages where two models differ by more than chance
"""

from charlm.analysis.activations import Activations, Unit, activations
from charlm.analysis.attention import AttentionMaps, attention_maps
from charlm.analysis.context import CONTEXTS, ContextPoint, context_curve
from charlm.analysis.differences import clear_differences
from charlm.analysis.embeddings import EmbeddingMap, embedding_map
from charlm.analysis.gradients import Gradients, gradient_times_input, gradients_through_time, untrained
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
    "gradient_times_input",
    "gradients_through_time",
    "lens",
    "longest_quote",
    "predict",
    "read",
    "untrained",
]
