"""`charlm compare` and `charlm info` as a user meets them: what goes to which stream, errors, exit codes."""

import csv
import io
import json
import math
import os
import random
import shutil
import signal
import statistics
from pathlib import Path

import pytest

from charlm import checkpoint
from charlm.cli import run
from charlm.comparison import short
from charlm.models import GRU, SINGLE
from charlm.models.ngram import NGram
from charlm.training import policy_of
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


def without_time(told):
    timed = ("seconds", "characters_per_second")
    return {**told, "rows": [{k: v for k, v in row.items() if k not in timed} for row in told["rows"]]}


def compared(charlm, *arguments):
    code, out, err = charlm("compare", "cats.txt", *QUICK, "--json", *arguments)
    assert code == 0, err
    return json.loads(out)


class TestTable:
    def test_all_and_the_baselines(self, charlm):
        code, out, err = charlm("compare", "cats.txt", *QUICK, "--order", "3")
        assert code == 0, err
        for name in (*SINGLE, "uniform", "gzip -9", "xz -9"):
            assert sum(line.startswith(name + " ") for line in out.splitlines()) >= 1, name
        assert "characters held out; 3steps of training asked for each. Lower is better." in out
        (counting,) = (line for line in out.splitlines() if line.startswith("Counting is never cut short"))
        assert "ngram " in counting
        assert "contexts " in counting
        assert out.count(" best  ") == 1
        assert out.count(" ±?") == 8  # the text is too short to tell; what adapts has two rows
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
        assert [short(n) for n in (0, 950, 12_345, 1_200_000, 3e9)] == ["0", "950", "12.3k", "1.2M", "3G"]


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
        assert (gru.config["width"], gru.history.training["seed"]) == (20, 5)
        assert checkpoint.read_card(checkpoint.RUNS / "cats-ngram").config["order"] == 3

    def test_output_and_held_out(self, charlm, folder):
        (folder / "other.txt").write_text("the dog sat on the mat.\n" * 99)
        told = compared(charlm, "--arch", "rnn", "-o", "mine", "--held-out", "other.txt", "--context", "5")
        assert told["text_name"] == "other"
        assert told["rows"][0]["run"] == os.path.join("mine", "cats-rnn")  # noqa: PTH118
        assert told["rows"][0]["context"] == 5
        (folder / "notes").mkdir()
        (folder / "notes" / "todo.txt").write_text("buy milk")
        code, _, err = charlm("compare", "cats.txt", *QUICK, "-o", "notes")
        assert (code, "not as a folder of runs" in err) == (2, True)

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


class TestResuming:
    def test_nothing_is_trained_twice(self, charlm, monkeypatch):
        first = compared(charlm, "--arch", "rnn,ngram", "--order", "3")
        monkeypatch.setattr(Trainer, "run", lambda *_: pytest.fail("trained again"))
        monkeypatch.setattr(NGram, "fit", lambda *_: pytest.fail("counted again"))
        code, out, err = charlm("compare", "cats.txt", *QUICK, "--json", "--arch", "rnn,ngram", "--order", "3")
        assert code == 0
        assert err.count("trained already; --again trains it anew") == 2
        assert without_time(json.loads(out)) == without_time(first)

    def test_another_plan_is_trained(self, charlm):
        compared(charlm, "--arch", "rnn")
        for option in (("--seed", 7), ("--width", 16), ("--budget", "2steps"), ("--tokenizer", "bytes"), ("--again",)):
            (row,) = compared(charlm, "--arch", "rnn", *option)["rows"]
            assert not row["run"].endswith("cats-rnn"), option

    def test_what_was_fine_tuned_or_trained_by_hand_is_not_taken(self, charlm):
        (row,) = compared(charlm, "--arch", "rnn")["rows"]
        assert charlm("train", "cats.txt", "--from", row["run"], "-q", "--budget", "3steps")[0] == 0
        shutil.rmtree(row["run"])
        (again,) = compared(charlm, "--arch", "rnn")["rows"]
        assert again["run"] == row["run"]

    def test_one_that_is_damaged_is_trained_again(self, charlm):
        (row,) = compared(charlm, "--arch", "rnn")["rows"]
        next(Path(row["run"]).glob("weights*")).write_bytes(b"x" * 64)
        (again,) = compared(charlm, "--arch", "rnn")["rows"]
        assert again["run"].endswith("cats-rnn-2")
        assert again["bits"] == row["bits"]

    def test_an_interrupted_one_ends_like_one_that_was_not(self, charlm, monkeypatch):
        whole = compared(charlm, "--arch", "rnn,gru", "--budget", "6steps", "-o", "whole")
        step = Trainer._step

        def interrupted(trainer):
            if isinstance(trainer.model, GRU) and trainer.counters.step == 3:
                os.kill(os.getpid(), signal.SIGINT)
            step(trainer)

        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "_step", interrupted)
            arguments = ("--arch", "rnn,gru", "--budget", "6steps", "-o", "parts")
            assert charlm("compare", "cats.txt", *QUICK, *arguments)[0] == 130
        code, out, err = charlm("compare", "cats.txt", *QUICK, *arguments, "--json")
        assert code == 0
        assert "cats-rnn: trained already" in err
        assert "cats-gru: goes on where it was stopped" in err
        figures = [[(row["architecture"], row["bits"]) for row in told["rows"]] for told in (whole, json.loads(out))]
        assert figures[0] == figures[1]

    def test_ctrl_c_while_the_ngram_counts_shows_what_is_done(self, charlm, monkeypatch):
        fit = NGram.fit

        def interrupted(*arguments):
            os.kill(os.getpid(), signal.SIGINT)
            return fit(*arguments)

        monkeypatch.setattr(NGram, "fit", interrupted)
        code, out, err = charlm("compare", "cats.txt", *QUICK, "--arch", "rnn,ngram,gru", "--order", "3")
        assert code == 130
        assert "rnn " in out
        assert "gru" not in out
        assert "Stopped before the end" in out
        assert not (checkpoint.RUNS / "cats-ngram").exists()
        assert "the same command goes on from here" in err


