"""What learns while a text is read: what dynamic evaluation computes, what it may not see, what it leaves as it was."""

import json
import math

import numpy as np
import pytest
import torch

from charlm.compression import CompressionConfig, compress, decompress
from charlm.config import BOUNDARY
from charlm.corpus import Text
from charlm.errors import UsageError
from charlm.evaluation import evaluate, token_bits
from charlm.inference import open_engine
from charlm.models import (
    ARCHITECTURES,
    Dynamic,
    Member,
    Mixture,
    MixtureConfig,
    Network,
    NGram,
    adapted,
    nearest,
    select,
)
from charlm.tokenizers import Bytes

V = 12
NETWORKS = [name for name, kind in ARCHITECTURES.items() if issubclass(kind, Network)]
IDS = np.random.default_rng(0).integers(1, V, 150).astype(np.uint16)


def network(name, vocab_size=V):
    torch.manual_seed(1)
    kind = ARCHITECTURES[name]
    options = {"width": 8, "layers": 1} | ({"heads": 2, "window": 5} if name == "transformer" else {})
    return kind(kind.Config(**options), vocab_size).eval()


def bits(model, ids=IDS, chunk=None, **settings):
    return np.concatenate(list(token_bits(adapted(model, "all", Dynamic(**settings)), ids, chunk=chunk)))


def mixture():
    """Of a network and an n-gram that counts what it reads."""
    counting = NGram(NGram.Config(order=3, cache=50), V)
    counting.fit(IDS[:100], IDS[100:])
    rnn = network("rnn")
    members = Member("ngram", counting.config), Member("rnn", rnn.config)
    return Mixture(MixtureConfig(members=members), V, [counting, rnn]).eval()


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


@pytest.mark.parametrize("make", [*NETWORKS, "mixture"])
def test_the_laws_hold_while_weights_learn(make):
    model = adapted(mixture() if make == "mixture" else network(make), "all", Dynamic(rate=0.05, segment=8))
    tokens = torch.from_numpy(np.stack([IDS[:50], IDS[50:100]]).astype(np.int64))
    with torch.no_grad():
        whole, _ = model(tokens, model.initial_state(2))
        assert whole.logsumexp(-1).abs().max() < 1e-5
        first, middle = model(tokens[:, :21], model.initial_state(2))
        before = [leaf.clone() for leaf in middle]
        rest, _ = model(tokens[:, 21:], middle)
        assert (torch.cat([first, rest], 1) - whole).abs().max() < 1e-4
        assert all(torch.equal(*pair) for pair in zip(middle, before, strict=True))
        swapped, _ = model(tokens.flip(0)[:, 21:], select(middle, torch.tensor([1, 0])))
        assert (swapped.flip(0) - rest).abs().max() < 1e-5
        scores, _ = model.score(tokens[:, :-1], tokens[:, 1:], model.initial_state(2))
        assert (scores - whole[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]).abs().max() < 1e-4
        engine = open_engine(model)
        states = [
            engine.read(row[:length].numpy(), engine.start(1))[1] for row, length in zip(tokens, (21, 30), strict=True)
        ]
        log_probs, _ = engine.step(np.array([tokens[0, 21], tokens[1, 30]]), engine.join(states))
        assert abs(log_probs - torch.stack([whole[0, 21], whole[1, 30]]).numpy()).max() < 1e-4


def test_each_kind_of_adaptation_is_another_model():
    model = mixture()
    figures = {
        adapt: sum(map(np.sum, token_bits(adapted(model, adapt), IDS))) for adapt in (None, "none", "counts", "all")
    }
    assert figures[None] == figures["counts"]
    assert len({*figures.values()}) == 3
    assert [adapted(model, adapt).adaptation for adapt in ("none", "counts", "all")] == ["none", "counts", "all"]
    assert [nearest(network("rnn"), adapt) for adapt in (None, "none", "counts", "all")] == [
        None,
        "none",
        "none",
        "all",
    ]


