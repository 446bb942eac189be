"""A run's one figure, wherever it is shown; what training prints, and how; figures have units."""

import json
import math
import os
import pty
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Charlm
from rich.progress import Progress as Bars

from charlm import checkpoint
from charlm.cli.live import TrainingView
from charlm.cli.terminal import TimeLeft, no_echo
from charlm.corpus import Origin, encode
from charlm.evaluation import evaluate
from charlm.progress import duration
from charlm.tokenizers import TOKENIZERS
from charlm.training import Progress

QUICK = ("--budget", "6steps")
TINY = ("--size", "tiny")


def trained(charlm: Charlm, path: str, *options: str) -> Path:
    size = () if "ngram" in options else TINY
    outcome = charlm("train", "corpus.txt", *QUICK, *size, "-q", "-o", path, *options)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")  # quiet
    return Path(path)


def card(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / checkpoint.CARD).read_bytes()))


def listed(charlm: Charlm, name: str) -> tuple[float | None, str | None]:
    entry = next(one for one in json.loads(charlm("info", "--json").out) if one["run"] == name)
    return entry["bits_per_character"], entry["measured_on"]


class TestTheFigure:
    def test_training_ends_with_a_validation_of_the_weights_it_saves(self, folder: Path, charlm: Charlm) -> None:
        path = trained(charlm, "checkpoints/apart", "--arch", "rnn", "--no-join")
        run, split = checkpoint.load(path), Origin(("corpus.txt",)).open()
        bits, text = listed(charlm, "apart")
        assert text == "validation"
        exact = evaluate(run.model, run.tokenizer, split.validation).bits_per_character
        assert bits == pytest.approx(exact, rel=0.02)  # that one begins every stream anew

    @pytest.mark.parametrize("arch", ["rnn", "ngram", "mixture"])
    def test_what_was_measured_before_the_slice_joined_is_said_to_be(
        self, arch: str, folder: Path, charlm: Charlm
    ) -> None:
        size = () if arch == "ngram" else TINY
        outcome = charlm("train", "corpus.txt", *QUICK, *size, "--arch", arch, "--json", "-o", f"checkpoints/{arch}")
        result = json.loads(outcome.out)["result"]
        assert listed(charlm, arch) == (result["bits_per_character"], "validation, before joining")
        assert f"{result['bits_per_character']:.3f} bits per character of the validation slice, before" in outcome.err
        assert f"{result['bits_per_character']:.3f}" in charlm("info").out

    def test_a_mixture_has_its_own_figure_not_its_network_s(self, folder: Path, charlm: Charlm) -> None:
        path = trained(charlm, "checkpoints/mixed", "--arch", "mixture")
        bits, _ = listed(charlm, "mixed")
        of_network = min(entry["best"] for entry in checkpoint.read_metrics(path) if entry["best"])
        assert bits is not None
        assert bits < of_network - 0.5

    def test_an_evaluation_takes_its_place_and_changes_nothing_else(self, folder: Path, charlm: Charlm) -> None:
        path = trained(charlm, "checkpoints/one", "--arch", "rnn")
        time.sleep(0.01)
        trained(charlm, "checkpoints/two", "--arch", "ngram")
        before = card(path)
        bits = json.loads(charlm("evaluate", str(path), "--json").out)["bits_per_character"]
        assert listed(charlm, "one") == (bits, "held out")
        assert {**card(path), "result": 0} == {**before, "result": 0}
        assert checkpoint.newest().name == "two"
        assert sorted(entry.name for entry in path.iterdir()) == sorted(
            {checkpoint.CARD, checkpoint.METRICS, *(entry["name"] for entry in before["files"].values())}
        )
        shown = charlm("info", str(path)).out
        assert f"{bits:.4f} (held out)" in shown
        assert "nats" not in shown

    def test_other_figures_do_not(self, folder: Path, charlm: Charlm) -> None:
        path = trained(charlm, "checkpoints/one", "--arch", "rnn")
        before = card(path)
        (folder / "other.txt").write_text("Entirely other words.\n" * 40)
        for options in (["--context", "3"], ["--adapt", "all"], ["--text", "other.txt"]):
            assert charlm("evaluate", str(path), *options).code == 0
            assert card(path) == before

    def test_a_comparison_leaves_its_figures(self, folder: Path, charlm: Charlm) -> None:
        outcome = charlm("compare", "corpus.txt", *QUICK, *TINY, "--arch", "rnn,ngram", "--json")
        rows = json.loads(outcome.out)["rows"]
        assert [row["frozen"] for row in rows].count(True) == 1  # which is no figure of the run's own
        for row in (row for row in rows if not row["frozen"]):
            assert listed(charlm, Path(row["run"]).name) == (row["bits_per_character"], "held out")

    def test_it_goes_when_the_run_is_trained_anew(self, folder: Path, charlm: Charlm) -> None:
        path = trained(charlm, "checkpoints/one", "--arch", "rnn")
        charlm("evaluate", str(path))
        trained(charlm, "checkpoints/one", "--arch", "rnn", "--force", "--seed", "3")
        assert listed(charlm, "one")[1] == "validation, before joining"

    def test_weights_that_were_trained_on_meanwhile_keep_theirs(self, folder: Path, charlm: Charlm) -> None:
        path = trained(charlm, "checkpoints/one", "--arch", "rnn")
        before, sha256 = card(path), card(path)["corpus"]["sha256"]["held_out"]
        checkpoint.record_held_out(path, "0" * 64, sha256, 1.0)
        with checkpoint.locked(path):
            checkpoint.record_held_out(path, checkpoint.weights_digest(path), sha256, 1.0)
        checkpoint.record_held_out(folder / "nowhere", "", sha256, 1.0)
        assert card(path) == before
        checkpoint.record_held_out(path, checkpoint.weights_digest(path), sha256, 1.0)
        assert listed(charlm, "one") == (1.0, "held out")

    def test_older_runs_have_it_in_their_metrics(self, folder: Path, charlm: Charlm) -> None:
        for name, arch in (("network", "rnn"), ("mixed", "mixture"), ("counted", "ngram")):
            path = trained(charlm, f"checkpoints/{name}", "--arch", arch)
            older = {key: value for key, value in card(path).items() if key != "result"}
            (path / checkpoint.CARD).write_text(json.dumps(older))
        best = [entry["best"] for entry in checkpoint.read_metrics(Path("checkpoints/network"))][-1]
        assert listed(charlm, "network") == (best, "validation, before joining")
        assert listed(charlm, "mixed") == (None, None)
        assert listed(charlm, "counted") == (None, None)
        assert "not measured: charlm evaluate checkpoints/mixed" in charlm("info", "checkpoints/mixed").out

    @pytest.mark.parametrize("strange", [7, {}, {"bits_per_character": "x", "text": "held out"}, {"text": []}])
    def test_a_strange_one_is_none(self, strange: Any, folder: Path, charlm: Charlm) -> None:
        path = trained(charlm, "checkpoints/one", "--arch", "ngram")
        (path / checkpoint.CARD).write_text(json.dumps({**card(path), "result": strange}))
        assert charlm("info", str(path)).code == 0
        assert listed(charlm, "one") == (None, None)

    def test_what_was_left_open_is_shown_as_it_was_chosen(self, folder: Path, charlm: Charlm) -> None:
        path = trained(charlm, "checkpoints/one", "--arch", "ngram")
        model = checkpoint.load(path).model
        assert re.search(rf"order +{model.chosen['order']} \(chosen\)", charlm("info", str(path)).out)
        assert json.loads(charlm("info", str(path), "--json").out)["chosen"] == {"order": model.order, "cache": 4096}


