"""Budgets, schedules, streams, optimizers, and whole runs: learning, stopping, resuming, going wrong."""

import dataclasses
import json
import math
import shutil
import time
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from charlm import checkpoint
from charlm.checkpoint import CARD, load
from charlm.config import BOUNDARY
from charlm.corpus import Text, encode, split
from charlm.errors import CharlmError, CheckpointError, TrainingFault, UsageError
from charlm.evaluation import evaluate
from charlm.models import ARCHITECTURES, GRU, CountingModel, Network
from charlm.tokenizers import Characters
from charlm.tokenizers.characters import CharactersConfig
from charlm.training import (
    SIZES,
    Budget,
    TrainingConfig,
    Watcher,
    choose_device,
    complete,
    loop,
    model_config,
    resume,
    train,
)
from charlm.training.budget import MEASURED_SHARES
from charlm.training.loop import Trainer
from charlm.training.muon import Muon
from charlm.training.optimizers import OPTIMIZERS, build_optimizers, hidden_matrices
from charlm.training.schedule import SCHEDULES, WARMUP_STEPS, rate
from charlm.training.session import Session
from charlm.training.streams import Streams, parallel

SOURCE = "".join(f"line {n}: the cat sat on the mat, and the rat ate the hat {n * 7 % 13} times.\n" for n in range(60))
TEXT = Text.from_string(SOURCE, "cats")
SPLIT = split(TEXT)
TOKENIZER = Characters.train([SOURCE], CharactersConfig())
SMALL = {"width": 16, "layers": 1, "heads": 2, "window": 16, "embedding": 8, "order": 3}
NETWORKS = [name for name, kind in ARCHITECTURES.items() if issubclass(kind, Network)]


def small(architecture, **options):
    kind = ARCHITECTURES[architecture]
    known = {f.name for f in dataclasses.fields(kind.Config)}
    return kind.Config(**({name: value for name, value in SMALL.items() if name in known} | options))


def settings(architecture="gru", budget="24steps", **options):
    given = {"batch": 4, "segment": 16, "precision": "float32", "budget": budget} | options
    return complete(TrainingConfig(**given), architecture)


def trained(
    path, architecture="gru", budget="24steps", *, config=None, parts=SPLIT, start=None, watcher=None, **options
):
    path.mkdir(exist_ok=True)
    config = small(architecture) if config is None else config
    training = settings(architecture, budget, **options)
    watcher = Watcher() if watcher is None else watcher
    return train(path, parts, TOKENIZER, architecture, config, training, about={}, start=start, watcher=watcher)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def progress(path):
    return json.loads((path / CARD).read_text())["progress"]


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
    pieces = list(parallel(ids, streams=3, segment=10, most=25))
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
            assert (id(p) in ours) == (p.ndim == 2 and not name.startswith(("embedding", "output")))
        assert not ours & {id(p) for group in adamw.param_groups for p in group["params"]}


# What a run is told


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


def test_options_of_a_model():
    budget = Budget.parse("2m")
    with pytest.raises(
        UsageError, match="--heads is not an option of lstm; it has --width, --layers, --dropout, --tie"
    ):
        model_config("lstm", "tiny", {"heads": 2}, 10**6, budget)
    for architecture, kind in ARCHITECTURES.items():
        for size in SIZES:
            assert isinstance(model_config(architecture, size, {}, 10**6, budget), kind.Config)
        for size, chosen in kind.sizes.items():
            found = model_config(architecture, size, {}, 10**6, budget)
            assert {name: getattr(found, name) for name in chosen} == chosen
    assert model_config("lstm", "large", {"width": 7}, 10**6, budget).width == 7
    widths = [model_config("lstm", "auto", {}, n, Budget.parse(b)).width for n, b in ((10**4, "1h"), (10**6, "5m"))]
    assert widths == [GRU.sizes["tiny"]["width"], GRU.sizes["medium"]["width"]]


@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_recipe_fills_what_is_open_and_nothing_else(architecture):
    done = complete(TrainingConfig(segment=5), architecture)
    assert all(value is not None for value in done.to_json().values())
    assert done.segment == 5
    assert done.batch == ARCHITECTURES[architecture].recipe["batch"]
    assert complete(done, architecture) == done


def test_devices():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UsageError, match="--device abacus: not on this machine; there is "):
        choose_device("abacus")


# Runs


