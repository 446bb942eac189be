"""Mixing: trained models into one, weighed by how they predict a text that none of them has learned from.

evidence  what models say of that text        runs  runs from their folders into a mixture
"""

from charlm.mixing.evidence import Places
from charlm.mixing.runs import Mixed, mix

__all__ = ["Mixed", "Places", "mix"]