def test_an_ngram_s_validation_is_what_its_counts_say_of_the_slice(folder: Path, charlm: Charlm) -> None:
    """Without a cache, and with smoothing that the slice does not tune: the same as a model of the rest alone."""
    from charlm.models import ARCHITECTURES

    path = trained(charlm, "checkpoints/one", "--arch", "ngram", "--cache", "0", "--smoothing", "witten-bell")
    run, split = checkpoint.load(path), Origin(("corpus.txt",)).open()
    order = run.model.chosen["order"]
    kind = ARCHITECTURES["ngram"]
    alone = kind(kind.Config(order=order, smoothing="witten-bell", cache=0), run.tokenizer.vocab_size)
    alone.fit(encode(split.train, run.tokenizer), np.zeros(0, np.int32))  # type: ignore[operator]
    train, validation = encode(split.train, run.tokenizer), encode(split.validation, run.tokenizer)
    tokens = torch.from_numpy(np.concatenate([[0], train, validation])).long()[None]
    log_probs, _ = alone.score(tokens[:, :-1], tokens[:, 1:], alone.initial_state(1))
    exact = -log_probs[0, -len(validation) :].sum().item() / math.log(2) / split.validation.characters
    assert listed(charlm, "one")[0] == pytest.approx(exact, rel=1e-3)


