"""The commands as a person uses them: what they print where, and their exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import Charlm, begun

import charlm as charlm_package
from charlm import checkpoint, cli
from charlm.cli import COMMANDS
from charlm.cli import train as train_command
from charlm.cli.live import StopRequest
from charlm.models import ARCHITECTURES, CountingModel
from charlm.tokenizers import TOKENIZERS

QUICK = ("--budget", "4steps", "--size", "tiny", "--quiet")


def train(charlm: Charlm, *arguments: str) -> Path:
    counted = any(issubclass(kind, CountingModel) for name, kind in ARCHITECTURES.items() if name in arguments)
    quick = QUICK[-1:] if counted else QUICK
    outcome = charlm("train", "corpus.txt", *quick, "--json", *arguments)
    assert outcome.code == 0, outcome.err
    return Path(json.loads(outcome.out)["run"])


def test_public_names_are_where_they_are_said_to_be() -> None:
    assert [name for name in charlm_package.__all__ if not hasattr(charlm_package, name)] == []
    assert not hasattr(charlm_package, "nonsense")


def test_the_library_does_what_the_readme_shows(folder: Path, charlm: Charlm) -> None:
    run = charlm_package.load(str(train(charlm, "--arch", "gru")))
    text = charlm_package.open_corpus(["corpus.txt"])
    assert charlm_package.evaluate(run.model, run.tokenizer, text).bits_per_character > 0
    sampling = charlm_package.Sampling(temperature=0.8)
    assert len(charlm_package.sample(run.model, run.tokenizer, "hello", length=20, settings=sampling)[0]) == 20


@pytest.mark.parametrize(("setting", "coloured"), [("", True), ("1", False)])
def test_no_color_is_respected(setting: str, coloured: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", setting)
    with CliRunner().isolation(color=True) as streams:
        assert cli.run(["train", "missing.txt"]) == 3
        assert (b"\x1b[" in streams[1].getvalue()) is coloured


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from charlm.cli import run; assert run(['--help']) == 0 and run(['--version']) == 0;"
        "assert not {'torch', 'numpy', 'rich', 'sentencepiece'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_short_sections(command: str, charlm: Charlm) -> None:
    outcome = charlm(command, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: charlm {command}")
    assert max(len(section.splitlines()) for section in outcome.out.split("\n\n")) <= 48  # a screen


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_train_evaluate_and_sample_each_architecture(architecture: str, folder: Path, charlm: Charlm) -> None:
    run = train(charlm, "--arch", architecture)
    assert run == Path("checkpoints") / f"corpus-{architecture}"
    figures = json.loads(charlm("evaluate", "--json").out)
    assert figures["run"] == str(run)
    assert figures["perplexity"] == pytest.approx(2 ** figures["bits_per_character"])
    assert figures["bits_per_byte"] == pytest.approx(figures["bits_per_character"])  # ASCII
    greedy = charlm("sample", "--prompt", "HAM", "--greedy", "--length", "20").out
    assert charlm("sample", "--prompt", "HAM", "--beams", "1", "--length", "20").out == greedy
    drawn = [charlm("sample", "--prompt", "HAM", "--length", "20", "--seed", "3", "-t", "0.9").out for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert drawn[0].startswith("HAM")
    assert len(drawn[0]) == 3 + 20 + 1


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_each_tokenizer_trains_and_round_trips(tokenizer: str, folder: Path, charlm: Charlm) -> None:
    size = ("--vocab-size", "300") if tokenizer == "sentencepiece" else ()
    run = train(charlm, "--arch", "ngram", "--tokenizer", tokenizer, *size)
    assert (
        checkpoint.load(run).tokenizer.decode(checkpoint.load(run).tokenizer.encode("Žluťoučký 🐎\r\n"))
        == "Žluťoučký 🐎\r\n"
    )
    assert json.loads(charlm("evaluate", "--json").out)["tokenizer"] == tokenizer


def test_data_goes_to_stdout_and_the_rest_to_stderr(folder: Path, charlm: Charlm) -> None:
    outcome = charlm("train", "corpus.txt", "--budget", "4steps", "--size", "tiny")
    assert outcome.out == ""
    assert "charlm evaluate" in outcome.err
    sampled = charlm("sample", "-n", "2", "-l", "5", "--json")
    assert len(json.loads(sampled.out)["texts"]) == 2
    lines = (folder / "checkpoints/corpus-lstm" / checkpoint.METRICS).read_text().splitlines()
    assert all("training" in json.loads(line) for line in lines)


def test_standard_input_is_a_corpus_and_a_prompt(folder: Path, charlm: Charlm) -> None:
    text = (folder / "corpus.txt").read_text()
    assert charlm("train", "-", "--arch", "ngram", "-q", stdin=text).code == 0
    assert charlm("sample", "--prompt-file", "-", "-l", "0", stdin="OPHELIA").out == "OPHELIA\n"
    assert "standard input" in charlm("evaluate").err
    assert charlm("evaluate", "--text", "corpus.txt", "--json").code == 0


def test_runs_are_numbered_and_kept(folder: Path, charlm: Charlm) -> None:
    assert [train(charlm, "--arch", "ngram").name for _ in range(3)] == [
        "corpus-ngram",
        "corpus-ngram-2",
        "corpus-ngram-3",
    ]
    assert charlm("train", "corpus.txt", "--arch", "ngram", "-o", "checkpoints/corpus-ngram").code == 2
    assert charlm("train", "corpus.txt", "--arch", "ngram", "-q", "-o", "checkpoints/corpus-ngram", "--force").code == 0
    assert charlm("train", "corpus.txt", "--arch", "ngram", "-q", "-o", ".", "--force").code == 2


def test_fine_tuning_keeps_tokenizer_and_shape(folder: Path, charlm: Charlm) -> None:
    first = checkpoint.load(train(charlm, "--arch", "gru"))
    (folder / "other.txt").write_text("Entirely other words — with a dash.\n" * 40, encoding="utf-8")
    outcome = charlm("train", "other.txt", "--from", str(first.path), *QUICK[:2], *QUICK[-1:], "--json")
    assert outcome.code == 0, outcome.err
    second = checkpoint.load(Path(json.loads(outcome.out)["run"]))
    assert second.tokenizer.fingerprint == first.tokenizer.fingerprint
    assert second.model.config == first.model.config


DAMAGE = {
    "checkpoint.json": (b"{", "damaged"),
    "tokenizer": (b"{}", "damaged"),
    "weights": (b"x" * 64, "damaged"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_an_error(name: str, folder: Path, charlm: Charlm) -> None:
    run = train(charlm, "--arch", "rnn")
    content, message = DAMAGE[name]
    next(iter(run.glob(f"{name}*"))).write_bytes(content)
    outcome = charlm("sample", str(run))
    assert (outcome.code, message in outcome.err) == (3, True)


def test_a_run_from_a_newer_format_is_an_error(folder: Path, charlm: Charlm) -> None:
    card = train(charlm, "--arch", "rnn") / "checkpoint.json"
    card.write_text(re.sub(r'"format": \d+', '"format": 99', card.read_text()))
    outcome = charlm("evaluate")
    assert (outcome.code, "upgrade charlm" in outcome.err) == (3, True)


def test_a_changed_corpus_is_noticed(folder: Path, charlm: Charlm) -> None:
    train(charlm, "--arch", "ngram")
    with (folder / "corpus.txt").open("a") as file:
        file.write("More.\n")
    outcome = charlm("evaluate")
    assert (outcome.code, "--text" in outcome.err) == (3, True)


def test_how_sure_a_figure_is(folder: Path, charlm: Charlm) -> None:
    train(charlm, "--arch", "ngram")
    assert "(too short a text for an interval)" in charlm("evaluate").out
    (folder / "long.txt").write_text((folder / "corpus.txt").read_text() * 4)
    assert re.search(r"\(95 % interval \d\.\d{3} to \d\.\d{3}\)", charlm("evaluate", "--text", "long.txt").out)


def test_a_prompt_with_unseen_characters_works(folder: Path, charlm: Charlm) -> None:
    train(charlm, "--arch", "lstm")
    assert charlm("sample", "-p", "žluťoučký 🐎", "-l", "5").out.startswith("žluťoučký 🐎")


def test_no_space_left_is_one_line(folder: Path, charlm: Charlm, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = charlm("train", "corpus.txt", "--arch", "ngram", "-q")
    assert outcome.code == 1
    assert "No space left on device" in outcome.err
    assert len(outcome.err.strip().splitlines()) <= 2


def spawn(*arguments: str, folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "charlm", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_resume_finishes(number: int, code: int, folder: Path, charlm: Charlm) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # what nohup has ignored, children would ignore, too
    process = spawn("train", "corpus.txt", "--arch", "gru", "--size", "tiny", "--budget", "100000steps", folder=folder)
    signal.signal(number, before)
    metrics = folder / "checkpoints/corpus-gru" / checkpoint.METRICS
    deadline = time.monotonic() + 120
    while not metrics.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    try:
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code, err
    run = "checkpoints/corpus-gru"
    assert f"charlm train --resume {run}" in err.decode()
    steps = checkpoint.load(folder / run, resume=True).history.progress["step"]
    card = folder / run / checkpoint.CARD
    card.write_text(card.read_text().replace('"steps": 100000', f'"steps": {steps + 5}'))
    outcome = charlm("train", "--resume", run, "-q")
    assert outcome.code == 0, outcome.err
    assert checkpoint.load(folder / run).history.finished
    assert charlm("train", "--resume", run).code == 3  # nothing left to do without a larger budget


def test_a_run_goes_on_when_nobody_reads_along(folder: Path) -> None:
    process = spawn("train", "corpus.txt", "--arch", "rnn", "--size", "tiny", "--budget", "5steps", folder=folder)
    assert process.stderr is not None
    assert process.stdout is not None
    process.stderr.close()
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert checkpoint.load(folder / "checkpoints/corpus-rnn").history.progress["step"] == 5


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_run_goes_on_when_nothing_can_be_said(folder: Path) -> None:
    command = [sys.executable, "-m", "charlm", "train", "corpus.txt", "--arch", "rnn", "--size", "tiny"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*command, "--budget", "5steps"], cwd=folder, stderr=full)
    assert done.returncode == 0
    assert checkpoint.load(folder / "checkpoints/corpus-rnn").history.progress["step"] == 5


def test_streams_that_are_closed_hold_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = ("stdin", "stdout", "stderr")
    for arguments, code in (["data", "list"], 0), (["train", "-"], 3), (["sample"], 3):
        for stream in streams:
            monkeypatch.setattr(sys, stream, None)
        with pytest.raises(SystemExit) as ending:
            cli.main(arguments)
        assert ending.value.code == code
        for stream in streams:
            getattr(sys, stream).close()


def test_a_signal_after_training_changes_nothing(folder: Path, charlm: Charlm, monkeypatch: pytest.MonkeyPatch) -> None:
    show = train_command.show_outcome

    def shown(*arguments: object, **options: object) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return show(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(train_command, "show_outcome", shown)
    outcome = charlm("train", "corpus.txt", "--arch", "ngram", "--order", "3")
    assert outcome.code == 0
    assert "charlm sample checkpoints/corpus-ngram" in outcome.err


def test_a_text_that_has_moved_is_named_to_go_on(folder: Path, charlm: Charlm) -> None:
    run = begun()
    (folder / "corpus.txt").rename(folder / "moved.txt")
    assert charlm("train", "--resume", str(run), "-q").code == 3
    (folder / "other.txt").write_text("something else " * 99)
    outcome = charlm("train", "other.txt", "--resume", str(run), "-q")
    assert (outcome.code, "not the text that this run was made from" in outcome.err) == (3, True)
    outcome = charlm("train", "moved.txt", "--resume", str(run), "-q")
    assert outcome.code == 0, outcome.err
    assert json.loads(charlm("evaluate", str(run), "--json").out)["characters"]


@pytest.mark.parametrize(
    ("graceful", "signals", "end"), [(True, 1, False), (True, 2, True), (False, 1, True), (False, 2, True)]
)
def test_the_first_signal_is_recorded_where_work_polls_for_it_and_the_second_ends_it_all(
    graceful: bool, signals: int, end: bool
) -> None:
    request, ended = StopRequest(), False
    request.graceful = graceful
    try:
        for _ in range(signals):
            request.handle(signal.SIGTERM, None)
    except KeyboardInterrupt:
        ended = True
    assert (ended, request()) == (end, signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_prompt_may_be_empty_and_long(architecture: str, folder: Path, charlm: Charlm) -> None:
    train(charlm, "--arch", architecture)
    odd = "by night? \0\x1b\r\n\u2028\u202e\u0627\u0644 e\u0301 漢\U0001f468\u200d\u0378"
    beams = ("--beams", "2")
    for prompt, more in ("", ()), ("", beams), (odd * 1000, ()), ((odd * 10_000)[:100_000], beams):
        (folder / "prompt.txt").write_bytes(prompt.encode())
        outcome = charlm("sample", "--prompt-file", "prompt.txt", "--length", "5", *more)
        assert outcome.code == 0, outcome.err
        assert outcome.out.startswith(prompt)
        assert len(outcome.out) == len(prompt) + 5 + len("\n")


@pytest.mark.slow
def test_a_closed_pipe_is_silent(folder: Path, charlm: Charlm) -> None:
    train(charlm, "--arch", "ngram")
    process = spawn("sample", "--stream", "-l", "100000", folder=folder)
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 0
