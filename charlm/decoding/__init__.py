"""Generating text: sampling and beam search, for every architecture and tokenizer."""

from charlm.decoding.allowed import AllowedIds
from charlm.decoding.beam import Hypothesis, beam_search
from charlm.decoding.continuation import opening
from charlm.decoding.generation import Token, generate, sample
from charlm.decoding.sampling import Sampling, draw, filter_log_probs, likeliest

__all__ = [
    "AllowedIds",
    "Hypothesis",
    "Sampling",
    "Token",
    "beam_search",
    "draw",
    "filter_log_probs",
    "generate",
    "likeliest",
    "opening",
    "sample",
]
