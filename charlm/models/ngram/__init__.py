"""The n-gram: counting (`counting`), estimation (`smoothing`), and the model that reads the result (`model`)."""

from charlm.models.ngram.model import NGram

__all__ = ["NGram"]
