"""`charlm compare` and `charlm info` as a user meets them: what goes to which stream, errors, exit codes."""

import csv
import io
import json
import math
import os
import random
import signal

import pytest

from charlm import checkpoint
from charlm.cli import run
from charlm.cli.ranking import _short
from charlm.models import ARCHITECTURES, GRU
from charlm.training.loop import Trainer

WORDS = ["the", "cat", "sat", "on", "a", "mat.\n", "and", "saw", "that", "dog"]
TEXT = " ".join(random.Random(0).choices(WORDS, k=3000))
QUICK = ("--budget", "3steps", "--size", "tiny", "--batch", "4", "--segment", "16", "--precision", "float32")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "cats.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture
def charlm(capsys):
    def call(*arguments):
        code = run([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def compared(charlm, *arguments):
    code, out, err = charlm("compare", "cats.txt", *QUICK, "--json", *arguments)
    assert code == 0, err
    return json.loads(out)


class TestTable:
    def test_all_six_and_the_baselines(self, charlm):
        code, out, err = charlm("compare", "cats.txt", *QUICK, "--order", "3")
        assert code == 0, err
        for name in (*ARCHITECTURES, "uniform", "gzip -9", "xz -9"):
            assert sum(line.startswith(name + " ") for line in out.splitlines()) >= 1, name
        assert "characters held out; 3steps of training each. Lower is better." in out
        assert out.count(" best  ") == 1
        assert out.count(" ±?") == 5  # the text is too short to tell
        assert "…" not in out
        assert "\x1b" not in out
        assert max(map(len, out.splitlines())) <= 100

    def test_runs_by_the_same_architecture_are_told_apart(self, charlm):
        for seed in (1, 2):
            compared(charlm, "--arch", "rnn", "--seed", seed)
        code, out, _ = charlm("compare", "checkpoints/cats-rnn", "checkpoints/cats-rnn-2")
        assert code == 0
        assert "cats-rnn-2 " in out
        assert "runs as they were trained" in out

    def test_numbers_are_short(self):
        assert [_short(n) for n in (0, 950, 12_345, 1_200_000, 3e9)] == ["0", "950", "12.3k", "1.2M", "3G"]


class TestData:
    def test_json(self, charlm):
        told = compared(charlm, "--arch", "rnn,gru", "--arch", "ngram", "--order", "3")
        assert {row["architecture"] for row in told["rows"]} == {"rnn", "gru", "ngram"}
        figures = [row["bits_per_character"] for row in told["rows"]]
        assert figures == sorted(figures)
        assert told["rows"][0]["difference"]["mean"] == 0
        assert {entry["name"] for entry in told["baselines"]} == {"uniform", "gzip -9", "xz -9"}
        assert told["budget"] == "3steps"
        assert told["finished"] is True

    def test_csv(self, charlm, folder):
        (folder / "more.txt").write_text(TEXT * 5)
        code, out, _ = charlm("compare", "more.txt", *QUICK, "--csv", "--arch", "rnn,gru")
        assert code == 0
        rows = list(csv.DictReader(io.StringIO(out)))
        assert [row["architecture"] for row in rows][2:] == ["uniform", "gzip -9", "xz -9"]
        for row in rows:
            assert None not in row
            assert float(row["perplexity"]) == pytest.approx(2 ** float(row["bits_per_character"]))
        assert float(rows[1]["difference_low"]) <= float(rows[1]["difference"]) <= float(rows[1]["difference_high"])

    def test_options_reach_those_that_have_them(self, charlm):
        compared(charlm, "--arch", "gru,ngram", "--order", "3", "--width", "20", "--seed", "5")
        gru = checkpoint.read_card(checkpoint.RUNS / "cats-gru")
        assert (gru["config"]["width"], gru["training"]["seed"]) == (20, 5)
        assert checkpoint.read_card(checkpoint.RUNS / "cats-ngram")["config"]["order"] == 3

    def test_output_and_held_out(self, charlm, folder):
        (folder / "other.txt").write_text("the dog sat on the mat.\n" * 99)
        told = compared(charlm, "--arch", "rnn", "-o", "mine", "--held-out", "other.txt", "--context", "5")
        assert told["text_name"] == "other"
        assert told["rows"][0]["run"] == os.path.join("mine", "cats-rnn")  # noqa: PTH118
        assert told["rows"][0]["context"] == 5
        assert charlm("compare", "cats.txt", *QUICK, "-o", "mine")[0] == 2

    def test_sentencepiece_is_marked(self, charlm):
        arguments = ("--arch", "rnn", "--tokenizer", "sentencepiece", "--vocab-size", "266")
        code, out, _ = charlm("compare", "cats.txt", *QUICK, *arguments)
        assert code == 0
        assert "≤: an upper bound" in out


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (("--arch", "lsmt"), 2, "did you mean lstm?"),
            (("--arch", "rnn", "--heads", "2"), 2, "--heads is not an option of rnn; transformer has it"),
            (("--json", "--csv"), 2, "--json and --csv"),
            (("--budget", "soon"), 2, "--budget 'soon' is not an amount"),
            (("--vocab-size", "300"), 2, "--vocab-size is not an option of the characters tokenizer"),
            (("--device", "abacus"), 2, "--device abacus"),
            (("missing.txt",), 3, "missing.txt: no such file"),
            (("--held-out", "missing.txt"), 3, "missing.txt: no such file"),
            (("--context", "0", "--arch", "ngram", "--order", "2"), 2, "--context must be at least 1"),
        ],
    )
    def test_one_or_two_lines(self, charlm, arguments, code, words):
        found, out, err = charlm("compare", "cats.txt", *arguments)
        assert found == code
        assert words in err
        assert "Traceback" not in err
        assert out == ""

    def test_runs_and_corpora_do_not_mix(self, charlm):
        compared(charlm, "--arch", "rnn")
        code, _, err = charlm("compare", "checkpoints/cats-rnn", "cats.txt")
        assert code == 2
        assert "checkpoints/cats-rnn is a run and cats.txt is not" in err

    def test_trained_runs_cannot_be_told_how_to_train(self, charlm):
        compared(charlm, "--arch", "rnn")
        code, _, err = charlm("compare", "checkpoints/cats-rnn", "--budget", "5s")
        assert code == 2
        assert "--budget is for training" in err

    def test_runs_that_held_out_different_texts(self, charlm, folder):
        compared(charlm, "--arch", "rnn")
        (folder / "dogs.txt").write_text(TEXT[::-1])
        charlm("compare", "dogs.txt", *QUICK, "--arch", "rnn")
        code, _, err = charlm("compare", "checkpoints/cats-rnn", "checkpoints/dogs-rnn")
        assert code == 2
        assert "two texts, so their figures cannot be compared" in err


