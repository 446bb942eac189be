"""The model of contexts.

spelling    what the ids look like as text         carried     what a place knows of the text before it
tree        the binary tree over the symbols       hashing     the contexts of a place
tables      what is learned                        mixing      what they say of a turn in the tree
packing     the same as tensors that are saved     reading     the loop that reads, learns and predicts
                                                   reader      texts, each with what was learned from it
                                                   model       the model itself
                                                   ablation    what a kind of context saves at one place
"""

from charlm.models.contexts.model import SECONDS_PER_TOKEN, Contexts, ContextsConfig

__all__ = ["SECONDS_PER_TOKEN", "Contexts", "ContextsConfig"]
