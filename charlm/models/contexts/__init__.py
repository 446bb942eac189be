"""The model of contexts.

spelling    what the ids look like as text         hashing     the contexts of a place
tree        the binary tree over the symbols       mixing      what they say of a turn in the tree
tables      what is learned                        reading     the loop that reads, learns and predicts
packing     the same as tensors that are saved     model       the model itself
"""

from charlm.models.contexts.model import Contexts, ContextsConfig

__all__ = ["Contexts", "ContextsConfig"]
