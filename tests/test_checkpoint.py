"""Runs on disk: saved whole or not at all, and whatever is damaged is named."""

import hashlib
import json
import os
import shutil
import socket
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch

from charlm import files
from charlm.checkpoint import (
    CARD,
    LOCK,
    METRICS,
    History,
    add_metrics,
    keep_metrics,
    load,
    loading,
    lock,
    locked,
    new_run,
    newest,
    read_metrics,
    runs,
    save,
    saving,
)
from charlm.corpus import open_corpus, split
from charlm.errors import CharlmError, CheckpointError, UsageError
from charlm.evaluation import evaluate
from charlm.files import atomic_file, sha256_of, write_atomically
from charlm.models import ARCHITECTURES, LSTM, CountingModel
from charlm.tokenizers import TOKENIZERS, Characters
from charlm.tokenizers.characters import CharactersConfig

TEXT = "the cat sat on the mat; the rat ate that.\n" * 10
TOKENIZER = Characters.train([TEXT], CharactersConfig())
V = TOKENIZER.vocab_size
SMALL = {"width": 8, "layers": 1, "heads": 1, "window": 4, "embedding": 4, "order": 3}


@cache
def made(architecture="lstm", seed=0, **options):
    torch.manual_seed(seed)
    kind = ARCHITECTURES[architecture]
    known = kind.Config.names()
    model = kind(kind.Config().changed({k: v for k, v in SMALL.items() if k in known} | options), V)
    if isinstance(model, CountingModel):
        ids = TOKENIZER.encode(TEXT)
        model.fit(ids[:-50], ids[-50:])
    return model.eval()


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    save(path, "lstm", made(), TOKENIZER, History(plan="cats"), {"state.0": torch.ones(3)})
    return path


def test_weights_are_written_as_the_library_writes_them_and_without_a_copy():
    wide = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "b": wide, "a": wide.T, "é\"": torch.tensor(3), "none": torch.zeros(0, 4, dtype=torch.int32),
        "brain": wide.bfloat16(), "flags": torch.tensor([True, False, True]), "double": wide.double(),
        "bytes": torch.arange(5, dtype=torch.uint8), "short": torch.arange(3, dtype=torch.int16), "half": wide.half(),
    }  # fmt: skip
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    pieces = saving.safetensors(tensors)
    assert b"".join(pieces) == safetensors.torch.save(contiguous)
    wide[0, 0] = 42.0
    assert b"".join(pieces) == safetensors.torch.save(contiguous | {"b": wide})


def edit(path, **changes):
    """Change the card; a value that is a function is applied to what is there."""
    card = json.loads((path / CARD).read_text())
    for name, value in changes.items():
        card[name] = value(card[name]) if callable(value) else value
    (path / CARD).write_text(json.dumps(card))


