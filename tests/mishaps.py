"""Mishaps: what is done to a run, a file or the machine so that a command meets an error."""

import dataclasses
import errno
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from charlm import checkpoint, errors
from charlm.checkpoint import CARD, loading
from charlm.compression import Content, compress
from charlm.compression.predictors import EnginePredictor
from charlm.files import sha256_of
from charlm.models import ARCHITECTURES, LSTM, Member, Mixture
from charlm.tokenizers import TOKENIZERS
from charlm.training.loop import Trainer

Prepare = Callable[[Path, pytest.MonkeyPatch], object]


def edit(run: str, **changes: object) -> Prepare:
    """Change what a run's card says; a function is applied to what is there."""

    def prepare(folder: Path, _: pytest.MonkeyPatch) -> None:
        card = json.loads((folder / run / CARD).read_text())
        for name, value in changes.items():
            card[name] = value(card[name]) if callable(value) else value
        (folder / run / CARD).write_text(json.dumps(card))

    return prepare


def replace(run: str, stem: str, content: bytes | Callable[[bytes], bytes], *, vouch: bool = False) -> Prepare:
    """Put something else into a file of a run; with `vouch` the card says that it is right."""

    def prepare(folder: Path, _: pytest.MonkeyPatch) -> None:
        (file,) = (folder / run).glob(f"{stem}*")
        file.write_bytes(content(file.read_bytes()) if callable(content) else content)
        if vouch:
            card = json.loads((folder / run / CARD).read_text())
            for entry in card["files"].values():
                if entry["name"] == file.name:
                    entry |= {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
            (folder / run / CARD).write_text(json.dumps(card))

    return prepare


def write(name: str, content: bytes | str) -> Prepare:
    def prepare(folder: Path, _: pytest.MonkeyPatch) -> None:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    return prepare


def remove(pattern: str) -> Prepare:
    return lambda folder, _: [file.unlink() for file in folder.glob(pattern)]


def patch(target: object, name: str, value: object) -> Prepare:
    return lambda _, monkeypatch: monkeypatch.setattr(target, name, value)


def raising(problem: BaseException) -> Callable[..., object]:
    def call(*_: object, **__: object) -> object:
        raise problem

    return call


def together(*preparations: Prepare) -> Prepare:
    return lambda folder, monkeypatch: [prepare(folder, monkeypatch) for prepare in preparations]


def held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread trains the run, and ends with the test."""
    begun, over = threading.Event(), threading.Event()

    def hold() -> None:
        with checkpoint.locked(folder / "begun"):
            begun.set()
            over.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(60)
    monkeypatch.setattr(checkpoint, "_over", over.set, raising=False)


def linked_card(folder: Path, _: pytest.MonkeyPatch) -> None:
    (folder / "done" / CARD).rename(folder / "card")
    (folder / "done" / CARD).symlink_to("../card")


def broken_weights(folder: Path, _: pytest.MonkeyPatch) -> None:
    run = checkpoint.load(folder / "done")
    for weight in run.model.parameters():
        weight.data.fill_(float("nan"))
    checkpoint.save(folder / "done", "lstm", run.model, run.tokenizer, run.history)


def twice_the_mass(folder: Path, _: pytest.MonkeyPatch) -> None:
    run = checkpoint.load(folder / "counted")
    run.model.mass *= 2
    checkpoint.save(folder / "counted", "ngram", run.model, run.tokenizer, run.history)


def other_tokenizer(folder: Path, _: pytest.MonkeyPatch) -> None:
    other = TOKENIZERS["characters"].train(["xyz" * 9], TOKENIZERS["characters"].Config())
    replace("done", "tokenizer", other.files()["tokenizer.json"], vouch=True)(folder, _)


def retokenised(folder: Path, _: pytest.MonkeyPatch) -> None:
    run = checkpoint.load(folder / "done")
    other = TOKENIZERS["characters"].train(["xyz" * 9], TOKENIZERS["characters"].Config())
    (folder / "other").mkdir()
    checkpoint.save(folder / "other", "lstm", LSTM(run.model.config, other.vocab_size), other, run.history)


def as_mixture(folder: Path, _: pytest.MonkeyPatch) -> None:
    runs = [checkpoint.load(folder / name) for name in ("counted", "done")]
    config = Mixture.Config(members=tuple(Member(run.architecture, run.model.config) for run in runs))
    model = Mixture(config, runs[0].model.vocab_size, [run.model for run in runs])
    checkpoint.save(folder / "done", "mixture", model, runs[0].tokenizer, runs[0].history)


def members(*, count: int = 2, levels: int = 0, member: object = None) -> Prepare:
    """A card that says it is a mixture of these, in mixtures in mixtures."""

    def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        edit("done", architecture="mixture", config="HERE")(folder, monkeypatch)
        inner, card = ", ".join([json.dumps(member)] * count), folder / "done" / CARD
        for _ in range(levels):
            inner = f'{{"architecture": "mixture", "config": {{"members": [{inner}]}}}}, {json.dumps(NGRAM)}'
        card.write_text(card.read_text().replace('"HERE"', f'{{"members": [{inner}]}}'))

    return prepare


NGRAM = {"architecture": "ngram", "config": {}}


def meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resume = Trainer.resume

    def slow(trainer: Trainer, *arguments: object) -> None:
        resume(trainer, *arguments)  # type: ignore[arg-type]
        edit("begun", progress=lambda progress: progress | {"step": progress["step"] + 1})(folder, monkeypatch)

    monkeypatch.setattr(Trainer, "resume", slow)


def always_new(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is saved again whenever it is read."""

    def load(path: Path, *_: object) -> None:
        edit("done", seed=lambda seed: seed + 1)(folder, monkeypatch)
        raise errors.CheckpointError(f"{path}: gone")

    edit("done", seed=0)(folder, monkeypatch)
    monkeypatch.setattr(loading, "_load", load)


def poisoned(step: int) -> Prepare:
    """The loss is not a number from a step on."""

    def prepare(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        kind, calls = ARCHITECTURES["rnn"], []
        score = kind.score

        def call(self: torch.nn.Module, *arguments: object) -> object:
            calls.append(self.training)
            log_probs, state = score(self, *arguments)  # type: ignore[arg-type]
            return log_probs * (float("nan") if sum(calls) >= step else 1), state

        monkeypatch.setattr(kind, "score", call)

    return prepare


def packed(change: Callable[[bytes], bytes] = lambda content: content, **header: object) -> Prepare:
    """x.clm: a text that the run `done` has compressed; changed, or with other values in its header, vouched for."""

    def prepare(folder: Path, _: pytest.MonkeyPatch) -> None:
        run = checkpoint.load(folder / "done")
        made = compress(
            run.model, run.tokenizer, Content.of_bytes(b"the ghost of the night", run.tokenizer),
            run=run.name, weights=run.weights,
        )  # fmt: skip
        container = made.container._replace(header=dataclasses.replace(made.container.header, **header))  # type: ignore[arg-type]
        (folder / "x.clm").write_bytes(change(container.to_bytes()))

    return prepare


def inexact(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same step gives other probabilities each time."""
    step, calls = EnginePredictor.step, []

    def call(*arguments: object) -> object:
        calls.append(1)
        weights, state = step(*arguments)  # type: ignore[arg-type]
        return weights ** (1 + 1e-3 * len(calls)), state

    monkeypatch.setattr(EnginePredictor, "step", call)


FULL = raising(OSError(errno.ENOSPC, "No space left on device"))
READ_ONLY = raising(OSError(errno.EROFS, "Read-only file system"))
NO_MEMORY = raising(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."))
