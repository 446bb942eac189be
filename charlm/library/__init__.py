"""The library as a user sees it: train, compare and load by one call each, and a run that samples, evaluates, scores.

run        a trained model with its tokenizer     training   a text, an architecture and a budget into a run
comparing  architectures on one text              progress   bars in notebooks
"""

from charlm.library.comparing import Comparison, compare
from charlm.library.run import Run, load
from charlm.library.training import train

__all__ = ["Comparison", "Run", "compare", "load", "train"]