def replace_file(path, kind, name, content):
    """Another file in the place of one, and a card that vouches for it."""
    (path / name).write_bytes(content)
    entry = {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(path, files=lambda files: files | {kind: entry})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saved_and_loaded_to_the_bit(tmp_path, architecture):
    model = made(architecture)
    save(tmp_path, architecture, model, TOKENIZER, History(corpus={"name": "cats"}, extra={"seed": 3}))
    found = load(tmp_path)
    assert same(found.model, model)
    assert (found.architecture, found.model.config, found.name) == (architecture, model.config, tmp_path.name)
    assert found.tokenizer.files() == TOKENIZER.files()
    assert (found.history.corpus, found.history.extra) == ({"name": "cats"}, {"seed": 3})
    assert found.resume == {}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_tokenizer_comes_back(tmp_path, kind):
    config = TOKENIZERS[kind].Config(**({"vocab_size": 270} if kind == "sentencepiece" else {}))
    tokenizer = TOKENIZERS[kind].train([TEXT], config)
    model = LSTM(LSTM.Config(width=4), tokenizer.vocab_size)
    save(tmp_path, "lstm", model, tokenizer, History())
    assert load(tmp_path).tokenizer.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("architecture", ["lstm", "transformer"])
def test_tied_weights_are_stored_once_and_stay_tied(tmp_path, architecture):
    model = made(architecture, tie=True)
    save(tmp_path, architecture, model, TOKENIZER, History())
    found = load(tmp_path).model
    assert same(found, model)
    assert found.output.weight is found.embedding.weight
    (weights,) = tmp_path.glob("weights-*")
    assert "output.weight" not in safetensors.torch.load_file(weights)


def test_loading_draws_no_random_number(run):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load(run)
    assert torch.equal(torch.rand(3), expected)


def test_what_a_run_needs_to_go_on(run):
    assert torch.equal(load(run, resume=True).resume["state.0"], torch.ones(3))
    save(run, "lstm", made(seed=1), TOKENIZER, History())
    assert sorted(file.name.split("-")[0] for file in run.iterdir()) == [CARD, "tokenizer", "weights"]
    with pytest.raises(CheckpointError, match=rf"a larger budget trains it on: `train\(resume='{run}', budget="):
        load(run, resume=True)


def test_the_files_can_be_read_by_whoever_may_read_the_card(run):
    assert {file.stat().st_mode for file in run.iterdir()} == {(run / CARD).stat().st_mode}


def test_any_file_name_can_be_told_of(run):
    history = History(corpus={"name": os.fsdecode(b"caf\xe9.txt")}, plan="café \U0001f600")
    save(run, "lstm", made(), TOKENIZER, history)
    assert load(run).history == history


@pytest.mark.parametrize("step", range(10))
@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (OSError(28, "No space left"), "cannot save the run: No space left; the last save is untouched"),
        (KeyboardInterrupt(), None),
    ],
)
def test_a_save_that_fails_leaves_the_last_one(run, monkeypatch, step, failure, expected):
    calls = 0

    def failing(function):
        def call(*arguments, **named):
            nonlocal calls
            calls += 1
            if calls > step:
                raise failure
            return function(*arguments, **named)

        return call

    with monkeypatch.context() as patch:
        for name in ("fsync", "replace", "fdopen"):
            patch.setattr(os, name, failing(getattr(os, name)))
        patch.setattr(files, "sync_folder", lambda _: None)  # which forgives
        if step < 9:
            with pytest.raises((CharlmError, KeyboardInterrupt), match=expected):
                save(run, "lstm", made(seed=1), TOKENIZER, History(plan="dogs"), {"state.0": torch.zeros(3)})
            found = load(run, resume=True)
            assert same(found.model, made())
            assert (found.history.plan, found.resume["state.0"].tolist()) == ("cats", [1, 1, 1])
            assert not list(run.glob(".*"))
        else:
            save(run, "lstm", made(seed=1), TOKENIZER, History(plan="dogs"), {"state.0": torch.zeros(3)})
            assert same(load(run).model, made(seed=1))


def test_saving_nowhere_is_an_error_that_says_so(tmp_path):
    with pytest.raises(CharlmError, match="gone: cannot save the run: No such file"):
        save(tmp_path / "gone", "lstm", made(), TOKENIZER, History())


def test_a_save_removes_what_no_save_needs_and_nothing_else(run):
    left = [".weights-0123456789ab.safetensors.x.part", "weights-0123456789ab.safetensors", ".checkpoint.json.y.part"]
    mine = ["notes.txt", "other.safetensors", ".part"]
    for name in left + mine:
        (run / name).write_text("")
    save(run, "lstm", made(seed=1), TOKENIZER, History())
    names = {file.name for file in run.iterdir()}
    assert not names & set(left)
    assert names >= set(mine)
    assert same(load(run).model, made(seed=1))


def test_a_run_that_is_saved_while_it_is_read_is_read_as_it_is_then(run, monkeypatch):
    verify = loading.verify

    def late(file, entry):
        monkeypatch.setattr(loading, "verify", verify)
        save(run, "lstm", made(seed=1), TOKENIZER, History())
        verify(file, entry)

    monkeypatch.setattr(loading, "verify", late)
    assert same(load(run).model, made(seed=1))


# One trainer at a time


def test_a_run_has_one_trainer(run):
    with locked(run):
        assert (run / LOCK).read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
        with (
            pytest.raises(CharlmError, match=rf"{run}: process {os.getpid()} on \S+ is training this run"),
            locked(run),
        ):
            pass
    assert not (run / LOCK).exists()
    with locked(run):
        pass


def test_what_a_killed_trainer_leaves_is_taken_over(run):
    (run / LOCK).write_text("process 1 on elsewhere\n")
    with locked(run):
        assert f"process {os.getpid()} " in (run / LOCK).read_text()


def test_a_lock_leads_nowhere(run, tmp_path):
    (tmp_path / "dear").write_text("dear")
    (run / LOCK).symlink_to(tmp_path / "dear")
    with pytest.raises(CharlmError, match="cannot be written to"), locked(run):
        pass
    assert (tmp_path / "dear").read_text() == "dear"


def test_a_file_system_without_locks_protects_nothing(run, monkeypatch):
    monkeypatch.setattr(lock, "_try", lambda _: os.open(run / "gone", os.O_RDONLY))
    with locked(run), locked(run):
        pass


# What was measured


