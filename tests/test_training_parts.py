"""What training is made of: budgets, schedules, streams, optimizers, settings."""

import dataclasses
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from test_training import NETWORKS, settings, small

from charlm.config import BOUNDARY
from charlm.errors import UsageError
from charlm.models import ARCHITECTURES, GRU
from charlm.training import SIZES, Budget, TrainingConfig, choose_device, complete, model_config, speed
from charlm.training import muon as muons
from charlm.training.computing import compute_type
from charlm.training.loop import Trainer
from charlm.training.muon import Muon
from charlm.training.optimizers import OPTIMIZERS, build_optimizers, hidden_matrices
from charlm.training.plan import TOKENS_PER_SECOND, auto_size
from charlm.training.policy import BATCH, policy_of
from charlm.training.schedule import SCHEDULES, WARMUP_STEPS, rate
from charlm.training.streams import Streams, parallel

# Budgets and schedules


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("90s", 90, "seconds"),
        (" 5 m ", 300, "seconds"),
        ("1.5min", 90, "seconds"),
        ("2h", 7200, "seconds"),
        (".5hours", 1800, "seconds"),
        ("10epochs", 10, "epochs"),
        ("1 epoch", 1, "epochs"),
        ("50Mtokens", 50e6, "tokens"),
        ("3ktokens", 3000, "tokens"),
        ("3000steps", 3000, "steps"),
    ],
)
def test_budgets(text, amount, unit):
    budget = Budget.parse(text)
    assert (budget.amount, budget.unit) == (pytest.approx(amount), unit)
    assert budget.seconds == (budget.amount if unit == "seconds" else None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "-5s",
        "0s",
        "0.0m",
        "5 parsecs",
        "1e3steps",
        "5M",
        "infs",
        "nans",
        "1.2.3s",
        "5s5s",
        "9" * 400 + "s",
    ],
)
def test_what_is_no_budget(text):
    with pytest.raises(UsageError, match="is not an amount: try 90s"):
        TrainingConfig(budget=text)


