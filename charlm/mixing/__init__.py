"""Mixing: trained models into one, weighed by how they predict a text that none of them has learned from.

tuning_text  that text, and its log-probabilities        runs  runs from their folders into a mixture
"""

from charlm.mixing.runs import Mixed, mix
from charlm.mixing.tuning_text import TuningText

__all__ = ["Mixed", "TuningText", "mix"]
