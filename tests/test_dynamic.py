"""Dynamic evaluation: what it computes, what it may not see, and what it leaves as it was."""

import json
import math

import numpy as np
import pytest
import torch

from charlm.config import BOUNDARY
from charlm.corpus import Text
from charlm.errors import UsageError
from charlm.evaluation import Dynamic, dynamic_token_bits, evaluate, token_bits
from charlm.models import ARCHITECTURES, Network, NGram
from charlm.tokenizers import Bytes

V = 12
NETWORKS = [name for name, kind in ARCHITECTURES.items() if issubclass(kind, Network)]
IDS = np.random.default_rng(0).integers(1, V, 150).astype(np.uint16)


def network(name, vocab_size=V):
    torch.manual_seed(1)
    kind = ARCHITECTURES[name]
    options = {"width": 8, "layers": 1} | ({"heads": 2, "window": 5} if name == "transformer" else {})
    return kind(kind.Config(**options), vocab_size).eval()


def bits(model, ids=IDS, **settings):
    return np.concatenate(list(dynamic_token_bits(model, ids, Dynamic(**settings))))


def test_it_is_its_equations():
    model, learner = network("gru"), network("gru")
    rate, decay, T, expected = 0.01, 0.1, 40, []
    start = [weight.detach().clone() for weight in learner.parameters()]
    squares, state, last = [0.0] * len(start), learner.initial_state(1), BOUNDARY
    for number, begin in enumerate(range(0, len(IDS), T), 1):
        targets = torch.from_numpy(IDS[begin : begin + T].astype(np.int64))
        tokens = torch.cat([torch.tensor([last]), targets[:-1]])
        log_probs, state = learner(tokens[None], state)
        found = log_probs[0, torch.arange(len(targets)), targets]
        expected += (found / -math.log(2)).tolist()
        learner.zero_grad()
        (-found.mean()).backward()
        with torch.no_grad():
            for place, weight in enumerate(learner.parameters()):
                squares[place] = 0.999 * squares[place] + 0.001 * weight.grad**2
                weight -= rate * weight.grad / ((squares[place] / (1 - 0.999**number)).sqrt() + 1e-8)
                weight += decay * (start[place] - weight)
        state, last = tuple(leaf.detach() for leaf in state), int(targets[-1])
    np.testing.assert_allclose(bits(model, rate=rate, decay=decay, segment=T), expected, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_a_step_it_is_the_ordinary_figure_and_the_model_stays_as_it_is(name):
    model = network(name).train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    ordinary = np.concatenate(list(token_bits(model, IDS)))
    np.testing.assert_allclose(bits(model, rate=1e-30), ordinary, atol=1e-4)
    assert abs(bits(model, rate=0.1) - ordinary).max() > 0.01
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_learned_from_a_token_before_it_is_scored(name):
    model, changed = network(name), IDS.copy()
    changed[100] = changed[100] % (V - 1) + 1
    first, second = bits(model, rate=0.1, segment=16), bits(model, changed, rate=0.1, segment=16)
    np.testing.assert_array_equal(first[:100], second[:100])
    assert first[100] != second[100]
    assert (first[112:] != second[112:]).any()


def test_what_repeats_is_learned():
    text, tokenizer = Text.from_string("abracadabra " * 100, "spell"), Bytes.train([], Bytes.Config())
    model = network("lstm", tokenizer.vocab_size)
    ordinary, dynamic = evaluate(model, tokenizer, text), evaluate(model, tokenizer, text, dynamic=Dynamic(rate=0.01))
    assert dynamic.bits_per_character < ordinary.bits_per_character - 1
    assert ordinary.to_json()["dynamic"] is None
    assert dynamic.to_json()["dynamic"] == {"rate": 0.01, "decay": 0.001, "segment": 64}


def test_what_does_not_go_together_is_refused():
    text, tokenizer = Text.from_string("ab" * 100, "text"), Bytes.train([], Bytes.Config())
    with pytest.raises(UsageError, match="it goes with no `context`"):
        evaluate(network("rnn", tokenizer.vocab_size), tokenizer, text, dynamic=Dynamic(), context=3)
    with pytest.raises(UsageError, match="`dynamic` is for networks"):
        evaluate(NGram(NGram.Config(), tokenizer.vocab_size), tokenizer, text, dynamic=Dynamic())


def test_the_command_says_that_it_is_another_figure(folder, charlm):
    assert charlm("train", "corpus.txt", "--arch", "rnn", "--size", "tiny", "--budget", "3steps", "-o", "run").code == 0
    assert "dynamic" not in charlm("evaluate", "run").out
    assert "dynamic evaluation" in charlm("evaluate", "run", "--dynamic").out
    found = json.loads(charlm("evaluate", "run", "--dynamic-rate", "0.002", "--json").out)
    assert found["dynamic"]["rate"] == 0.002
    assert charlm("evaluate", "run", "--dynamic-rate", "0").code == 2
