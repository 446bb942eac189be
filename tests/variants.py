"""A small model of every kind that the laws are tested with, untrained but for its counts, built and loaded."""

from functools import cache
from itertools import cycle, product
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from conftest import few_steps
from torch import nn

from charlm import checkpoint
from charlm.models import ARCHITECTURES, CountingModel, Member
from charlm.models.transformer import ACTIVATIONS, NORMS
from charlm.tokenizers import Characters
from charlm.tokenizers.characters import CharactersConfig

TEXT = "abracadabra, said the cat; the crab sat on a red cart and read.\n" * 8
TOKENIZER = Characters.train([TEXT], CharactersConfig())
V = TOKENIZER.vocab_size
SMALL = {"width": 16, "layers": 1, "heads": 2, "window": 3, "embedding": 4, "order": 4, "delay": 5}


def small(architecture, **options):
    known = ARCHITECTURES[architecture].Config.names()
    return architecture, {name: value for name, value in SMALL.items() if name in known} | options


def mixed(combine, *members):
    """A mixture of small models."""
    made = (Member(name, ARCHITECTURES[name].Config().changed(small(name)[1])) for name in members)
    return "mixture", {"combine": combine, "members": tuple(made)}


VARIANTS = {
    **{name: small(name) for name in ARCHITECTURES},
    **{f"{name}-deep-tied": small(name, layers=2, tie=True, dropout=0.5) for name in ("rnn", "gru", "lstm")},
    "rnn-relu": small("rnn", activation="relu", layers=2),
    "ngram-kneser-ney": small("ngram", smoothing="kneser-ney"),
    "ngram-short-cache": small("ngram", cache=5),
    "ngram-kenlm-cache": small("ngram", smoothing="kenlm", cache=40, order=2),
    "contexts-static": small("contexts", adapt="none"),
    "feedforward-direct-tanh": small("feedforward", direct=True, activation="tanh", layers=2, dropout=0.5),
    "feedforward-bigram": small("feedforward", window=1),
    "transformer-deep-tied": small("transformer", layers=3, tie=True, dropout=0.5),
    "transformer-one-kv-head": small("transformer", heads=4, kv_heads=1, layers=2),
    "transformer-two-kv-heads": small("transformer", heads=4, kv_heads=2, window=20),
    "transformer-window-1": small("transformer", window=1),
    "transformer-pairs": small("transformer", previous=True, layers=2),
    "transformer-window-100": small("transformer", window=100, layers=2),
    "mixture-linear": mixed("linear", "gru", "ngram"),
    "mixture-log-linear": mixed("log-linear", "transformer", "ngram", "feedforward"),
    "mixture-of-mixtures": mixed("gate", "mixture", "rnn"),
    **{
        "-".join(("transformer", positions, attention, norm, activation)): small(
            "transformer", positions=positions, attention=attention, norm=norm, activation=activation
        )
        for (positions, attention), norm, activation in zip(
            product(("rotary", "sinusoidal", "none"), ("qkv", "dot", "mean")),
            cycle(NORMS),
            cycle(ACTIVATIONS),
            strict=False,
        )
    },
}


@cache
def built(variant):
    architecture, options = VARIANTS[variant]
    kind = ARCHITECTURES[architecture]
    torch.manual_seed(1)
    model = kind(kind.Config(**options) if "members" in options else kind.Config().changed(options), V)
    ids = TOKENIZER.encode(TEXT)
    with few_steps():  # in the processes that tests start, too
        for counting in model.modules():
            if isinstance(counting, CountingModel):
                counting.fit(ids[:-100], ids[-100:])
    for weight in model.parameters():
        if not weight.any():  # a zero that stands where learned numbers will hides what they do
            nn.init.normal_(weight, std=0.3)
    return model.eval()


@cache
def loaded(variant):
    with TemporaryDirectory() as folder:
        checkpoint.save(Path(folder), VARIANTS[variant][0], built(variant), TOKENIZER)
        return checkpoint.load(Path(folder)).model


def drawn(streams, steps, seed=0):
    letters = torch.as_tensor(TOKENIZER.encode(TEXT[:200]), dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    tokens = letters[torch.randint(len(letters), (streams, steps), generator=generator)]
    tokens[:, 0] = 0
    tokens[:, steps // 3] = 3  # a byte that training never saw
    return tokens