def test_budgets_in_steps():
    assert Budget.parse("90s").steps(10, 100) is None
    assert Budget.parse("3epochs").steps(10, 100) == 30
    assert Budget.parse("1ktokens").steps(10, 100) == 100
    assert Budget.parse("7steps").steps(10, 100) == 7
    assert Budget.parse("0.01epochs").steps(10, 100) == 1


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 9, 100, 5000])
def test_schedules_rise_then_fall(schedule, steps):
    rates = [rate(schedule, step, steps) for step in range(steps)]
    warmup = min(WARMUP_STEPS, max(1, steps // 10))
    assert all(0 < r <= 1 for r in rates)
    assert rates[0] == pytest.approx(SCHEDULES[schedule](0) / warmup)
    after = rates[warmup - 1 :]
    assert all(a >= b for a, b in pairwise(after))
    if steps == 5000:
        assert rates[-1] == (1 if schedule == "constant" else pytest.approx(0, abs=0.011))
    assert SCHEDULES[schedule](1.0) == pytest.approx({"constant": 1, "step": 0.01}.get(schedule, 0))


# Streams


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_an_epoch_has_every_target_once(epoch):
    ids = np.arange(1, 121, dtype=np.uint16)
    streams = Streams(ids, batch=4, segment_length=5, seed=3)
    assert streams.steps_per_epoch == 6
    found, last = [], None
    for step in range(epoch * 6, epoch * 6 + 6):
        tokens, targets = streams.segment(step)
        assert streams.starts_afresh(step) == (step == epoch * 6)
        assert tokens.shape == targets.shape == (4, 5)
        assert tokens.dtype == targets.dtype == torch.int64
        assert torch.equal(tokens[:, 1:], targets[:, :-1])
        if last is not None:
            assert torch.equal(tokens[:, 0], last)
        last = targets[:, -1]
        for token, target in zip(tokens.flatten().tolist(), targets.flatten().tolist(), strict=True):
            assert token in (target - 1, 120 if epoch and target == 1 else BOUNDARY)
        found += targets.flatten().tolist()
    assert sorted(found) == ids.tolist()


def test_epochs_are_cut_elsewhere():
    streams = Streams(np.arange(1, 1001), batch=4, segment_length=10, seed=3)
    firsts = [streams.segment(epoch * 25)[1][0, 0].item() for epoch in range(5)]
    assert firsts[0] == 1
    assert len(set(firsts)) == 5
    assert torch.equal(streams.segment(60)[0], streams.segment(60)[0])
    other = dataclasses.replace(streams, seed=4)
    assert not torch.equal(streams.segment(60)[0], other.segment(60)[0])


def test_what_is_left_over_waits_for_another_epoch():
    streams = Streams(np.arange(1, 108), batch=3, segment_length=10, seed=0)
    counts = Counter(t for step in range(300) for t in streams.segment(step)[1].flatten().tolist())
    assert streams.steps_per_epoch == 3
    assert max(Counter(t for step in range(3) for t in streams.segment(step)[1].flatten().tolist()).values()) == 1
    assert set(counts) == set(range(1, 108))


def test_a_text_shorter_than_a_step():
    ids = np.arange(300, 330, dtype=np.uint16)
    for batch, segment, shape in ((32, 64, (1, 30)), (32, 8, (3, 8)), (2, 15, (2, 15))):
        trainer = Trainer(GRU(small("gru"), 400), ids, ids, settings(batch=batch, segment=segment))
        assert trainer.streams.segment(0)[0].shape == shape
        trainer.run()


def test_parallel_parts():
    ids = np.arange(1, 108, dtype=np.uint16)
    pieces = list(parallel(ids, streams=3, segment=10, max_tokens=25))
    assert [tuple(tokens.shape) for tokens, _ in pieces] == [(3, 10), (3, 10), (3, 5)]
    tokens, targets = (torch.cat(side, 1) for side in zip(*pieces, strict=True))
    assert targets.tolist() == [list(range(first, first + 25)) for first in (1, 36, 71)]
    assert torch.equal(tokens[:, 1:], targets[:, :-1])
    assert tokens[:, 0].tolist() == [BOUNDARY] * 3


# Optimizers


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_parameter_has_one_place(architecture, name):
    model = ARCHITECTURES[architecture](small(architecture), 300)
    groups = [group for optimizer in build_optimizers(model, name, 0.1, 0.01) for group in optimizer.param_groups]
    found = Counter(id(p) for group in groups for p in group["params"])
    assert found == Counter(id(p) for p in model.parameters())
    for group in groups:
        for p in group["params"]:
            assert group["weight_decay"] == (0.01 if p.ndim >= 2 else 0)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_muon_takes_the_hidden_matrices_only(architecture):
    for tie in (False, True)[: 2 if "tie" in ARCHITECTURES[architecture].Config.__dataclass_fields__ else 1]:
        model = ARCHITECTURES[architecture](small(architecture, **({"tie": True} if tie else {})), 300)
        muon, adamw = build_optimizers(model, "muon", 0.1, 0.01)
        ours = {id(p) for group in muon.param_groups for p in group["params"]}
        assert ours == hidden_matrices(model)
        assert ours
        for name, p in model.named_parameters():
            assert (id(p) in ours) == (p.ndim == 2 and not name.startswith(("embedding", "previous", "output")))
        assert not ours & {id(p) for group in adamw.param_groups for p in group["params"]}


def test_muon_computes_in_float32_if_that_is_the_precision(monkeypatch):
    types = []
    monkeypatch.setattr(muons, "newton_schulz", lambda x: types.append(x.dtype) or x)
    for precision in ("float32", "auto"):
        model = ARCHITECTURES["gru"](small("gru"), 300)
        optimizer, _ = build_optimizers(model, "muon", 0.1, 0.01, precision)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
        assert set(types) == {torch.float32 if precision == "float32" else compute_type("auto", torch.device("cpu"))}
        types.clear()


@pytest.mark.parametrize(("rows", "columns", "squares"), [(6, 6, 1), (18, 6, 3), (6, 12, 2), (7, 5, 1)])
def test_muon_steps_equally_far_in_every_direction_of_every_square(rows, columns, squares):
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(rows, columns, generator=generator))
    weight.grad, before = torch.randn(rows, columns, generator=generator), weight.detach().clone()
    Muon([{"params": [weight], "weight_decay": 0.5}], 0.1).step()
    step = (before * (1 - 0.1 * 0.5) - weight.detach()) / 0.1
    for part in step.chunk(squares, 0 if rows >= columns else 1):
        lengths = torch.linalg.svdvals(part) / (0.2 * max(part.shape) ** 0.5)
        assert 0.3 < lengths.min() < lengths.max() < 1.3
    whole, gradient = step.flatten(), weight.grad.flatten()
    assert torch.cosine_similarity(whole, gradient, 0) > 0.8


# What a run is told


def test_options_of_a_model():
    budget = Budget.parse("2m")
    with pytest.raises(
        UsageError, match="`heads` is not an option of lstm; it has `width`, `layers`, `dropout`, `tie`"
    ):
        model_config("lstm", "tiny", {"heads": 2}, 10**6, budget)
    for architecture, kind in ARCHITECTURES.items():
        for size in SIZES:
            assert isinstance(model_config(architecture, size, {}, 10**6, budget), kind.Config)
        for size, chosen in policy_of(architecture).sizes.items():
            options = {"dropout": 0.1} if "dropout" in kind.Config.names() else {}
            assert model_config(architecture, size, options, 10**6, budget) == kind.Config(**chosen).changed(options)
    assert model_config("lstm", "large", {"width": 7}, 10**6, budget).width == 7


@pytest.mark.parametrize(
    ("architecture", "characters", "budget", "size"),
    [
        ("lstm", 10**6, "5s", "tiny"),
        ("lstm", 10**6, "20s", "small"),
        ("lstm", 10**6, "2m", "medium"),
        ("lstm", 10**7, "2m", "small"),
        ("lstm", 10**7, "3m", "medium"),
        ("transformer", 10**6, "2m", "small"),
        ("transformer", 10**6, "5m", "medium"),
        ("lstm", 40_000, "10m", "small"),
        ("lstm", 10**7, "2h", "medium"),
        ("lstm", 10**8, "2h", "large"),
        ("lstm", 10**6, "3steps", "tiny"),
        ("lstm", 10**6, "10epochs", "medium"),
    ],
)
def test_the_usual_size_is_the_one_that_learned_most(architecture, characters, budget, size):
    assert auto_size(architecture, characters, Budget.parse(budget)) == size


def test_a_slower_machine_does_in_more_time_what_a_faster_one_does():
    for seconds in (10, 30, 100, 300):
        fast, slow = Budget(seconds, "seconds"), Budget(4 * seconds, "seconds")
        assert model_config("lstm", "auto", {}, 200_000, slow, 0.25) == model_config("lstm", "auto", {}, 200_000, fast)
    steps = Budget(3000, "steps")  # are as many everywhere
    assert model_config("lstm", "auto", {}, 200_000, steps, 0.25) == model_config("lstm", "auto", {}, 200_000, steps)


@pytest.mark.parametrize(
    ("able", "precision", "expected"),
    [
        (("avx2", "avx512_f", "avx512_bf16", "amx_bf16"), "auto", 1.0),
        (("avx2", "avx512_f", "avx512_bf16"), "auto", 1.0),
        (("avx2", "avx512_f", "avx512_bf16", "amx_bf16"), "float32", 0.5),
        (("avx2", "avx512_f"), "auto", 0.5),
        (("avx2",), "auto", 0.25),
        ((), "auto", 0.25),
    ],
)
def test_speed_goes_by_what_the_processor_is_built_for(monkeypatch, able, precision, expected):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: dict.fromkeys(able, True), raising=False)
    for threads, share in ((2, 1), (8, 2)):
        monkeypatch.setattr("torch.get_num_threads", lambda threads=threads: threads)
        assert speed(precision, torch.device("cpu")) == expected * share
    assert speed("auto", torch.device("cuda")) > 1