@pytest.mark.parametrize("adapt", ["none", "counts", "all"])
def test_what_adapts_is_stored_in_the_bits_that_it_claims_and_comes_back(adapt):
    text, tokenizer = Text.from_string("abracadabra " * 60, "spell"), Bytes.train([], Bytes.Config())
    counting = NGram(NGram.Config(order=3, cache=50), tokenizer.vocab_size)
    ids = np.frombuffer(b"abra cadabra " * 9, np.uint8).astype(np.uint16) + 1
    counting.fit(ids[:100], ids[100:])
    rnn = network("rnn", tokenizer.vocab_size)
    members = Member("ngram", counting.config), Member("rnn", rnn.config)
    model = Mixture(MixtureConfig(members=members), tokenizer.vocab_size, [counting, rnn]).eval()
    made = compress(model, tokenizer, b"abracadabra " * 60, CompressionConfig(adapt=adapt))
    assert made.container.header.adapt == adapt
    assert made.bits == pytest.approx(evaluate(model, tokenizer, text, adapt=adapt).bits, rel=1e-5)
    assert decompress(made.content, model, tokenizer) == b"abracadabra " * 60


def test_what_repeats_is_learned():
    text, tokenizer = Text.from_string("abracadabra " * 100, "spell"), Bytes.train([], Bytes.Config())
    model = network("lstm", tokenizer.vocab_size)
    ordinary = evaluate(model, tokenizer, text)
    learned = evaluate(model, tokenizer, text, adapt="all", dynamic=Dynamic(rate=0.01))
    assert learned.bits_per_character < ordinary.bits_per_character - 1
    assert (ordinary.adapt, ordinary.dynamic) == ("none", None)
    assert (learned.adapt, learned.dynamic) == ("all", {"rate": 0.01, "decay": 0.001, "segment": 64})


def test_what_does_not_go_together_is_refused():
    text, tokenizer = Text.from_string("ab" * 100, "text"), Bytes.train([], Bytes.Config())
    with pytest.raises(UsageError, match="it goes with no `context`"):
        evaluate(network("rnn", tokenizer.vocab_size), tokenizer, text, adapt="all", context=3)
    with pytest.raises(UsageError, match="`adapt` all: NGram has no gradients"):
        adapted(NGram(NGram.Config(), V), "all")
    with pytest.raises(UsageError, match="`adapt` counts: RNN does not count"):
        adapted(network("rnn"), "counts")
    with pytest.raises(UsageError, match="`adapt` must be one of none, counts, all"):
        adapted(network("rnn"), "weights")


def test_the_commands_say_what_kind_of_figure_it_is(folder, charlm):
    assert charlm("train", "corpus.txt", "--arch", "rnn", "--size", "tiny", "--budget", "3steps", "-o", "run").code == 0
    assert charlm("train", "corpus.txt", "--arch", "ngram", "-o", "counted").code == 0
    assert "adapts" not in charlm("evaluate", "run").out
    assert "weights went on learning" in charlm("evaluate", "run", "--adapt", "all").out
    assert "it counts what it reads" in charlm("evaluate", "counted").out
    assert "no, although" in charlm("evaluate", "counted", "--adapt", "none").out
    figures = json.loads(charlm("evaluate", "run", "--adapt", "all", "--adapt-rate", "0.002", "--json").out)
    assert (figures["adapt"], figures["dynamic"]["rate"]) == ("all", 0.002)
    assert charlm("evaluate", "run", "--adapt", "all", "--adapt-rate", "0").code == 2
    proof = json.loads(charlm("evaluate", "run", "--adapt", "all", "--prove", "--json").out)["proof"]
    assert proof["ratio"] < 1.01
    scores = [
        json.loads(charlm("score", "run", "ab" * 99, "--adapt", a, "--json").out)["bits"] for a in ("none", "all")
    ]
    assert scores[0] != scores[1]


def test_a_comparison_shows_what_adapts_beside_what_does_not(folder, charlm):
    train = ("compare", "corpus.txt", "--arch", "rnn,ngram", "--size", "tiny", "--budget", "3steps", "--json")
    kinds = {}
    for adapt in (), ("--adapt", "none"), ("--adapt", "all"):
        rows = json.loads(charlm(*train, *adapt).out)["rows"]
        kinds[adapt[1:]] = sorted((row["name"], row["adapt"]) for row in rows)
    frozen = ("ngram (frozen)", "none")
    assert kinds[()] == [("ngram", "counts"), frozen, ("rnn", "none")]
    assert kinds["none",] == [("ngram", "none"), ("rnn", "none")]
    assert kinds["all",] == [("ngram", "counts"), frozen, ("rnn", "all"), ("rnn (frozen)", "none")]
