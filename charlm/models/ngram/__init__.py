"""The n-gram.

counting    the n-grams of a text                   matching    where another text meets them
smoothing   from counts to probabilities            gate        discounts that a small network decides
estimation  the smoothers by name, what they learn  descent     how such networks learn
fitting     from a text to all that makes a model   trie        what it then is, as tensors
model       the model itself
cache       what it remembers of the text it reads  table       what ARPA files hold of it
summary     what can be told of it
"""

from charlm.models.ngram.fitting import NGramConfig
from charlm.models.ngram.model import NGram

__all__ = ["NGram", "NGramConfig"]