class TestSeeds:
    def test_mean_and_spread(self, charlm):
        told = compared(charlm, "--arch", "rnn,ngram", "--order", "3", "--seeds", "3", "--seed", "4")
        rows = {row["name"]: row for row in told["rows"]}
        rnn, ngram = rows["rnn"], rows["ngram"]
        assert [checkpoint.read_card(Path(run)).history.training["seed"] for run in rnn["runs"]] == [4, 5, 6]
        alone = [compared(charlm, "--arch", "rnn", "--seed", seed)["rows"][0] for seed in (4, 5, 6)]
        assert rnn["seeds"] == [row["bits_per_character"] for row in alone]
        assert rnn["bits_per_character"] == pytest.approx(statistics.fmean(rnn["seeds"]), abs=1e-12)
        assert rnn["spread"] == pytest.approx(statistics.stdev(rnn["seeds"]))
        assert (len(ngram["runs"]), ngram["spread"]) == (1, None)
        assert rnn["difference"]["mean"] == pytest.approx(rnn["bits_per_character"] - ngram["bits_per_character"])

    def test_the_table_says_so(self, charlm):
        code, out, _ = charlm("compare", "cats.txt", *QUICK, "--arch", "rnn", "--seeds", "2")
        assert code == 0
        assert "seeds ±" in out.splitlines()[0]
        assert "standard deviation over 2 seeds" in out
        assert "seeds ±" not in charlm("compare", "cats.txt", *QUICK, "--arch", "rnn")[1]


class TestMatch:
    def test_parameters(self, charlm):
        told = compared(charlm, "--match", "parameters", "--budget", "1steps", "--size", "small")
        sizes = {row["architecture"]: row["parameters"] for row in told["rows"]}
        del sizes["ngram"], sizes["contexts"]
        assert max(sizes.values()) / min(sizes.values()) < 1.05
        assert told["match"] == "parameters"
        code, _, err = charlm("compare", "cats.txt", "--match", "parameters", "--width", "9")
        assert (code, "leave --width out" in err) == (2, True)

    def test_tokens(self, charlm):
        told = compared(charlm, "--match", "tokens", "--budget", "1000tokens", "--arch", "gru,transformer")
        for row in told["rows"]:
            history = checkpoint.read_card(Path(row["run"])).history
            per_step = history.training["batch"] * 64 if row["architecture"] == "transformer" else 64
            assert abs(history.progress["step"] * per_step - 1000) <= per_step / 2

    @pytest.mark.parametrize(("match", "budget"), [("seconds", "2epochs"), ("tokens", "30s"), ("tokens", "9steps")])
    def test_a_budget_that_does_not_make_it_equal(self, match, budget, charlm):
        code, _, err = charlm("compare", "cats.txt", "--match", match, "--budget", budget)
        assert (
            code,
            f"--match {match} wants a --budget in {'seconds' if match == 'seconds' else 'tokens'}" in err,
        ) == (
            2,
            True,
        )


def test_what_was_not_equal_is_said(charlm, folder):
    (folder / "held.txt").write_text("the dog sat on the mat.\n" * 99)
    compared(charlm, "--arch", "rnn", "--held-out", "held.txt", "-o", "one")
    (folder / "cats.txt").write_text(TEXT + "and the cat\n" * 9)
    compared(charlm, "--arch", "gru", "--held-out", "held.txt", "-o", "two", "--budget", "2steps")
    (folder / "cats.txt").write_text(TEXT)
    code, out, _ = charlm("compare", "one/cats-rnn", "two/cats-gru")
    assert code == 0
    assert f"rnn {len(TEXT):,} characters (SHA-256 " in out
    assert "Not the same training text: " in out
    assert "Not the same budget: " in out
    assert "Not the same tokenizer" not in out


def test_what_adapts_is_said(charlm):
    note = "ngram adapts: it counts what it reads, too; ngram (frozen) is the same run without that."
    assert note in charlm("compare", "cats.txt", "--arch", "ngram")[1]
    assert "adapt" not in charlm("compare", "cats.txt", "--arch", "ngram", "--cache", "0")[1]


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
        assert math.isfinite(rnn["bits_per_character"])
        assert rnn["measured_on"] == "held out"

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
        assert told["config"]["width"] == policy_of("rnn").sizes["tiny"]["width"]

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
        assert all(entry["speed"] > 0 for entry in told)
        assert charlm("info", "somewhere", "--device")[0] == 2