def test_several_runs_are_one_table(folder: Path, charlm: Charlm) -> None:
    paths = [trained(charlm, f"checkpoints/{arch}", "--arch", arch) for arch in ("rnn", "ngram")]
    exact = json.loads(charlm("evaluate", *map(str, paths), "--json").out)
    lines = charlm("evaluate", *map(str, paths)).out.splitlines()
    assert lines[0].split() == [
        "run",
        "bits/char",
        "95",
        "%",
        "interval",
        "bits/byte",
        "nats/char",
        "perplexity",
        "chars/s",
    ]
    for path, figures, line in zip(paths, exact, lines[1:], strict=False):
        assert re.split("  +", line)[:2] == [str(path), f"{figures['bits_per_character']:.4f}"]


def test_beams_are_counted_in_bits(folder: Path, charlm: Charlm) -> None:
    trained(charlm, "checkpoints/one", "--arch", "rnn")
    beams = ("sample", "--beams", "2", "-n", "2", "-l", "5")
    texts = json.loads(charlm(*beams, "--json").out)["texts"]
    assert [text["bits"] * math.log(2) for text in texts] == pytest.approx([-text["log_prob"] for text in texts])
    assert re.findall(r"── \d, (.*) bits", charlm(*beams).err) == [f"{text['bits']:.2f}" for text in texts]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_vocabulary_is_explained(kind: str, folder: Path, charlm: Charlm) -> None:
    size = ("--vocab-size", "290") if kind == "sentencepiece" else ()
    path = trained(charlm, "checkpoints/one", "--arch", "ngram", "--tokenizer", kind, *size)
    size_ = checkpoint.load(path).tokenizer.vocab_size
    words = next(line for line in charlm("info", str(path)).out.splitlines() if line.startswith("vocab"))
    numbers = [int(number) for number in re.findall(r"\d+", words)]
    assert numbers[0] == sum(numbers[1:]) == size_


class TestTheTerminal:
    def test_time_left_is_nothing_where_none_is_known(self) -> None:
        bars = Bars(TimeLeft())
        number = bars.add_task("work", total=1.0)
        (task,) = bars.tasks
        assert TimeLeft().render(task).plain == ""
        bars.update(number, completed=1.0)
        assert TimeLeft().render(task).plain == ""
        assert [duration(seconds) for seconds in (0.3, 8, 59.7, 90, 7500)] == [
            "0.3 s",
            "8 s",
            "1:00",
            "1:30",
            "2:05:00",
        ]

    @pytest.mark.parametrize("width", [60, 80, 120])
    def test_the_panel_fits(self, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
        from rich.console import Console

        from charlm.cli import live

        monkeypatch.setattr(live, "stderr", Console(width=width, force_terminal=True))
        title = "transformer on a-corpus-with-a-long-name → checkpoints/a-corpus-with-a-long-name-transformer"
        view = TrainingView(title, stop=lambda: False)
        view.on_progress(Progress(12_600, 12_614, 30.0, 65_000.0, 123_456.0, 0.001, 2.2, 2.156, None))
        with live.stderr.capture() as shown:
            live.stderr.print(view._panel())
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.get())
        assert max(map(len, plain.splitlines())) <= width
        words = "".join(re.sub("[│╭╮╰╯─ ]", "", plain).split())
        assert all(word in words for word in ("validation", "2.156", "123,456", "18:03:20", "long-name-transformer"))

    @pytest.mark.skipif(sys.platform == "win32", reason="another kind of terminal")
    def test_nothing_typed_is_echoed_into_a_frame(self) -> None:
        """In a terminal of its own, where `^C` would otherwise appear."""
        import termios

        child, terminal = pty.fork()
        if not child:
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - and not what pytest has put there
            echoes = []
            with no_echo():
                echoes.append(termios.tcgetattr(2)[3] & termios.ECHO)
            echoes.append(termios.tcgetattr(2)[3] & termios.ECHO)
            os._exit(int(bool(echoes[0])) + 2 * int(not echoes[1]))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        os.close(terminal)
