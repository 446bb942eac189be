"""Models and tokenizers made by hand, whose figures are known, and texts at random."""

import math
import random
import re

import numpy as np
import torch

from charlm.config import Settings
from charlm.models.base import LanguageModel
from charlm.tokenizers import Characters, Tokenizer
from charlm.tokenizers.base import FIRST_PIECE, spell
from charlm.tokenizers.characters import CharactersConfig


class Table(LanguageModel):
    """P(next | last id) from a table (V, V) of probabilities."""

    def __init__(self, probabilities):
        super().__init__()
        self.vocab_size = len(probabilities)
        self.register_buffer("table", torch.as_tensor(probabilities).log().float())

    def initial_state(self, streams):
        return (torch.zeros(streams, 1),)

    def forward(self, tokens, state):
        assert not self.training
        return self.table[tokens], state


class History(LanguageModel):
    """P(next | a number that depends on every id read so far), over some ids, by default all."""

    def __init__(self, vocab_size, ids=None, numbers=11, seed=1):
        super().__init__()
        self.vocab_size, self.numbers = vocab_size, numbers
        ids = range(vocab_size) if ids is None else ids
        noise = torch.randn(numbers, len(ids), generator=torch.Generator().manual_seed(seed))
        table = torch.full((numbers, vocab_size), -math.inf)
        table[:, list(ids)] = (2 * noise).log_softmax(-1)
        self.register_buffer("table", table)

    def initial_state(self, streams):
        return (torch.ones(streams, dtype=torch.int64),)

    def forward(self, tokens, state):
        (number,), steps = state, []
        for column in tokens.unbind(1):
            number = (3 * number + column) % self.numbers
            steps.append(self.table[number])
        return torch.stack(steps, 1), (number,)


class Words(Tokenizer):
    """Pieces of several characters, chosen by hand."""

    Config, kind = Settings, "words"

    def __init__(self, *words):
        super().__init__([word.encode() for word in words], np.unique([ord(c) for c in "".join(words)]))
        self.ids = {word: FIRST_PIECE + number for number, word in enumerate(words)}
        self.pattern = re.compile("|".join([*map(re.escape, words), "(?s:.)"]))

    def encode(self, text):
        parts = [[self.ids[part]] if part in self.ids else spell(part) for part in self.pattern.findall(text)]
        return np.concatenate([np.empty(0), *parts]).astype(np.int32)

    train = from_vocabulary = classmethod(lambda *_: None)

    def vocabulary(self):
        return self.ids


def characters(text, min_count=1):
    return Characters.train([text], CharactersConfig(min_count=min_count))


def varied(size, alphabet="abcd é\n漢😀", seed=0):
    return "".join(random.Random(seed).choices(alphabet, k=size))