@pytest.mark.parametrize("architecture", [*NETWORKS, "mixture"])
def test_dropout_grows_with_how_often_a_text_is_read(architecture):
    def dropout(characters, budget, size="small", **options):
        config = model_config(architecture, size, options, characters, Budget.parse(budget))
        return (config.members[-1].config if architecture == "mixture" else config).dropout

    assert dropout(10**9, "10m") == 0
    rising = [dropout(characters, "2m") for characters in (10**7, 10**6, 300_000, 100_000, 10)]
    assert rising == sorted(rising)
    assert rising[0] < rising[2] < rising[4] < 1
    assert dropout(0, "2m") == rising[-1]
    for same in (
        "30epochs",
        "30Mtokens",
        f"{30 * 10**6 // (32 * 64)}steps",
        f"{30 * 10**6 / TOKENS_PER_SECOND['small']}s",
    ):
        assert dropout(10**6, same) == dropout(10**6, "30epochs") > 0
    by_size = [dropout(10**6, "30epochs", size) for size in ("tiny", "small", "medium")]
    assert 0 == by_size[0] < by_size[1] < by_size[2]
    assert dropout(100_000, "2m", dropout=0.05) == 0.05


@pytest.mark.parametrize(
    ("characters", "budget", "counted"),
    [
        (10**6, "60s", True),
        (10**6, "30s", False),
        (300_000, "15s", True),
        (10**7, "1h", True),
        (2 * 10**7, "10h", False),
        (10**6, "3steps", True),
        (8 * 10**6, "3steps", False),
    ],
)
def test_a_mixture_counts_contexts_where_that_leaves_its_network_half_the_time(characters, budget, counted):
    config = model_config("mixture", "small", {}, characters, Budget.parse(budget))
    members = ["ngram", "contexts", "lstm"] if counted else ["ngram", "lstm"]
    assert [member.architecture for member in config.members] == members
    if counted:
        config = model_config("mixture", "small", {"adapt": "none"}, characters, Budget.parse(budget))
        assert config.members[1].config.adapt == "none"
    else:
        with pytest.raises(UsageError, match="`adapt` has no effect here"):
            model_config("mixture", "small", {"adapt": "none"}, characters, Budget.parse(budget))


@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_recipe_fills_what_is_open_and_nothing_else(architecture):
    usual = complete(TrainingConfig(segment=5), architecture)
    assert usual.segment == 5
    assert usual.batch == BATCH
    for optimizer in OPTIMIZERS:
        done = complete(TrainingConfig(segment=5, optimizer=optimizer), architecture)
        assert all(value is not None for value in done.to_json().values())
        assert complete(done, architecture) == done
        assert (done == usual) == (optimizer == usual.optimizer)
        given = TrainingConfig(optimizer=optimizer, learning_rate=7.0, weight_decay=0.7)
        found = complete(given, architecture)
        assert (found.learning_rate, found.weight_decay) == (7.0, 0.7)


def test_devices():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UsageError, match="`device` abacus: not on this machine; there is "):
        choose_device("abacus")