def test_ctrl_c_saves_shows_what_is_done_and_exits_130(charlm, monkeypatch):
    run = Trainer.run

    def interrupted(trainer, *arguments):
        if isinstance(trainer.model, GRU):
            os.kill(os.getpid(), signal.SIGINT)
        return run(trainer, *arguments)

    monkeypatch.setattr(Trainer, "run", interrupted)
    code, out, err = charlm("compare", "cats.txt", *QUICK, "--arch", "rnn,gru,lstm")
    assert code == 130
    assert "rnn " in out
    assert "lstm" not in out
    assert "charlm train --resume checkpoints/cats-gru" in err
    assert checkpoint.load(checkpoint.RUNS / "cats-gru", resume=True).resume


class TestInfo:
    def test_no_run_at_all(self, charlm):
        code, out, err = charlm("info")
        assert (code, out) == (0, "")
        assert "No run in checkpoints/ yet" in err
        assert charlm("info", "--json")[:2] == (0, "[]\n")

    def test_the_list_is_newest_first(self, charlm):
        compared(charlm, "--arch", "ngram,rnn", "--order", "3")
        code, out, _ = charlm("info")
        assert code == 0
        assert [line.split()[0] for line in out.splitlines()] == ["run", "cats-rnn", "cats-ngram"]
        listed = json.loads(charlm("info", "--json")[1])
        rnn = next(entry for entry in listed if entry["architecture"] == "rnn")
        assert rnn["parameters"] == checkpoint.load(checkpoint.RUNS / "cats-rnn").model.parameters_count
        assert rnn["finished"] is True
        assert rnn["corpus"] == "cats"
        assert math.isfinite(rnn["validation_bits_per_character"])

    def test_a_damaged_run_does_not_hide_the_others(self, charlm):
        compared(charlm, "--arch", "rnn,gru")
        (checkpoint.RUNS / "cats-gru" / checkpoint.CARD).write_text("{")
        code, out, _ = charlm("info")
        assert code == 0
        assert "cats-rnn" in out
        assert "damaged" in out

    def test_one_run(self, charlm):
        compared(charlm, "--arch", "rnn")
        code, out, _ = charlm("info", "checkpoints/cats-rnn")
        assert code == 0
        for words in ("learning rate", "held out", "width", "3steps", "characters"):
            assert words in out
        told = json.loads(charlm("info", "checkpoints/cats-rnn", "--json")[1])
        assert told["architecture"] == "rnn"
        assert told["config"]["width"] == ARCHITECTURES["rnn"].sizes["tiny"]["width"]

    def test_no_run_there(self, charlm):
        code, _, err = charlm("info", "nowhere")
        assert code == 3
        assert "nowhere does not exist" in err

    def test_devices(self, charlm):
        code, out, _ = charlm("info", "--device")
        assert code == 0
        assert "cpu" in out
        told = json.loads(charlm("info", "--device", "--json")[1])
        assert sum(entry["auto"] for entry in told) == 1
        assert charlm("info", "somewhere", "--device")[0] == 2
