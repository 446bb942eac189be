"""Evaluation of a model on a text; all of charlm's metrics are defined here.

scoring    bits of each token, with all context or the last few characters
walk       `evaluate`: one pass over a text
result     the metrics, and the difference of two evaluations
bootstrap  confidence intervals
reference  baselines without a model: compressors, uniform
learned    the share of a text that is in the training text
recording  storing a result in the card of its run
"""

from charlm.evaluation.bootstrap import with_seeds
from charlm.evaluation.learned import LearnedShare, learned_share
from charlm.evaluation.recording import record
from charlm.evaluation.reference import baselines
from charlm.evaluation.result import Difference, Evaluation, paired_difference
from charlm.evaluation.scoring import token_bits, windowed_token_bits
from charlm.evaluation.walk import evaluate

__all__ = [
    "Difference",
    "Evaluation",
    "LearnedShare",
    "baselines",
    "evaluate",
    "learned_share",
    "paired_difference",
    "record",
    "token_bits",
    "windowed_token_bits",
    "with_seeds",
]
