"""Mixtures: the model that several make together (`model`), and how what they say is combined (`combining`)."""

from charlm.models.mixture.combining import COMBINATIONS
from charlm.models.mixture.model import Member, Mixture, MixtureConfig, usual_members

__all__ = ["COMBINATIONS", "Member", "Mixture", "MixtureConfig", "usual_members"]
