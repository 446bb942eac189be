"""Whole training runs: learning, keeping a budget and the best weights, going wrong, going on from another."""

import copy
import dataclasses
import itertools
import json
import math
import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import observing

from charlm.checkpoint import CARD, load
from charlm.corpus import Text, encode, split
from charlm.errors import CharlmError, CheckpointError, TrainingFault, UsageError
from charlm.evaluation import evaluate
from charlm.models import ARCHITECTURES, GRU, CountingModel, Network
from charlm.threads import MachineMeter, MachineUse
from charlm.tokenizers import Characters
from charlm.tokenizers.characters import CharactersConfig
from charlm.training import TrainingConfig, complete, loop, pace, resume, session, step, train, validation
from charlm.training.loop import Trainer
from charlm.training.streams import Streams

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
    path, architecture="gru", budget="24steps", *, config=None, parts=SPLIT, start=None, observer=None, **options
):
    path.mkdir(exist_ok=True)
    config = small(architecture) if config is None else config
    training = settings(architecture, budget, **options)
    return train(path, parts, TOKENIZER, architecture, config, training, start=start, observer=observer)


def stop_after(steps):
    asked = iter(range(-2, 10**6))  # twice while the text is encoded
    return observing(should_stop=lambda: next(asked) == steps)


def set_clock(monkeypatch, clock):
    """Let the trainer read this clock."""
    for module in (loop, pace, validation):
        monkeypatch.setattr(module, "time", clock)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def progress(path):
    return json.loads((path / CARD).read_text())["progress"]


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
        observer=observing(on_progress=seen.append),
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
    observer = observing(on_stage=lambda what, done: stages.append(done))
    done = trained(tmp_path, architecture, observer=observer)
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


def test_a_budget_of_time_becomes_a_number_of_steps(tmp_path):
    seen = []
    done = trained(tmp_path, "gru", "1s", observer=observing(on_progress=seen.append))
    counters = progress(tmp_path)
    assert done.finished
    assert counters["step"] == counters["steps"] > 7
    fixed = [p.steps for p in seen if p.steps is not None]
    assert fixed  # measured; how often it is corrected depends on the machine


@pytest.mark.parametrize("slower", [2.0, 0.5])
def test_a_budget_of_time_is_kept_when_the_machine_changes_its_pace(monkeypatch, slower):
    clock = {"now": 0.0, "tick": 0.02}

    def monotonic():
        clock["now"] += clock["tick"]
        if clock["now"] > 4 and clock["tick"] == 0.02:
            clock["tick"] *= slower
        return clock["now"]

    set_clock(monkeypatch, SimpleNamespace(monotonic=monotonic))
    ids = np.arange(300, 399, dtype=np.uint16)
    trainer = Trainer(GRU(small("gru"), 400), ids, ids, settings(budget="10s"))
    trainer.run()
    assert trainer.counters.seconds == pytest.approx(10, rel=0.05)
    assert trainer.counters.step == trainer.counters.steps


def test_validation_takes_a_share_of_the_budget_however_slow_it_is(monkeypatch):
    clock, validating, whole = {"now": 0.0}, [], validation.parallel

    def monotonic():
        clock["now"] += 0.005
        return clock["now"]

    def parallel(*given):
        for tokens, targets in whole(*given):
            clock["now"] += tokens.numel() * 1e-4  # a full validation: 2 s
            validating.append(tokens.numel() * 1e-4)
            yield tokens, targets

    set_clock(monkeypatch, SimpleNamespace(monotonic=monotonic))
    monkeypatch.setattr(validation, "parallel", parallel)
    ids = np.arange(20_000, dtype=np.uint16) % 99 + 300
    trainer = Trainer(GRU(small("gru"), 400), ids[:99], ids, settings(budget="10s", join=False))
    trainer.run()
    assert trainer.counters.seconds == pytest.approx(10, rel=0.1)
    assert trainer.counters.step > 300
    assert sum(validating) < 2 + 0.3 * 10  # the first one found out
    trainer.counters.validated = 0.0
    assert math.isfinite(trainer.validation.loss())  # never of nothing