def test_metrics_that_are_none_are_passed_by(run):
    assert read_metrics(run) == []
    (run / METRICS).write_bytes(b'{"step": 1}\n{"step": 2, "x": 3}\n[4]\n{"st\n\xff\n' + b"[" * 99_999)
    assert read_metrics(run) == [{"step": 1}, {"step": 2, "x": 3}]
    add_metrics(run, {"step": 3})
    keep_metrics(run, 1)
    assert (run / METRICS).read_text() == '{"step": 1}\n'
    keep_metrics(run, 0)
    assert not (run / METRICS).exists()


def test_metrics_are_no_way_out_of_the_folder(run, tmp_path):
    (tmp_path / "dear").write_text('{"step": 1}\n')
    (run / METRICS).symlink_to(tmp_path / "dear")
    assert read_metrics(run) == []
    keep_metrics(run, 5)
    add_metrics(run, {"step": 6})
    assert (tmp_path / "dear").read_text() == '{"step": 1}\n'
    assert not (run / METRICS).is_symlink()


# Damage


def refused(path, *words, **options):
    with pytest.raises(CheckpointError) as problem:
        load(path, **options)
    for word in (str(path), *words):
        assert word in str(problem.value)
    assert len(str(problem.value).splitlines()) <= 2


@pytest.mark.parametrize("pattern", ["weights-*", "resume-*", "tokenizer-*"])
def test_a_damaged_file_is_named(run, pattern):
    (file,) = run.glob(pattern)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    refused(run, file.name, "damaged")
    flipped = bytearray(content)
    flipped[-5] ^= 1
    file.write_bytes(flipped)
    refused(run, file.name, "damaged")
    file.unlink()
    refused(run, file.name, "missing")
    file.symlink_to(run / CARD)
    refused(run, file.name, "missing")


def test_files_of_another_run_are_refused(run, tmp_path):
    other = Characters.train([TEXT + "xyzzy"], CharactersConfig())
    (own,) = run.glob("tokenizer-*")
    own.write_bytes(other.files()["tokenizer.json"])
    refused(run, own.name, "damaged")
    replace_file(run, "tokenizer/tokenizer.json", "tokenizer.json", other.files()["tokenizer.json"])
    refused(run, f"the tokenizer has {other.vocab_size} ids, the model {V}")
    save(run, "lstm", made(), TOKENIZER, History())
    replace_file(run, "weights", "other.safetensors", safetensors.torch.save(made(width=9).state_dict()))
    refused(run, "the weights do not fit the configuration")
    halves = {name: tensor.half() for name, tensor in made().state_dict().items()}
    replace_file(run, "weights", "other.safetensors", safetensors.torch.save(halves))
    refused(run, "the weights do not fit the configuration")


def test_weights_that_are_none_are_refused(run):
    replace_file(run, "weights", "other.safetensors", b"\xff" * 1000)
    refused(run, "other.safetensors", "damaged")
    replace_file(run, "weights", "other.safetensors", b"")
    refused(run, "other.safetensors", "damaged")
    save(run, "lstm", made(), TOKENIZER, History())
    edit(run, architecture="ngram", config=made("ngram").config.to_json())
    refused(run)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff", b"[1, 2]", b"3", b"{}", b"null", b"[" * 100_000, b'{"format": 1}', b'{"a":' * 9999]
)
def test_a_card_that_is_none_is_named(run, content):
    (run / CARD).write_bytes(content)
    refused(run, CARD, "damaged")


def test_a_huge_card_is_not_read(run):
    with (run / CARD).open("wb") as file:
        file.truncate(1 << 40)
    refused(run, CARD, "larger than any card")


def test_a_newer_format_asks_for_an_upgrade(run):
    edit(run, format=2)
    refused(run, "format 2", "upgrade charlm")
    edit(run, format=1, architecture="quantum")
    refused(run, "unknown architecture 'quantum'")


CARDS = [
    {"architecture": ["lstm"]},
    {"architecture": None},
    {"tokenizer": {}},
    {"vocab_size": 10**12},
    {"vocab_size": "300"},
    {"vocab_size": True},
    {"config": None},
    {"config": {"width": 8}, "architecture": "transformer"},
    {"config": lambda config: config | {"colour": 3}},
    {"config": lambda config: config | {"width": -1}},
    {"config": lambda config: config | {"width": 10**6}},
    {"config": lambda config: config | {"width": 10**12}},
    {"config": lambda config: config | {"width": 10**30}},
    {"config": lambda config: config | {"layers": 10**9}},
    {"config": lambda config: config | {"width": "8"}},
    {"files": None},
    {"files": {}},
    {"files": {"weights": "weights"}},
    {"files": lambda files: files | {"weights": {"name": 3}}},
    {"files": lambda files: files | {"weights": files["weights"] | {"bytes": None}}},
    {"files": lambda files: {kind: entry for kind, entry in files.items() if kind != "weights"}},
    {"files": lambda files: {kind: entry for kind, entry in files.items() if "tokenizer" not in kind}},
    {"files": lambda files: files | {"weights": files["tokenizer/tokenizer.json"]}},
    *(
        {"files": lambda files, name=name: files | {"weights": files["weights"] | {"name": name}}}
        for name in ("../run/checkpoint.json", "/etc/hostname", "..", "", ".", "a/b", "x" * 5000, "a\x00b")
    ),
]