def entropy():
    counts = np.array(list(Counter(SOURCE).values()))
    return float(-(counts / counts.sum() * np.log2(counts / counts.sum())).sum())


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_network_learns(tmp_path, architecture, precision):
    seen = []
    done = trained(
        tmp_path,
        architecture,
        "80steps",
        precision=precision,
        learning_rate=1e-2,
        watcher=Watcher(progress=seen.append),
    )
    assert done.finished
    assert evaluate(done.model, TOKENIZER, SPLIT.train).bits_per_character < 0.8 * entropy()
    assert all(weight.dtype == torch.float32 for weight in done.model.parameters())
    assert same(load(tmp_path).model, done.model)
    assert seen[0].step >= 1
    assert [p.step for p in seen] == sorted(p.step for p in seen)
    assert any(p.validation is not None for p in seen)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["validation"] for line in lines if line["validation"]] == [p.validation for p in seen if p.validation]


@pytest.mark.parametrize("architecture", [n for n, k in ARCHITECTURES.items() if issubclass(k, CountingModel)])
def test_counting_models_are_runs_too(tmp_path, architecture):
    stages = []
    watcher = Watcher(stage=lambda what, done: stages.append(done))
    done = trained(tmp_path, architecture, watcher=watcher)
    assert done.finished
    assert stages[-1] == 1
    assert evaluate(done.model, TOKENIZER, SPLIT.train).bits_per_character < entropy()
    assert same(load(tmp_path).model, done.model)


def test_what_never_occurs_stays_improbable(tmp_path):
    model = trained(tmp_path, "gru", "80steps", learning_rate=1e-2).model
    ids = torch.from_numpy(encode(SPLIT.train, TOKENIZER).astype(np.int64))[None]
    with torch.no_grad():
        log_probs, _ = model(ids[:, :500], model.initial_state(1))
    never = np.bincount(encode(SPLIT.training, TOKENIZER), minlength=TOKENIZER.vocab_size) == 0
    assert log_probs[0, :, torch.from_numpy(never)].double().exp().sum(-1).max() < 5e-3


def test_training_scores_among_the_ids_that_occur():
    model = GRU(small("gru", dropout=0.0), 12).train()
    model.occurring = torch.tensor([1, 4, 5, 9])
    tokens, targets = torch.tensor([[0, 4, 5]]), torch.tensor([[4, 9, 1]])
    found, _ = model.score(tokens, targets, model.initial_state(1))
    features, _ = model.features(tokens, model.initial_state(1))
    shares = model.output(features)[..., model.occurring].double().softmax(-1)[0, range(3), [1, 3, 0]]
    torch.testing.assert_close(found[0].double(), ((1 - 1e-4) * shares + 1e-4 / 12).log(), rtol=0, atol=1e-5)
    again, _ = model.eval().score(tokens, targets, model.initial_state(1))
    assert (again < found).all()


def test_the_seed_decides_everything_and_disturbs_nothing(tmp_path):
    config = small("lstm", dropout=0.3)
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    a = trained(tmp_path / "a", "lstm", config=config, seed=1).model
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(10)
    assert same(a, trained(tmp_path / "b", "lstm", config=config, seed=1).model)
    assert not same(a, trained(tmp_path / "c", "lstm", config=config, seed=2).model)


def stop_after(steps):
    asked = iter(range(-2, 10**6))  # twice while the text is encoded
    return Watcher(should_stop=lambda: next(asked) == steps)


def interrupted(tmp_path, *stops, **options):
    """A run that was stopped after so many steps, resumed, stopped again, and at last resumed to its end."""
    done = trained(tmp_path / "interrupted", watcher=stop_after(stops[0]), **options)
    for steps in (*stops[1:], 10**6):
        assert not done.finished
        assert not progress(done.path)["finished"]
        done = resume(load(done.path, resume=True), SPLIT, watcher=stop_after(steps))
    return done


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_resumed_run_ends_as_if_nothing_had_happened(tmp_path, architecture, optimizer, precision):
    options = {"architecture": architecture, "optimizer": optimizer, "precision": precision}
    options["config"] = small(architecture, dropout=0.3)
    whole = trained(tmp_path / "whole", **options)
    done = interrupted(tmp_path, 7, 1, 9, **options)
    assert done.finished
    assert same(done.model, whole.model)
    assert same(load(done.path).model, whole.model)
    ours, theirs = progress(done.path), progress(whole.path)
    assert {k: ours[k] for k in ("step", "best", "joined", "training")} == {
        k: theirs[k] for k in ("step", "best", "joined", "training")
    }
    with pytest.raises(CheckpointError, match="finished"):
        load(done.path, resume=True)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_resumes(tmp_path, optimizer):
    options = {"optimizer": optimizer, "learning_rate": 1e-3}
    assert same(interrupted(tmp_path, 0, 5, **options).model, trained(tmp_path / "whole", **options).model)