def test_the_running_loss_has_no_bias_and_lags_a_fifth_of_the_steps(monkeypatch):
    ids = np.arange(300, 399, dtype=np.uint16)

    def reported(losses):
        left = iter(losses)
        trainer = Trainer(GRU(small("gru"), 400), ids, ids, settings(budget=f"{len(losses)}steps", join=False))
        monkeypatch.setattr(trainer.step, "_update", lambda *_: next(left))
        trainer.run()
        return trainer.counters.training

    assert [reported([3.0] * steps) for steps in (1, 2, 20)] == pytest.approx([3.0] * 3)
    assert reported([7.0]) == 7.0
    for steps in (20, 100):
        falling = [9.0 - 6.0 * n / steps for n in range(steps)]
        assert falling[-1] < reported(falling) < falling[int(0.7 * steps)]


def scripted(monkeypatch, *losses):
    """Let validations find these losses, and return the weights that each of them saw."""
    left, seen = list(losses), []

    def loss(validated, *_):
        seen.append({name: weight.clone() for name, weight in validated.step.model.state_dict().items()})
        return left.pop(0)

    monkeypatch.setattr(validation.Validation, "loss", loss)
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
    trained(tmp_path, observer=stop_after(7), join=False)
    assert all(torch.equal(weight, seen[1][name]) for name, weight in load(tmp_path).model.state_dict().items())
    resume(load(tmp_path, resume=True), SPLIT)
    assert all(torch.equal(weight, seen[1][name]) for name, weight in load(tmp_path).model.state_dict().items())


@pytest.mark.parametrize(
    ("join", "losses", "joined"),
    [
        (True, [9.0 - n for n in range(6)], 12),
        (True, [9.0 - n for n in range(5)] + [9.0, 1.0], 14),  # one worse validation says little
        (True, [9.0 - n for n in range(5)] + [9.0] * 2, 14),
        (False, [9.0 - n / 2 for n in range(12)], None),
    ],
)
def test_the_validation_slice_joins_half_way(tmp_path, monkeypatch, join, losses, joined):
    seen = scripted(monkeypatch, *losses)
    trained(tmp_path, join=join)
    assert len(seen) == len(losses)
    assert (progress(tmp_path)["joined"], progress(tmp_path)["step"]) == (joined, 24)


@pytest.mark.parametrize("budget", ["24steps", "1s"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_that_over_fits_joins_with_its_best_weights_and_learns_as_long_as_they_took(
    tmp_path, monkeypatch, precision, budget
):
    seen, went_on, join = scripted(monkeypatch, 3.0, 2.0, *[2.5] * 20), [], Trainer._join

    def joined(trainer):
        join(trainer)
        went_on.extend(copy.deepcopy([trainer.model, trainer.step.network]))

    monkeypatch.setattr(Trainer, "_join", joined)
    trained(tmp_path, precision=precision, budget=budget)
    end = progress(tmp_path)
    assert end["joined"] > end["best_step"] > 0
    assert end["step"] == end["joined"] + end["best_step"]
    if budget == "24steps":
        assert (end["joined"], end["best_step"]) == (12, 4)
    for network in went_on:
        assert all(torch.equal(weight, seen[1][name].to(weight.dtype)) for name, weight in network.state_dict().items())


def test_joined_training_reads_the_validation_slice(tmp_path, monkeypatch):
    read = []
    segment = Streams.segment
    monkeypatch.setattr(Streams, "segment", lambda self, step: read.append(len(self.ids)) or segment(self, step))
    monkeypatch.setattr(Trainer, "loss", lambda _: 0.0)  # which reads a segment, too, before a save
    trained(tmp_path, learning_rate=1e-3)
    train_size, both = len(encode(SPLIT.train, TOKENIZER)), len(encode(SPLIT.training, TOKENIZER))
    joined = progress(tmp_path)["joined"]
    assert read == [train_size] * joined + [both] * (24 - joined)


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
@pytest.mark.parametrize("architecture", ["transformer", "feedforward", "gru"])
def test_a_compiled_step_learns_the_same(tmp_path, architecture):
    plain, compiled = (
        trained(tmp_path / str(wanted), architecture, "8steps", compile=wanted).model for wanted in (False, True)
    )
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-3)


# What goes wrong


def test_compiling_without_a_compiler_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("charlm.training.computing.shutil.which", lambda _name: None)
    with pytest.raises(UsageError, match=r"`compile` needs a C\+\+ compiler, .* install g\+\+, or leave"):
        trained(tmp_path, compile=True)


def test_weights_that_are_not_finite_are_never_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)
    good = Trainer._step

    def spoiled(trainer):
        good(trainer)
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
        CharlmError, match="out of memory with `batch=4`, `segment=16`, `width=16`, `layers=1`\ntry `batch=2`"
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
    assert "Try `learning_rate=" in str(problem.value)
    found = load(tmp_path)
    assert all(weight.isfinite().all() for weight in found.model.parameters())
    assert progress(tmp_path)["step"] == 9


