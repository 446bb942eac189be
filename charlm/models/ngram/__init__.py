"""The n-gram model.

counting    the n-grams of a text                     windows     the sorted distinct windows it starts from
smoothing   from counts to probabilities              gate        discounts that a small network computes
estimation  the smoothers by name, and their tuning   matching    looking up the validation slice in the counts
fitting     from a text to the tensors of a model     descent     training the small networks
trie        the tensors, and how they are walked      model       the model itself
cache       matches in the text being read            table       conversion from and to ARPA probabilities
summary     a table of what a model holds

With several processes: shards, shard_gate and shard_fitting do what counting, gate and fitting do in one.
"""

from charlm.models.ngram.fitting import NGramConfig
from charlm.models.ngram.model import NGram

__all__ = ["NGram", "NGramConfig"]
