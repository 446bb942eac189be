"""The n-gram read one token at a time, by numpy, whose calls cost least: what sampling spends its time on.

Shapes: B streams, V vocabulary, K contexts, N contexts that were seen and M n-grams that follow those, in all streams;
W window of the cache.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from charlm.models.ngram.cache import BEFORE, Cache, Echoes, Static, tally
from charlm.models.ngram.counting import Integers
from charlm.models.ngram.smoothing import Numbers


class Following(NamedTuple):
    """The n-grams that continue the contexts (B, K) of some streams, context by context."""

    contexts: Integers  # (B, K)
    streams: Integers  # (N,) whose context it is
    columns: Integers  # (N,) and which: contexts[stream, column]
    sizes: Integers  # (N,) how many n-grams continue it
    ngrams: Integers  # (M,)
    places: Integers  # (M,) stream * V + the token that each ends in


@dataclass(frozen=True)
class Steps:
    """The table of an `NGram`, whose names are those of its tensors."""

    tokens: Integers  # the last token of each n-gram
    codes: Integers
    first: Integers
    mass: Numbers
    backoff: Numbers
    unigram: Numbers

    def following(self, contexts: Integers) -> Following:
        """Of (B, K) nodes."""
        streams, columns = (contexts >= 0).nonzero()
        nodes = contexts[streams, columns]
        begins = self.first[nodes]
        sizes = self.first[nodes + 1] - begins
        offsets = begins - 1 + sizes - sizes.cumsum()
        ngrams = np.arange(sizes.sum()) + offsets.repeat(sizes)
        places = (streams * len(self.unigram)).repeat(sizes) + self.tokens.take(ngrams)
        return Following(contexts, streams, columns, sizes, ngrams, places)

    def after(self, before: Following, tokens: Integers) -> Integers:
        """The nodes (B, K) once each stream has read one of `tokens` (B,)."""
        B, K = before.contexts.shape
        found = np.full((B, K + 1), -1)
        codes, wanted = self.codes[tokens], np.zeros((B, len(self.unigram)), bool)
        found[:, 0] = np.where(codes < self.first[1] - 1, codes + 1, -1)  # the symbols are the first nodes
        wanted[np.arange(B), tokens] = True
        read = wanted.reshape(-1).take(before.places).nonzero()[0]
        context = before.sizes.cumsum().searchsorted(read, "right")
        found[before.streams[context], before.columns[context] + 1] = before.ngrams[read] + 1
        return found[:, :K]

    def static(self, contexts: Integers) -> Static:
        """What a cache wants to know of nodes (B, K): (B,) each."""
        return Static((contexts >= 0).sum(1), self.backoff.take(contexts.max(1, initial=0)))  # the longer, the higher

    def probabilities(self, following: Following) -> Numbers:
        """(B, V): P of every token."""
        contexts, streams, columns, sizes, ngrams, places = following
        (B, K), V = contexts.shape, len(self.unigram)
        left = np.ones((B, K + 1), np.float32)
        left[streams, columns] = self.backoff[contexts[streams, columns]]
        left = left[:, ::-1].cumprod(1)[:, ::-1]  # [:, k]: what contexts longer than k leave to those of length k
        shares = self.mass.take(ngrams) * left[streams, columns + 1].repeat(sizes)
        probs: Numbers = np.bincount(places, shares, B * V).reshape(B, V).astype(np.float32)
        probs += self.unigram * left[:, :1]
        return probs


class Heard(NamedTuple):
    """What a cache knows between two tokens."""

    tokens: Integers  # (B, W + 1) the last that were read, -1 before the first
    lengths: Integers  # (B, W) uint8: of each but the last, how many tokens up to it, BEFORE at most, are the last ones

    @classmethod
    def of(cls, history: Integers, window: int) -> "Heard":
        """From the state of `Cache`, (B, .. BEFORE + W)."""
        streams, length = history.shape
        begin = max(0, length - BEFORE)
        nothing = np.full((streams, max(0, window + 1 - begin)), -1, history.dtype)
        heard = cls(
            np.concatenate((nothing, history[:, max(0, begin - window - 1) : begin]), 1),
            np.zeros((streams, window), np.uint8),
        )
        for tokens in history[:, begin:].T:
            heard = heard.after(tokens)
        return heard

    def after(self, tokens: Integers) -> "Heard":
        """Once `tokens` (B,) have been read."""
        read = np.concatenate((self.tokens[:, 1:], tokens[:, None]), 1, dtype=self.tokens.dtype, casting="unsafe")
        most = np.full(self.lengths.shape[1], BEFORE - 1, np.uint8)  # a scalar would cost ten times as much
        lengths = np.minimum(self.lengths, most)
        lengths += 1
        lengths *= (read[:, :-1] == read[:, -1:]).view(np.uint8)
        return Heard(read, lengths)

    def echoes(self) -> Echoes:
        """Of the last token of each stream."""
        streams, window = self.lengths.shape
        at = (self.lengths.reshape(-1) > 1).nonzero()[0]
        stream = at // window
        return tally(stream, self.tokens.reshape(-1).take(at + stream + 1), self.lengths.reshape(-1).take(at), streams)


def spread(cache: Cache, probs: Numbers, static: Static, heard: Heard) -> Numbers:
    """Probabilities (B, V) that the counts give, with the echoes."""
    found = heard.echoes()
    amount, rest = cache.trusted(found, static)
    probs = probs * rest[:, None]
    np.add.at(probs.reshape(-1), found.place * probs.shape[1] + found.follower, amount)
    return probs