@pytest.mark.parametrize("architecture", NETWORKS)
def test_an_absurd_learning_rate_is_a_fault(tmp_path, architecture):
    with pytest.raises(TrainingFault, match="nothing is saved"):
        trained(tmp_path, architecture, learning_rate=1e30, clip=0.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_run_that_never_predicted_leaves_what_was_there(tmp_path, architecture):
    trained(tmp_path, architecture)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for rate in 1e30, 1e38:
        with pytest.raises(TrainingFault, match=f"nothing is saved; {tmp_path} is as it was"):
            trained(tmp_path, architecture, learning_rate=rate, clip=0.0, weight_decay=0.0)
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_run_that_goes_wrong_keeps_its_best_weights(tmp_path, monkeypatch):
    best, good = {}, Trainer._step

    def spoiled(trainer):
        good(trainer)
        best.update({name: weight.clone() for name, weight in (trainer.validation.best_weights or {}).items()})
        if trainer.counters.step == 9:
            next(trainer.model.parameters()).data.fill_(math.nan)

    monkeypatch.setattr(Trainer, "_step", spoiled)
    with pytest.raises(TrainingFault, match=rf"good weights from before are saved in {tmp_path}.*start='{tmp_path}'"):
        trained(tmp_path)
    found = load(tmp_path)
    assert all(torch.equal(weight, best[name]) for name, weight in found.model.state_dict().items())
    monkeypatch.undo()
    assert trained(tmp_path / "on", start=found.model).finished
    with pytest.raises(CheckpointError, match=f"numbers went wrong.*start='{tmp_path}'"):
        load(tmp_path, resume=True)


def test_what_is_worse_than_guessing_is_said(tmp_path):
    done = trained(tmp_path, optimizer="sgd", learning_rate=100.0, clip=0.0)
    assert done.finished
    assert f"{math.log2(len(set(SPLIT.training.read()))):.1f} if all that occurs in it" in done.warning
    assert "worse than guessing" in done.warning
    assert "Try `learning_rate=0.003` or `clip=1`" in done.warning
    assert trained(tmp_path / "good").warning is None


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"weight_decay": 1e9}, "`weight_decay=0.3`"),
        ({"weight_decay": 1e9, "optimizer": "sgd"}, "`weight_decay=0`"),
        ({"learning_rate": 1e38}, "`learning_rate=0.003`"),
        ({"learning_rate": 1e38, "clip": 0.0}, "`learning_rate=0.003` or `clip=1`"),
    ],
)
def test_the_setting_that_went_wrong_is_the_one_to_change(options, advice):
    assert step.advice(settings(**options)) == f"Try {advice}"


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
    half = trained(tmp_path / "third", "gru", observer=stop_after(20), **options)
    assert same(resume(load(half.path, resume=True), narrow).model, done.model)


