"""The n-gram read one token at a time, by numpy, whose calls cost least: what sampling spends its time on.

Shapes: B streams, V vocabulary, K contexts, N contexts that were seen, in all streams.
"""

from dataclasses import dataclass

import numpy as np

from charlm.models.ngram.counting import Integers
from charlm.models.ngram.smoothing import Numbers

FEW = 64  # contexts that are looked up one by one sooner than together


@dataclass(frozen=True)
class Steps:
    """The table of an `NGram`, whose names are those of its tensors."""

    tokens: Integers  # (M,) the last token of each n-gram
    symbol: Integers
    codes: Integers
    first: Integers
    keys: Integers
    mass: Numbers
    backoff: Numbers
    unigram: Numbers

    def after(self, contexts: Integers, tokens: Integers) -> Integers:
        """(B, K) nodes and (B,) tokens -> the nodes (B, K) after those."""
        found = np.full(contexts.shape, -1)
        if not contexts.shape[1]:
            return found
        code = self.codes[tokens]
        found[:, 0] = np.where(code < self.first[1] - 1, code + 1, -1)  # the symbols are the first nodes
        streams, shorter = (contexts[:, :-1] >= 0).nonzero()
        nodes, code = contexts[streams, shorter], code[streams]
        if len(nodes) < FEW:
            wanted = nodes * int(self.first[1]) + code  # as `keys` are made: the root's children are all symbols
            low: Integers = self.keys.searchsorted(wanted)
            hit = self.keys[low] == wanted
        else:
            low, hit = self._halved(nodes, code)
        found[streams[hit], shorter[hit] + 1] = low[hit] + 1
        return found

    def _halved(self, nodes: Integers, code: Integers) -> tuple[Integers, Integers]:
        """Where each node's child with a symbol is, and whether it is: all search at once, each its own children."""
        low, high = self.first[nodes] - 1, self.first[nodes + 1] - 1
        ends = high
        for _ in range(int((high - low).max()).bit_length()):
            middle = low + high >> 1
            less = (self.symbol.take(middle, mode="clip") < code) & (middle < ends)
            low, high = np.where(less, middle + 1, low), np.where(less, high, middle)
        return low, (self.symbol.take(low, mode="clip") == code) & (low < ends)

    def probabilities(self, contexts: Integers) -> Numbers:
        """(B, K) nodes -> (B, V): P of every token after them."""
        B, V = len(contexts), len(self.unigram)
        streams, lengths = (contexts >= 0).nonzero()  # (N,)
        nodes = contexts[streams, lengths]
        left = np.ones((B, contexts.shape[1] + 1), np.float32)
        left[streams, lengths] = self.backoff[nodes]
        left = left[:, ::-1].cumprod(1)[:, ::-1]  # [:, k]: what contexts longer than k leave to those of length k
        begins = self.first[nodes]
        sizes = self.first[nodes + 1] - begins
        ends = sizes.cumsum()
        child = np.arange(sizes.sum()) + (begins - 1 + sizes - ends).repeat(sizes)
        scale = left[streams, lengths + 1].repeat(sizes)
        place = (streams * V).repeat(sizes) + self.tokens[child]
        probs: Numbers = np.bincount(place, self.mass[child] * scale, B * V).reshape(B, V).astype(np.float32)
        probs += self.unigram * left[:, :1]
        return probs
