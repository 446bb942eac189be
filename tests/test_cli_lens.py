"""`charlm score` and `charlm inspect` as a user meets them: tables, JSON, drawings, pipes."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TEXT, Charlm
from rich.console import Console

from charlm import checkpoint, evaluate
from charlm.cli import score
from charlm.cli.glyphs import block_bar, escaped, printable, visible
from charlm.corpus import Origin, Text
from charlm.models import ARCHITECTURES
from charlm.tokenizers import TOKENIZERS

SAID = 'What ghost\tis\\this,\r\nnaïve 漢 \x1b[31m "é"?\n'
KINDS = {"lstm": {"width": 8}, "transformer": {"width": 8, "heads": 2, "layers": 2}, "ngram": {"order": 3}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs named architecture-tokenizer, untrained but for the n-grams, and a corpus."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    origin = Origin((str(folder / "corpus.txt"),))
    for kind, options in (("characters", {}), ("bytes", {}), ("sentencepiece", {"vocab_size": 310})):
        tokenizer = TOKENIZERS[kind].train([TEXT], TOKENIZERS[kind].Config(**options))
        for architecture, settings in KINDS.items():
            made = ARCHITECTURES[architecture]
            model = made(made.Config(**settings), tokenizer.vocab_size)
            if architecture == "ngram":
                ids = tokenizer.encode(TEXT)
                model.fit(ids[:-99], ids[-99:])
            path = folder / f"{architecture}-{kind}"
            path.mkdir()
            history = checkpoint.History(corpus=origin.describe(origin.open()))
            checkpoint.save(path, architecture, model, tokenizer, history)
    return folder


@pytest.fixture
def at(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(runs)
    monkeypatch.setenv("COLUMNS", "80")
    return runs


def table(out: str) -> list[list[str]]:
    return [line.split("\t") for line in out.removesuffix("\n").split("\n")]


class TestScore:
    @pytest.mark.parametrize("kind", TOKENIZERS)
    @pytest.mark.parametrize("architecture", KINDS)
    def test_the_table_spells_the_text_and_adds_up(
        self, architecture: str, kind: str, at: Path, charlm: Charlm
    ) -> None:
        name = f"{architecture}-{kind}"
        outcome = charlm("score", name, SAID)
        assert (outcome.code, outcome.err) == (0, "")
        heading, *rows = table(outcome.out)
        assert heading[:5] == ["character", "bits", "rank", "prediction_1", "probability_1"]
        assert {len(row) for row in rows} == {len(heading)} == {13}
        escapes = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\", "\x1b": "\\x1b"}
        assert [row[0] for row in rows] == [escapes.get(character, character) for character in SAID]
        run = checkpoint.load(name)
        bits = evaluate(run.model, run.tokenizer, Text.from_string(SAID, "said")).bits
        assert sum(float(row[1]) for row in rows) == pytest.approx(bits, abs=1e-4 * len(rows))
        data = json.loads(charlm("score", name, SAID, "--json", "--top", "2").out)
        assert data["bits"] == pytest.approx(bits, rel=1e-12)
        assert data["bits_per_character"] == pytest.approx(bits / len(SAID), rel=1e-12)
        for entry, row in zip(data["characters"], rows, strict=True):
            assert f"{entry['bits']:.4f}" == row[1]
            assert str(entry["rank"]) == row[2]
            assert len(entry["predictions"]) == 2
            assert all(float(a) >= float(b) for a, b in zip(row[4::2], row[6::2], strict=False))

    def test_standard_input_and_the_newest_run(self, at: Path, charlm: Charlm, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checkpoint, "newest", lambda: at / "lstm-characters")
        assert charlm("score", "-", stdin="What?\n").out == charlm("score", "lstm-characters", "What?\n").out
        assert len(table(charlm("score", "a", "--top", "0").out)[1]) == 3

    def test_whoever_reads_may_stop(self, at: Path) -> None:
        command = f"{sys.executable} -m charlm score ngram-bytes - <corpus.txt | head -n 2; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert len(done.stdout.splitlines()) == 3
        assert done.stdout.endswith("\n0\n")
        assert done.stderr == ""

    @pytest.mark.parametrize("colour", [True, False])
    def test_on_a_terminal(self, colour: bool, at: Path, charlm: Charlm, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            score,
            "output",
            lambda: Console(force_terminal=True, no_color=not colour, color_system="256", width=20),
        )
        outcome = charlm("score", "ngram-characters", SAID)
        assert outcome.code == 0
        plain = re.sub(r"\x1b\[[\d;]*m", "", outcome.out)
        assert "\x1b" not in plain
        assert "\x1b[31m" not in outcome.out
        lines = plain.splitlines()
        assert lines[0] == "What ghost⇥is\\this,␍"
        assert lines[-1].startswith(f"{len(SAID)} characters, ")
        background = re.search(r"\x1b\[[\d;]*(?:48;5;\d+|4[0-7]|10[0-7])m", outcome.out)  # of 256 or of 16
        assert bool(background) is colour
        assert any(set("▁▂▃▄▅▆▇█") & set(line) for line in lines[:-2]) is not colour


class TestInspect:
    def test_gradients(self, at: Path, charlm: Charlm) -> None:
        data = json.loads(charlm("inspect", "gradients", "lstm-characters", "--json", "--reach", "20").out)
        assert len(data["norms"]) == 20
        assert data["positions"] > 10
        drawn = charlm("inspect", "gradients", "lstm-bytes", "--text", "What ghost is this of mine?").out
        assert drawn.startswith("lstm-bytes: gradient of the loss")
        rows = [line.split()[0] for line in drawn.splitlines() if line.strip()[:1].isdigit()]
        assert rows == ["0", "1", "2", "3", "4", "6", "8", "12"]
        assert "\x1b" not in drawn

    def test_attention(self, at: Path, charlm: Charlm) -> None:
        for kind in TOKENIZERS:
            name = f"transformer-{kind}"
            data = json.loads(charlm("inspect", "attention", name, "--text", "What ghost\n", "--json").out)
            weights = np.array(data["weights"])
            assert weights.shape == (2, 2, len(data["tokens"]), len(data["tokens"]))
            np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
        drawn = charlm("inspect", "attention", "transformer-characters", "--layer", "2", "--head", "1").out.splitlines()
        assert drawn[0] == "layer 2, head 1"
        assert len(drawn) == 2 + 61 + 1  # the boundary and 60 characters of what was held out
        assert drawn[2] == "⊢ █"
        narrow = charlm("inspect", "attention", "transformer-bytes", "--text", "x" * 100).out
        assert max(map(len, narrow.splitlines()[:-1])) == 80
        assert "The last 78 of 101 tokens." in narrow

    def test_embeddings(self, at: Path, charlm: Charlm) -> None:
        data = json.loads(charlm("inspect", "embeddings", "lstm-sentencepiece", "--json").out)
        assert len(data["tokens"]) == len(data["points"]) == 309
        drawn = charlm("inspect", "embeddings", "lstm-bytes").out
        assert "lstm-bytes: 256 embeddings; across " in drawn
        assert max(map(len, drawn.splitlines()[:-1])) <= 80
        assert "\x1b" not in drawn

    def test_predictions(self, at: Path, charlm: Charlm) -> None:
        for kind in TOKENIZERS:
            data = json.loads(charlm("inspect", "predict", f"ngram-{kind}", "--text", "HAMLET", "--json").out)
            assert data["predictions"][0]["text"].startswith(":")
        drawn = charlm("inspect", "predict", "ngram-characters", "--text", "-", "--top", "3", stdin="What sweet").out
        rows = [line.split() for line in drawn.splitlines()]
        assert [row[0] for row in rows][::3] == ["␣", "others"]
        assert len(rows) == 4


class TestGlyphs:
    def test_every_character_fills_its_place(self) -> None:
        every = "".join(map(chr, [*range(0x3000), 0xFEFF, 0xE0001, 0x1F600]))
        assert not set(map(ord, printable(every))) & set(range(0x20))
        assert len(printable(every)) == len(every)
        assert printable("\n\t\x1b\x7f\u202e\xa0") == "⏎⇥␛␡\ufffd "
        assert [visible(text) for text in (" the", "\xa0", "\u0301", "")] == ["␣the", "␣", "◌\u0301", ""]

    def test_escapes_are_those_of_python(self) -> None:
        every = "".join(map(chr, range(0x3000))) + "\U000e0001😀"
        assert escaped(every).isprintable()
        assert ast.literal_eval('"' + escaped(every).replace('"', '\\"') + '"') == every
        assert escaped("\\n\n\u200b") == "\\\\n\\n\\u200b"

    def test_bars(self) -> None:
        assert [block_bar(share, 2) for share in (0, 1 / 16, 0.5, 0.8, 1, 7)] == ["", "▏", "█", "█▋", "██", "██"]


def test_the_lens_is_in_the_help(charlm: Charlm) -> None:
    for arguments in (["score"], ["inspect"], ["inspect", "gradients"], ["inspect", "predict"]):
        outcome = charlm(*arguments, "--help")
        assert outcome.code == 0
        assert "charlm " + " ".join(arguments) in outcome.out