def test_counting_can_be_interrupted_and_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, "ngram", "1s", observer=observing(should_stop=lambda: True))
    assert not list(tmp_path.iterdir())


class Clock:
    """A clock that goes on only when it is told to."""

    now = 1000.0

    def monotonic(self):
        return self.now


def timed(monkeypatch, seconds_of, budget):
    """Train to the end of a budget of time; step number n takes `seconds_of(n)`. The seconds it took, the counters."""
    ids, slice_ids = encode(SPLIT.train, TOKENIZER), encode(SPLIT.validation, TOKENIZER)
    trainer = Trainer(GRU(small("gru"), TOKENIZER.vocab_size), ids, slice_ids, settings(budget=budget))
    clock, update = Clock(), trainer.step._update

    def slowly(*arguments):
        clock.now += seconds_of(trainer.counters.step)
        return update(*arguments)

    set_clock(monkeypatch, clock)
    monkeypatch.setattr(trainer.step, "_update", slowly)
    trainer.run()
    return clock.now - Clock.now, trainer.counters


@pytest.mark.parametrize("from_step", [5, 30, 60, 92, 97])
def test_a_budget_of_time_holds_whenever_the_machine_becomes_slow(monkeypatch, from_step):
    took, counters = timed(monkeypatch, lambda step: 1.0 if step >= from_step else 0.1, "10s")
    assert took <= 10 + 1.2  # one step more at most
    assert counters.step == counters.steps


@pytest.mark.parametrize("counting", [0.0, 9.0, 12.0])  # seconds of a budget of 10, before the first step
@pytest.mark.parametrize("weighing", [0.0, 5.0])
def test_steps_that_take_no_time_on_the_clock_end_with_the_budget(monkeypatch, counting, weighing):
    ids, slice_ids = encode(SPLIT.train, TOKENIZER), encode(SPLIT.validation, TOKENIZER)
    clock, asked, ended = Clock(), itertools.count(), []

    def should_stop():
        clock.now += next(asked) % 10 == 9  # a coarse clock: ten steps and a second
        return False

    def tune():
        clock.now += weighing
        ended.append(clock.now)

    mixture = SimpleNamespace(seconds=counting, reserved=lambda _: weighing, tune=tune)
    network = GRU(small("gru"), TOKENIZER.vocab_size)
    trainer = Trainer(network, ids, slice_ids, settings(budget="10s"), mixture=mixture)
    set_clock(monkeypatch, clock)
    trainer.run(observing(should_stop=should_stop))
    assert len(ended) == 1
    assert trainer.counters.step == trainer.counters.steps
    assert clock.now - Clock.now <= max(10 - counting, weighing) + 2


@pytest.mark.parametrize("long", [False, True])
def test_a_busy_machine_is_told_once(tmp_path, monkeypatch, long):
    told = []
    monkeypatch.setattr(session, "BUSY_SECONDS", 0.0 if long else math.inf)
    monkeypatch.setattr(MachineMeter, "use", lambda _: MachineUse(own=0.2, others=1.8, cores=2))
    trained(tmp_path, observer=observing(on_notice=told.append))
    assert len(told) == 1
    assert "the machine is busy" in told[0] or not long


def test_a_budget_that_is_shorter_than_the_first_steps_ends_after_them(monkeypatch):
    took, counters = timed(monkeypatch, lambda _: 6.0, "10s")
    assert counters.step == 2
    assert took == 12


def test_counting_that_takes_most_of_a_budget_is_said_before(tmp_path, monkeypatch):
    monkeypatch.setattr(ARCHITECTURES["ngram"], "estimated_seconds", lambda *_: 30.0)
    told = []
    observer = observing(on_notice=told.append, on_stage=lambda what, _: told.append(what))
    trained(tmp_path / "a", "ngram", "20s", observer=observer)
    (said,) = (line for line in told if "about 30 s" in line)
    assert told.index(said) < told.index("counting")
    told.clear()
    trained(tmp_path / "b", "ngram", "40s", observer=observer)
    assert not any("about 30 s" in line for line in told)
