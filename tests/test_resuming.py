"""Runs that are interrupted and go on, and saves on the way: the end is the same as if nothing had happened."""

import dataclasses
import shutil
import time
from types import SimpleNamespace

import pytest
import torch
from conftest import observing
from test_training import NETWORKS, SPLIT, progress, same, settings, small, stop_after, trained

from charlm import checkpoint
from charlm.checkpoint import load
from charlm.errors import CharlmError, CheckpointError, UsageError
from charlm.models import ARCHITECTURES
from charlm.training import loop, resume
from charlm.training.optimizers import OPTIMIZERS
from charlm.training.session import Session


def interrupted(tmp_path, *stops, **options):
    """A run that was stopped after so many steps, resumed, stopped again, and at last resumed to its end."""
    done = trained(tmp_path / "interrupted", observer=stop_after(stops[0]), **options)
    for steps in (*stops[1:], 10**6):
        assert not done.finished
        assert not progress(done.path)["finished"]
        done = resume(load(done.path, resume=True), SPLIT, observer=stop_after(steps))
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
    trained(tmp_path, observer=stop_after(3))
    run = load(tmp_path, resume=True)
    for broken in (
        {"resume": {name: tensor for name, tensor in run.resume.items() if not name.startswith("random")}},
        {"resume": {name: tensor[..., :1] if tensor.ndim else tensor for name, tensor in run.resume.items()}},
        {"history": dataclasses.replace(run.history, progress=None)},
        {"history": dataclasses.replace(run.history, progress={"colour": 3})},
        {"history": dataclasses.replace(run.history, training=None)},
        {"history": dataclasses.replace(run.history, training={"budget": "soon"})},
    ):
        with pytest.raises(CheckpointError):
            resume(dataclasses.replace(load(tmp_path, resume=True), **broken), SPLIT)


# A larger budget


@pytest.mark.parametrize("architecture", ["gru", "transformer"])
@pytest.mark.parametrize("join", [True, False])
def test_a_finished_run_goes_on_under_a_larger_budget(tmp_path, architecture, join):
    config = small(architecture, dropout=0.3)
    done = trained(tmp_path / "whole", architecture, config=config, join=join)
    shutil.copytree(done.path, tmp_path / "interrupted")
    before, weights = progress(done.path), {n: w.clone() for n, w in done.model.state_dict().items()}
    seen = []
    more = resume(load(done.path), SPLIT, budget="60steps", observer=observing(on_progress=seen.append))
    after = progress(more.path)
    assert (before["step"], after["step"], after["begun"], after["joined"]) == (24, 60, 24, before["joined"])
    assert more.finished
    assert load(more.path).history.budget == "60steps"
    assert any(not torch.equal(weights[name], weight) for name, weight in more.model.state_dict().items())
    assert [p.step for p in seen] == sorted(p.step for p in seen)
    assert all(p.seconds_left >= 0 for p in seen)
    steps = [entry["step"] for entry in checkpoint.read_metrics(more.path)]
    assert steps == sorted(steps)
    assert min(steps) < 24 < max(steps)
    part = resume(load(tmp_path / "interrupted"), SPLIT, budget="60steps", observer=stop_after(5))
    assert not part.finished
    assert same(resume(load(part.path, resume=True), SPLIT).model, more.model)


def test_the_learning_rate_rises_again_and_falls_to_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)
    done, rates = trained(tmp_path), []
    observer = observing(on_progress=lambda p: rates.append(p.learning_rate))
    resume(load(done.path), SPLIT, budget="124steps", observer=observer)
    assert rates[0] < rates[9] == max(rates) > 20 * rates[-1] > 0


def test_a_larger_budget_of_time_is_kept(tmp_path):
    done = trained(tmp_path, budget="0.5s")
    more = resume(load(done.path), SPLIT, budget="1.5s")
    assert more.finished
    assert progress(tmp_path)["step"] == progress(tmp_path)["steps"]
    assert more.seconds > done.seconds


def test_an_interrupted_run_goes_on_under_another_budget(tmp_path):
    trained(tmp_path, observer=stop_after(5))
    more = resume(load(tmp_path, resume=True), SPLIT, budget="40steps")
    assert more.finished
    assert (progress(tmp_path)["step"], progress(tmp_path)["begun"]) == (40, 0)


@pytest.mark.parametrize(
    ("budget", "changes", "message"),
    [
        ("24steps", {}, "which has had 24 steps"),
        ("0.0001s", {}, "which has had 24 steps"),
        ("99steps", {"since_best": 2, "joined": 12}, "of no use"),
    ],
)
def test_a_budget_that_adds_nothing_is_refused(tmp_path, budget, changes, message):
    run = load(trained(tmp_path).path)
    history = dataclasses.replace(run.history, progress=run.history.progress | changes)
    with pytest.raises(UsageError, match=message):
        resume(dataclasses.replace(run, history=history), SPLIT, budget=budget)


# Saves on the way


@pytest.mark.parametrize("options", [{"budget": "14steps"}, {"patience": 2, "learning_rate": 0.5, "join": False}])
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
    session._schedule_save(cost)
    assert session.next_save == pytest.approx(1000.0 + wait)


def test_what_the_clock_on_the_wall_does_changes_nothing(tmp_path, monkeypatch):
    whole = trained(tmp_path / "whole")
    hands = iter(range(10**9, 0, -(10**5)))
    monkeypatch.setattr(time, "time", lambda: next(hands))
    seen = []
    assert same(trained(tmp_path / "back", observer=observing(on_progress=seen.append)).model, whole.model)
    assert all(0 <= p.seconds < 1000 and p.seconds_left >= 0 for p in seen)


def test_a_run_that_is_trained_elsewhere_is_left_alone(tmp_path):
    trained(tmp_path, observer=stop_after(3))
    run = load(tmp_path, resume=True)
    with checkpoint.locked(tmp_path):
        for train_it in (lambda: resume(run, SPLIT), lambda: trained(tmp_path)):
            with pytest.raises(CharlmError, match="is training this run"):
                train_it()
    assert resume(run, SPLIT).finished
    with pytest.raises(CheckpointError, match="trained it on meanwhile"):
        resume(run, SPLIT)


def test_resuming_can_be_interrupted_and_changes_nothing(tmp_path):
    trained(tmp_path, observer=stop_after(3))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    stopped = resume(load(tmp_path, resume=True), SPLIT, observer=observing(should_stop=lambda: True))
    assert not stopped.finished
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