@pytest.mark.parametrize("architecture", ["lstm", "transformer"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_tied_weights_resume(tmp_path, architecture, precision):
    options = {"architecture": architecture, "config": small(architecture, tie=True, layers=2), "precision": precision}
    assert same(interrupted(tmp_path, 5, 10, **options).model, trained(tmp_path / "whole", **options).model)


def test_a_carried_cache_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(ARCHITECTURES["transformer"], "carries_state", True)
    options = {"architecture": "transformer", "config": small("transformer", window=40, layers=2)}
    assert same(interrupted(tmp_path, 2, 10, **options).model, trained(tmp_path / "whole", **options).model)


def test_a_run_that_cannot_be_resumed_says_so(tmp_path):
    trained(tmp_path, watcher=stop_after(3))
    run = load(tmp_path, resume=True)
    for broken in (
        {"resume": {name: tensor for name, tensor in run.resume.items() if not name.startswith("random")}},
        {"resume": {name: tensor[..., :1] if tensor.ndim else tensor for name, tensor in run.resume.items()}},
        {"about": {name: value for name, value in run.about.items() if name != "progress"}},
        {"about": run.about | {"progress": {"colour": 3}}},
        {"about": run.about | {"progress": None}},
        {"about": run.about | {"training": {"budget": "soon"}}},
    ):
        with pytest.raises(CheckpointError):
            resume(dataclasses.replace(load(tmp_path, resume=True), **broken), SPLIT)


def test_a_budget_of_time_becomes_a_number_of_steps(tmp_path):
    seen = []
    done = trained(tmp_path, "gru", "1s", watcher=Watcher(progress=seen.append))
    counters = progress(tmp_path)
    assert done.finished
    assert counters["step"] == counters["steps"] > 7
    fixed = [p.steps for p in seen if p.steps is not None]
    assert 1 <= len(set(fixed)) <= len(MEASURED_SHARES)  # measured, and corrected


@pytest.mark.parametrize("slower", [2.0, 0.5])
def test_a_budget_of_time_is_kept_when_the_machine_changes_its_pace(monkeypatch, slower):
    clock = {"now": 0.0, "tick": 0.002}

    def monotonic():
        clock["now"] += clock["tick"]
        if clock["now"] > 4 and clock["tick"] == 0.002:
            clock["tick"] *= slower
        return clock["now"]

    monkeypatch.setattr("charlm.training.loop.time", SimpleNamespace(monotonic=monotonic))
    ids = np.arange(300, 399, dtype=np.uint16)
    trainer = Trainer(GRU(small("gru"), 400), ids, ids, settings(budget="10s"))
    trainer.run()
    assert trainer.counters.seconds == pytest.approx(10, rel=0.05)
    assert trainer.counters.step == trainer.counters.steps


def scripted(monkeypatch, *losses):
    """Let validations find these losses, and return the weights that each of them saw."""
    left, seen = list(losses), []

    def loss(trainer):
        seen.append({name: weight.clone() for name, weight in trainer.model.state_dict().items()})
        return left.pop(0)

    monkeypatch.setattr(Trainer, "_validation_loss", loss)
    return seen


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_best_weights_are_kept_and_patience_ends(tmp_path, monkeypatch, precision):
    seen = scripted(monkeypatch, 3.0, 2.0, 2.5, 2.0, 2.1)
    done = trained(tmp_path, patience=3, precision=precision)
    assert done.finished
    assert len(seen) == 5
    assert progress(tmp_path)["step"] == 10
    assert progress(tmp_path)["joined"] is None
    for model in (done.model, load(tmp_path).model):
        assert all(torch.equal(weight, seen[1][name]) for name, weight in model.state_dict().items())


def test_an_interrupted_run_holds_the_best_weights(tmp_path, monkeypatch):
    seen = scripted(monkeypatch, 3.0, 2.0, 2.5, *[2.6] * 20)
    trained(tmp_path, watcher=stop_after(7))
    assert all(torch.equal(weight, seen[1][name]) for name, weight in load(tmp_path).model.state_dict().items())
    resume(load(tmp_path, resume=True), SPLIT)
    assert all(torch.equal(weight, seen[1][name]) for name, weight in load(tmp_path).model.state_dict().items())


@pytest.mark.parametrize(
    ("join", "losses", "joined"),
    [
        (True, [9.0 - n for n in range(6)], 12),
        (True, [9.0 - n for n in range(5)] + [9.0] * 7, None),
        (True, [9.0 - n for n in range(5)] + [9.0, 1.0], 14),
        (False, [9.0 - n / 2 for n in range(12)], None),
    ],
)
def test_the_validation_slice_joins_half_way_unless_over_fitting_has_begun(tmp_path, monkeypatch, join, losses, joined):
    seen = scripted(monkeypatch, *losses)
    trained(tmp_path, join=join)
    assert len(seen) == len(losses)
    assert progress(tmp_path)["joined"] == joined


def test_joined_training_reads_the_validation_slice(tmp_path, monkeypatch):
    read = []
    segment = Streams.segment
    monkeypatch.setattr(Streams, "segment", lambda self, step: read.append(len(self.ids)) or segment(self, step))
    trained(tmp_path, learning_rate=1e-3)
    train_size, both = len(encode(SPLIT.train, TOKENIZER)), len(encode(SPLIT.training, TOKENIZER))
    joined = progress(tmp_path)["joined"]
    assert read == [train_size] * joined + [both] * (24 - joined)


# Saves on the way


@pytest.mark.parametrize("options", [{}, {"patience": 2, "learning_rate": 0.5, "join": False}])
def test_every_save_on_the_way_leads_to_the_same_end(tmp_path, monkeypatch, options):
    saves, save = [], checkpoint.save

    def copied(path, *arguments):
        save(path, *arguments)
        saves.append(shutil.copytree(path, tmp_path / f"save-{len(saves)}"))

    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "save", copied)
    whole = trained(tmp_path / "whole", save_every="0.000001s", **options)
    monkeypatch.undo()
    end = progress(whole.path)
    assert len(saves) > 5
    for path in saves[:-1]:
        done = resume(load(path, resume=True), SPLIT)
        assert same(done.model, whole.model), progress(path)
        assert {k: progress(path)[k] for k in ("step", "best", "joined")} == {
            k: end[k] for k in ("step", "best", "joined")
        }
        steps = [entry["step"] for entry in checkpoint.read_metrics(path)]
        assert steps == sorted(set(steps))


@pytest.mark.parametrize(
    ("asked", "cost", "wait"), [("auto", 0.1, 60), ("auto", 2.0, 200), ("5s", 2.0, 5), ("2m", 0.0, 120)]
)
def test_saving_takes_a_hundredth_of_the_time_at_most_unless_asked_for_more(tmp_path, monkeypatch, asked, cost, wait):
    session = object.__new__(Session)
    session.trainer = SimpleNamespace(config=settings(save_every=asked))
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    session._wait(cost)
    assert session.due == pytest.approx(1000.0 + wait)


def test_what_the_clock_on_the_wall_does_changes_nothing(tmp_path, monkeypatch):
    whole = trained(tmp_path / "whole")
    hands = iter(range(10**9, 0, -(10**5)))
    monkeypatch.setattr(time, "time", lambda: next(hands))
    seen = []
    assert same(trained(tmp_path / "back", watcher=Watcher(progress=seen.append)).model, whole.model)
    assert all(0 <= p.seconds < 1000 and p.seconds_left >= 0 for p in seen)


def test_a_run_that_is_trained_elsewhere_is_left_alone(tmp_path):
    trained(tmp_path, watcher=stop_after(3))
    run = load(tmp_path, resume=True)
    with checkpoint.locked(tmp_path):
        for train_it in (lambda: resume(run, SPLIT), lambda: trained(tmp_path)):
            with pytest.raises(CharlmError, match="is training this run"):
                train_it()
    assert resume(run, SPLIT).finished
    with pytest.raises(CheckpointError, match="trained it on meanwhile"):
        resume(run, SPLIT)


def test_deterministic_training_does_not_depend_on_the_threads(tmp_path):
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            options = {"config": small("lstm", width=256), "batch": 32, "deterministic": True, "budget": "3steps"}
            found.append(trained(tmp_path / str(threads), "lstm", **options).model)
            assert torch.get_num_threads() == threads
            assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(before)
    assert same(*found)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", ["transformer", "feedforward"])
def test_a_compiled_step_learns_the_same(tmp_path, architecture):
    plain, compiled = (
        trained(tmp_path / str(wanted), architecture, "8steps", compile=wanted).model for wanted in (False, True)
    )
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-3)


