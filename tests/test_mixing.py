"""Combinations against optima worked out by hand or by trying all; mixtures that are tuned without hindsight."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from conftest import TEXT, few_steps, observing
from test_training import SPLIT, TOKENIZER, progress, same, settings

from charlm import checkpoint
from charlm.config import BOUNDARY
from charlm.corpus import encode
from charlm.errors import CheckpointError, UsageError
from charlm.evaluation import evaluate
from charlm.mixing import TuningText, mix
from charlm.models import COMBINATIONS, LSTM, Member, Mixture, NGram
from charlm.models.mixture.combining import Gate, Linear, LogLinear
from charlm.training import loop, resume, train
from charlm.training import mixture as trained_mixtures
from charlm.training.streams import Streams

V = TOKENIZER.vocab_size
CONFIG = Mixture.Config().changed({"width": 16, "order": 3})


@pytest.fixture(scope="module", autouse=True)
def hasty_gates():
    """Here gates learn."""


def expert_log_probs(places, members, ids, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(places, members, ids, generator=generator)
    chosen = torch.randint(members, (places, 1, 1), generator=generator).expand(-1, 1, ids)
    targets = logits.softmax(2).gather(1, chosen).squeeze(1).multinomial(1, generator=generator).squeeze(1)
    return logits.log_softmax(2), targets


def tuned(kind, experts, targets, log_counts=None):
    combination = kind(experts.shape[1])
    combination.tune(
        experts, targets, torch.zeros(experts.shape[2]) if log_counts is None else log_counts, lambda _: None
    )
    return combination


def nats(combination, experts, targets, log_counts=None):
    return -combination(experts, log_counts).gather(1, targets[:, None]).double().mean().item()


# Combinations


@pytest.mark.parametrize(("share", "weight"), [(0.5, 0.5), (0.65, 0.75), (0.8, 1.0), (0.9, 1.0)])
def test_expectation_maximisation_finds_the_optimum(share, weight):
    """One says 0.8 and 0.2, the other 0.2 and 0.8; P(a) = 0.2 + 0.6 w is the share of a at the best w within 0..1."""
    experts = torch.tensor([[0.8, 0.2], [0.2, 0.8]]).log().expand(1000, 2, 2)
    targets = (torch.arange(1000) >= 1000 * share).long()
    combination = tuned(Linear, experts, targets)
    assert combination.shares.softmax(0)[0].item() == pytest.approx(weight, abs=0.02)
    assert combination(experts[:1])[0, 0].exp().item() == pytest.approx(min(share, 0.8), abs=0.005)


def test_linear_weights_are_those_of_a_grid():
    experts, targets = expert_log_probs(2000, 3, 5)
    found = nats(tuned(Linear, experts, targets), experts, targets)
    grid = [(a / 50, b / 50) for a in range(51) for b in range(51 - a)]
    at = experts.gather(2, targets.view(-1, 1, 1).expand(-1, 3, 1)).squeeze(2).double().exp()
    best = min(-(at @ torch.tensor([a, b, max(0.0, 1 - a - b)]).double()).log().mean().item() for a, b in grid)
    assert found <= best + 1e-5
    assert found >= best - 1e-3


def test_a_product_finds_the_exponents_that_made_the_text():
    """Members that are too sure and not sure enough of one truth."""
    truth = (1.5 * torch.randn(4000, 6, generator=torch.Generator().manual_seed(1))).log_softmax(1)
    targets = truth.exp().multinomial(1, generator=torch.Generator().manual_seed(2)).squeeze(1)
    experts = torch.stack([(2 * truth).log_softmax(1), torch.zeros(4000, 6).log_softmax(1)], 1)
    assert tuned(LogLinear, experts, targets).exponents[0].item() == pytest.approx(0.5, abs=0.05)


def test_a_gate_is_not_worse_than_fixed_weights():
    """The first is right where it is sure and the second elsewhere, which only a gate can see."""
    experts, _ = expert_log_probs(4000, 2, 8)
    experts[::2, 0] = -math.log(8)
    right = torch.cat([experts[::2, 1], experts[1::2, 0]])
    experts = torch.cat([experts[::2], experts[1::2]])
    targets = right.exp().multinomial(1, generator=torch.Generator().manual_seed(0)).squeeze(1)
    fixed = min(nats(tuned(kind, experts, targets), experts, targets) for kind in (Linear, LogLinear))
    assert nats(tuned(Gate, experts, targets), experts, targets) < fixed - 0.01


@pytest.mark.parametrize("kind", COMBINATIONS.values())
def test_a_column_that_stands_for_several_ids_is_those_ids(kind):
    experts, targets = expert_log_probs(500, 2, 4)
    spelled = torch.cat([experts[..., :3], (experts[..., 3:] - math.log(5)).expand(-1, -1, 5)], 2)
    experts = torch.cat([experts[..., :3], experts[..., 3:] - math.log(5)], 2)
    log_counts = torch.tensor([0.0, 0.0, 0.0, math.log(5)])
    one, many = tuned(kind, experts, targets, log_counts), tuned(kind, spelled, targets)
    for few, all_ids in zip(one.parameters(), many.parameters(), strict=True):
        torch.testing.assert_close(few, all_ids, rtol=0, atol=1e-3)
    torch.testing.assert_close(one(experts, log_counts), one(spelled)[..., :4], rtol=0, atol=1e-5)


# What is asked


@pytest.mark.parametrize("kind", [Linear, LogLinear, Gate])
def test_weights_sum_to_one_and_an_expert_that_is_taken_alone_has_all(kind):
    experts, _ = expert_log_probs(50, 3, 7)
    combination = kind(3)
    assert torch.allclose(combination.weights(experts), torch.full((50, 3), 1 / 3), atol=1e-6)
    for weight in combination.parameters():
        weight.copy_(torch.randn_like(weight))
    assert torch.allclose(combination.weights(experts).sum(1), torch.ones(50), atol=1e-6)
    alone = torch.tensor([0.0, 1.0, 0.0])
    if kind is Linear:
        combination.shares.copy_(alone * 100)
    elif kind is LogLinear:
        combination.exponents.copy_(alone)
    else:
        combination.outward.zero_()
        combination.bias.copy_(torch.cat([alone, torch.tensor([0.0]), alone * 0]))
        combination.bias[5] = 100
    assert torch.allclose(combination(experts), experts[:, 1], atol=1e-5)
    assert torch.allclose(combination.weights(experts), alone.expand(50, 3), atol=1e-6)


def counted(text=SPLIT.train):
    model = NGram(CONFIG.members[0].config, V)
    asked = []
    model.fit(
        encode(text, TOKENIZER), encode(SPLIT.validation, TOKENIZER), before=lambda one: asked.append(copied(one))
    )
    return model, asked[0]


def copied(model):
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return NGram.from_tensors(model.config, V, tensors)


def test_what_is_asked_before_has_not_counted_the_slice():
    after, before = counted()
    text = encode(SPLIT.train, TOKENIZER)
    alone = NGram(NGram.Config(order=3, smoothing="absolute", cache=0), V)
    alone.fit(text, text[:0])
    assert before.parameters_count == alone.parameters_count + (V - 257 - len(np.unique(text)))
    assert after.parameters_count > before.parameters_count
    places = TuningText(encode(SPLIT.validation, TOKENIZER), V)
    assert places.nats(places.log_probs(after)) < places.nats(places.log_probs(before))


@pytest.mark.parametrize("most", [1 << 16, 1 << 10])
def test_places(monkeypatch, most):
    ids = np.resize(encode(SPLIT.training, TOKENIZER), 3000)
    monkeypatch.setattr("charlm.mixing.tuning_text.MAX_PLACES", most)
    places, (model, _) = TuningText(ids, V), counted()
    experts = places.log_probs(model)
    streams = len(places.tokens)
    assert (streams, len(places.targets)) == ((1, 3000) if most > 3000 else (8, 1024))
    assert (places.tokens[:, 0] == BOUNDARY).all()
    assert (experts + places.log_counts).logsumexp(1).abs().max() < 1e-5
    tokens = torch.cat([places.tokens, places.columns[places.targets].view(streams, -1)[:, -1:]], 1)
    with torch.no_grad():
        expected, _ = model.score(tokens[:, :-1], tokens[:, 1:], model.initial_state(streams))
    found = experts.gather(1, places.targets[:, None])
    torch.testing.assert_close(found.flatten(), expected.flatten(), rtol=0, atol=1e-4)


# Training one


@pytest.fixture
def hasty():
    """What a gate learns does not matter."""
    with few_steps():
        yield


def mixture(path, budget="24steps", observer=None, **options):
    path.mkdir(exist_ok=True)
    training = settings("lstm", budget, **options)
    return train(path, SPLIT, TOKENIZER, "mixture", CONFIG, training, observer=observer)


def until(step):
    """Stop once this step is reported."""
    seen = [0]
    return observing(on_progress=lambda p: seen.append(p.step), should_stop=lambda: seen[-1] >= step)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("join", [True, False])
def test_it_is_weighed_once_before_the_slice_is_learned(tmp_path, monkeypatch, join):
    order, segment, weigh = [], Streams.segment, TuningText.tune
    monkeypatch.setattr(Streams, "segment", lambda self, step: order.append(len(self.ids)) or segment(self, step))
    monkeypatch.setattr(TuningText, "tune", lambda *a: order.append("weighed") or weigh(*a))
    monkeypatch.setattr(loop.Trainer, "loss", lambda _: 0.0)  # which reads a segment, too, before a save
    done = mixture(tmp_path, join=join)
    alone, both = (len(encode(part, TOKENIZER)) for part in (SPLIT.train, SPLIT.training))
    joined = progress(tmp_path)["joined"]
    assert (joined is not None) == join
    assert order == [alone] * (joined or 24) + ["weighed"] + [both] * (24 - (joined or 24))
    assert done.finished
    loaded = checkpoint.load(tmp_path).model
    assert same(loaded, done.model)
    ngram, contexts, network = loaded.each()
    assert same(ngram, counted()[0])
    assert len(contexts.ids) > 0
    bits = [evaluate(model, TOKENIZER, SPLIT.validation).bits_per_character for model in (loaded, ngram, network)]
    assert bits[0] < bits[2]


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("stops", [[5], [5, 16], [17]])
def test_a_mixture_resumes(tmp_path, monkeypatch, stops):
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)
    whole = mixture(tmp_path / "whole")
    done = mixture(tmp_path / "parts", observer=until(stops[0]))
    for stop in (*stops[1:], 99):
        assert not done.finished
        done = resume(checkpoint.load(done.path, resume=True), SPLIT, observer=until(stop))
    assert done.finished
    assert same(done.model, whole.model)
    assert progress(done.path)["joined"] == progress(whole.path)["joined"]


@pytest.mark.usefixtures("hasty")
def test_counting_and_weighing_are_part_of_the_budget(tmp_path, monkeypatch):
    weigh = trained_mixtures.MixtureTuning.tune

    def slow(self):
        loop.time.sleep(0.5)
        weigh(self)

    monkeypatch.setattr(trained_mixtures.MixtureTuning, "tune", slow)
    done = mixture(tmp_path, "2s")
    counters = progress(tmp_path)
    assert done.finished
    assert 0 < counters["prepared"] < counters["seconds"]
    assert counters["step"] == counters["steps"]


def test_only_one_network_is_trained_with_what_counts(tmp_path):
    config = Mixture.Config(members=(Member("lstm", LSTM.Config(width=4)), Member("lstm", LSTM.Config(width=4))))
    with pytest.raises(UsageError, match="one network and models that count"):
        train(tmp_path, SPLIT, TOKENIZER, "mixture", config, settings("lstm"))


# What a card says


def deep(levels):
    config = CONFIG
    for _ in range(levels - 1):
        config = Mixture.Config(members=(Member("mixture", config), CONFIG.members[0]))
    return config


def test_no_deeper_than_anyone_needs():
    assert deep(4).depth == 4
    with pytest.raises(UsageError, match="5 deep; 4 is the most"):
        deep(5)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "2 to 16 members, not 0"),
        ([CONFIG.to_json()["members"][0]] * 17, "2 to 16 members, not 17"),
        ("ngram", "are not listed"),
        ([3, 4], "not described as one"),
        ([{"architecture": "lstm"}] * 2, "not described as one"),
        ([{"architecture": ["lstm"], "config": {}}] * 2, "unknown architecture"),
        ([{"architecture": "lstn", "config": {}}] * 2, "unknown architecture 'lstn'"),
        ([{"architecture": "lstm", "config": {"width": 0}}] * 2, "`width` must be at least 1"),
        ([{"architecture": "lstm", "config": 3}] * 2, "expected an object"),
    ],
)
def test_members_that_are_none(members, message):
    with pytest.raises(CheckpointError, match=message):
        Mixture.Config.from_json({"combine": "gate", "members": members}, "card", CheckpointError)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("levels", [5, 200, 400, 5000])
def test_a_card_of_endless_depth_is_refused(tmp_path, levels):
    mixture(tmp_path, "1steps")
    card = json.loads((tmp_path / checkpoint.CARD).read_text())
    ngram = card["config"]["members"][0]
    config = json.dumps(card["config"])
    for _ in range(levels):
        config = f'{{"combine":"gate","members":[{{"architecture":"mixture","config":{config}}},{json.dumps(ngram)}]}}'
    text = json.dumps({**card, "config": None}).replace('"config": null', f'"config": {config}')
    (tmp_path / checkpoint.CARD).write_text(text)
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path)


# Runs into one, by the command line

QUICK = ("--budget", "30steps", "--size", "tiny", "--batch", "4", "--segment", "16", "--width", "16")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with three runs of one text: counted, apart (an lstm), and joined (a gru)."""
    from charlm import cli

    folder = tmp_path_factory.mktemp("mix")
    (folder / "corpus.txt").write_text(TEXT * 3, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched, few_steps():
        patched.chdir(folder)
        assert cli.run(["train", "corpus.txt", "--arch", "ngram", "--order", "3", "-o", "counted", "-q"]) == 0
        assert cli.run(["train", "corpus.txt", *QUICK, "--no-join", "-o", "apart", "-q"]) == 0
        assert cli.run(["train", "corpus.txt", *QUICK, "--arch", "gru", "-o", "joined", "-q"]) == 0
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    for card in (tmp_path / "here").glob(f"*/{checkpoint.CARD}"):
        card.write_text(card.read_text().replace(str(made), str(tmp_path / "here")))
    return tmp_path / "here"


@pytest.mark.parametrize("combine", COMBINATIONS)
def test_mixed_runs_are_runs(here, charlm, combine):
    outcome = charlm("mix", "counted", "apart", "--combine", combine, "-o", "bo[th]", "--json")
    assert outcome.code == 0, outcome.err
    bits = json.loads(outcome.out)["bits_per_character"]
    assert list(bits) == ["counted", "apart", "mixture"]
    assert bits["mixture"] <= min(bits["counted"], bits["apart"]) + 1e-3
    with few_steps():
        again = charlm("mix", "bo[th]", "apart", "-o", "again")
    assert again.code == 0, again.err
    assert "mixture" in again.out
    assert "bo[th]" in again.out
    for run in ("bo[th]", "again"):
        assert json.loads(charlm("evaluate", run, "--json").out)["bits_per_character"] < 5
        greedy = charlm("sample", run, "--greedy", "-l", 10, "-p", "HAM").out
        assert charlm("sample", run, "--beams", 1, "-l", 10, "-p", "HAM").out == greedy
        assert charlm("info", run).code == 0


@pytest.mark.usefixtures("hasty")
def test_a_text_that_is_new_to_all_weighs_runs_that_joined(here, charlm):
    (here / "new.txt").write_text(TEXT[500:1500].replace("pale", "grey"), encoding="utf-8")
    assert "too, so what it says of it is hindsight" in charlm("mix", "counted", "joined").err
    outcome = charlm("mix", "counted", "joined", "--text", "new.txt", "--json")
    assert outcome.code == 0, outcome.err
    run = json.loads(outcome.out)["run"]
    assert run == "checkpoints/corpus-mixture"
    assert "hindsight" in charlm("mix", run, "apart").err
    assert "--from" in charlm("train", "corpus.txt", "--from", run).err


@pytest.mark.usefixtures("hasty")
def test_the_library_mixes_without_touching_the_runs(here):
    before = {path: path.read_bytes() for path in here.glob("*/*") if path.is_file()}
    mixed = mix([here / "counted", here / "apart"])
    alone = [checkpoint.load(here / name).model for name in ("counted", "apart")]
    assert all(same(member, one) for member, one in zip(mixed.model.each(), alone, strict=True))
    assert {path: path.read_bytes() for path in before} == before
    assert not checkpoint.runs(here / "checkpoints")
