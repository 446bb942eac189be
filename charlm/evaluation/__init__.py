"""How good a model is on a text: the numbers of the whole house, defined once.

scoring    bits of each token, with all context or the last few characters
dynamic    bits of each token, by a model that goes on learning
walk       one walk over a text
result     the figures, and the difference of two
bootstrap  how sure they are
reference  what needs no model
learned    how much of a text was learned from
recording  a figure into the card of its run
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