# What goes wrong


def test_compiling_without_a_compiler_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("charlm.training.computing.shutil.which", lambda _name: None)
    with pytest.raises(UsageError, match=r"--compile: no C\+\+ compiler on the PATH; install g\+\+, or leave"):
        trained(tmp_path, compile=True)


def test_weights_that_are_not_finite_are_never_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)
    step = Trainer._step

    def spoiled(trainer):
        step(trainer)
        if trainer.counters.step == 7:
            next(trainer.model.parameters()).data[0] = math.inf

    monkeypatch.setattr(Trainer, "_step", spoiled)
    with pytest.raises(TrainingFault, match="not finite at step 8"):
        trained(tmp_path, save_every="0.000001s")
    assert progress(tmp_path)["step"] in (5, 6)
    assert all(weight.isfinite().all() for weight in load(tmp_path).model.parameters())


@pytest.mark.parametrize("problem", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")])
def test_memory_that_runs_out_is_told_with_its_numbers(tmp_path, monkeypatch, problem):
    def full(_):
        raise problem

    monkeypatch.setattr(Trainer, "_step", full)
    with pytest.raises(
        CharlmError, match="out of memory with --batch 4, --segment 16, --width 16, --layers 1\ntry --batch 2"
    ):
        trained(tmp_path)


def test_a_network_beyond_this_machine_is_refused_before_it_takes_memory(tmp_path):
    for width in (10**7, 10**12):
        with pytest.raises(CharlmError, match="and this machine has"):
            trained(tmp_path, config=small("gru", width=width))


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_numbers_that_go_wrong_end_a_run_that_can_still_be_loaded(tmp_path, monkeypatch, architecture, precision):
    kind, calls = ARCHITECTURES[architecture], []
    score = kind.score

    def poisoned(self, *arguments):
        calls.append(self.training)
        log_probs, state = score(self, *arguments)
        return log_probs * (math.nan if sum(calls) > 9 else 1), state

    monkeypatch.setattr(kind, "score", poisoned)
    with pytest.raises(TrainingFault, match="loss is not finite at step 10") as problem:
        trained(tmp_path, architecture, precision=precision)
    assert f"saved in {tmp_path}" in str(problem.value)
    assert "Try --learning-rate" in str(problem.value)
    found = load(tmp_path)
    assert all(weight.isfinite().all() for weight in found.model.parameters())
    assert progress(tmp_path)["step"] == 9


@pytest.mark.parametrize("architecture", NETWORKS)
def test_an_absurd_learning_rate_is_a_fault(tmp_path, architecture):
    with pytest.raises(TrainingFault):
        trained(tmp_path, architecture, learning_rate=1e30, clip=0.0)
    assert all(weight.isfinite().all() for weight in load(tmp_path).model.parameters())


def test_a_validation_that_is_not_finite_is_a_fault(tmp_path, monkeypatch):
    scripted(monkeypatch, 3.0, math.nan)
    with pytest.raises(TrainingFault, match="validation loss is not finite"):
        trained(tmp_path, "gru")
    assert progress(tmp_path)["best"] == 3.0


# Going on from another run


def test_fine_tuning_starts_from_the_weights(tmp_path):
    first = trained(tmp_path / "first", "gru", "80steps", learning_rate=1e-2).model
    weights = {name: weight.clone() for name, weight in first.state_dict().items()}
    done = trained(tmp_path / "second", "gru", "1steps", start=first, learning_rate=1e-9, join=False)
    assert evaluate(done.model, TOKENIZER, SPLIT.held_out).bits == pytest.approx(
        evaluate(first, TOKENIZER, SPLIT.held_out).bits, rel=1e-4
    )
    assert all(torch.equal(weight, weights[name]) for name, weight in first.state_dict().items())


def test_fine_tuning_unlearns_what_the_new_text_has_not(tmp_path):
    first = trained(tmp_path / "first", "gru", "80steps", learning_rate=1e-2).model
    narrow = split(Text.from_string("haha, hehe. " * 300, "laughs"))
    options = {"start": first, "parts": narrow, "learning_rate": 1e-2, "budget": "60steps"}
    done = trained(tmp_path / "second", "gru", **options)
    ids = torch.from_numpy(encode(narrow.held_out, TOKENIZER).astype(np.int64))[None]
    with torch.no_grad():
        log_probs, _ = done.model(ids, done.model.initial_state(1))
    assert log_probs[..., ids.unique()].double().exp().sum(-1).mean() > 0.97
    half = trained(tmp_path / "third", "gru", watcher=stop_after(20), **options)
    assert same(resume(load(half.path, resume=True), narrow).model, done.model)


def test_counting_can_be_interrupted_and_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, "ngram", "1s", watcher=Watcher(should_stop=lambda: True))
    assert not list(tmp_path.iterdir())


def test_resuming_can_be_interrupted_and_changes_nothing(tmp_path):
    trained(tmp_path, watcher=stop_after(3))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    stopped = resume(load(tmp_path, resume=True), SPLIT, watcher=Watcher(should_stop=lambda: True))
    assert not stopped.finished
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