@pytest.mark.parametrize("changes", CARDS)
def test_a_card_that_says_what_cannot_be_is_refused(run, changes):
    edit(run, **changes)
    with pytest.raises(CheckpointError) as problem:
        load(run)
    assert str(run) in str(problem.value) or "tokenizer.json is missing" in str(problem.value)
    assert len(str(problem.value).splitlines()) <= 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_size_in_a_card_takes_memory_or_time(tmp_path, architecture):
    save(tmp_path, architecture, made(architecture), TOKENIZER, History())
    for name, f in made(architecture).config.__dataclass_fields__.items():
        if f.type in ("int", int):
            for absurd in (10**7, 10**10, 10**20):
                original = (tmp_path / CARD).read_bytes()
                edit(tmp_path, config=lambda config, name=name, absurd=absurd: config | {name: absurd})
                if name not in ("window",):  # of which no number is stored
                    refused(tmp_path)
                (tmp_path / CARD).write_bytes(original)


def test_what_is_not_a_run(tmp_path):
    refused(tmp_path, "is not a run: it has no checkpoint.json", "charlm info")
    refused(tmp_path / "gone", "does not exist")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "does not exist")


# Where runs live


def test_new_runs_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [str(new_run("my text.txt")) for _ in range(3)] == [
        f"checkpoints/my-text.txt{number}" for number in ("", "-2", "-3")
    ]
    assert str(new_run("../..")) == "checkpoints/run"
    assert str(new_run("a/b\n")) == "checkpoints/a-b"


def test_runs_cannot_live_in_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(CharlmError, match="cannot make this folder: Not a directory; `output`"):
        new_run("a")
    with pytest.raises(CharlmError, match="cannot make this folder"):
        new_run("a", tmp_path / "checkpoints" / "b")


def test_an_output_that_exists_is_replaced_only_by_force(run, tmp_path):
    assert new_run("a", tmp_path / "new" / "deep") == tmp_path / "new" / "deep"
    assert new_run("a", tmp_path / "new" / "deep") == tmp_path / "new" / "deep"  # empty
    with pytest.raises(UsageError, match="exists; choose another `output`, or `force=True`"):
        new_run("a", run)
    with pytest.raises(UsageError, match="is not a run; `force=True` replaces only runs"):
        new_run("a", tmp_path, force=True)
    assert load(run).history.plan == "cats"
    assert new_run("a", run, force=True) == run
    assert load(run).history.plan == "cats"  # until the first save
    file = tmp_path / "file"
    file.write_text("dear")
    for force in (False, True):
        with pytest.raises(UsageError, match="file exists"):
            new_run("a", file, force=force)
    assert file.read_text() == "dear"


def test_a_link_to_a_run_is_not_followed_by_force(run, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(run)
    with pytest.raises(UsageError, match="exists and is a link"):
        new_run("a", link, force=True)
    assert load(link).history.plan == "cats"


def test_the_newest_run(run, tmp_path):
    with pytest.raises(CheckpointError, match="none/ yet: make one with `charlm train CORPUS`"):
        newest(tmp_path / "none")
    (tmp_path / "not a run").mkdir()
    shutil.copytree(run, tmp_path / "older")
    os.utime(tmp_path / "older" / CARD, (0, 0))
    assert runs(tmp_path) == [run, tmp_path / "older"]
    assert newest(tmp_path) == run


def test_an_atomic_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"one")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(b"half" + bytes(1 // 0))
    assert path.read_bytes() == b"one"
    write_atomically(path, b"two")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("file", b"two")]
    assert sha256_of(path) == hashlib.sha256(b"two").hexdigest()
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


SAVED = Path(__file__).parent / "saved"
"""Runs of an earlier version (7447f30), one of each architecture, and the bits per character it found them to have."""


@pytest.mark.parametrize("architecture", sorted(path.name for path in SAVED.iterdir() if path.is_dir()))
def test_runs_of_an_earlier_version_say_what_they_said(architecture):
    run = load(SAVED / architecture)
    held_out = split(open_corpus([str(SAVED / "corpus.txt")])).held_out
    expected = json.loads((SAVED / "bits_per_character.json").read_text())[architecture]
    assert evaluate(run.model, run.tokenizer, held_out).bits_per_character == pytest.approx(expected, rel=0, abs=1e-6)
