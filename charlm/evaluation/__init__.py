"""Evaluation of a model on a text; all of charlm's metrics are defined here.

scoring    bits of each token, with all context or the last few characters
dynamic    bits of each token by dynamic evaluation
walk       `evaluate`: one pass over a text
result     the metrics, and the difference of two evaluations
bootstrap  confidence intervals
reference  baselines without a model: compressors, uniform
learned    the share of a text that is in the training text
recording  storing a result in the card of its run
"""

from charlm.evaluation.bootstrap import with_seeds
from charlm.evaluation.dynamic import Dynamic, dynamic_token_bits
from charlm.evaluation.learned import LearnedShare, learned_share
from charlm.evaluation.recording import record
from charlm.evaluation.reference import baselines
from charlm.evaluation.result import Difference, Evaluation, paired_difference
from charlm.evaluation.scoring import token_bits, windowed_token_bits
from charlm.evaluation.walk import evaluate

__all__ = [
    "Difference",
    "Dynamic",
    "Evaluation",
    "LearnedShare",
    "baselines",
    "dynamic_token_bits",
    "evaluate",
    "learned_share",
    "paired_difference",
    "record",
    "token_bits",
    "windowed_token_bits",
    "with_seeds",
]
