"""What `charlm compare` prints for other programs: CSV that is numbers, JSON that says all, Markdown, LaTeX, pairs."""

import csv
import io
import json
import platform
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Charlm

import charlm as package
from charlm import checkpoint
from charlm.cli.typeset import _latex, _markdown
from charlm.files import sha256_of

QUICK = ("--budget", "2steps", "--size", "tiny", "--batch", "4", "--segment", "16", "--precision", "float32")
ODD = "a_b & 50% #1 {x} $y$ \\z ~w^ <t> |p| [q](r) *s* `u`"


@pytest.fixture
def runs(folder: Path, charlm: Charlm) -> tuple[str, ...]:
    """Two networks and an n-gram on a text that is long enough for intervals; one has a name to stumble over."""
    text = (folder / "corpus.txt").read_text(encoding="utf-8")
    (folder / "corpus.txt").write_text(text * 30, encoding="utf-8")
    outcome = charlm("compare", "corpus.txt", *QUICK, "--arch", "rnn,gru,ngram", "--order", "3", "--json")
    assert outcome.code == 0, outcome.err
    odd = ODD.replace("/", "")
    (checkpoint.RUNS / "corpus-gru").rename(checkpoint.RUNS / odd)
    return tuple(str(checkpoint.RUNS / name) for name in ("corpus-rnn", odd, "corpus-ngram"))


def printed(charlm: Charlm, *arguments: str) -> str:
    outcome = charlm("compare", *arguments)
    assert outcome.code == 0, outcome.err
    return outcome.out


def is_number(value: str) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except ValueError:
        return False


def test_a_column_of_csv_is_numbers_or_texts(charlm: Charlm, folder: Path) -> None:
    arguments = ("corpus.txt", *QUICK, "--arch", "rnn,ngram", "--order", "3", "--seeds", "2", "--csv")
    for pairs in ((), ("--pairs",)):
        rows = list(csv.DictReader(io.StringIO(printed(charlm, *arguments, *pairs))))
        assert all(None not in row and None not in row.values() for row in rows)
        kinds = {name: {is_number(row[name]) for row in rows if row[name]} for name in rows[0]}
        assert all(len(kind) <= 1 for kind in kinds.values()), kinds
        expected = (
            {"mean"} if pairs else {"bits_per_character", "seeds", "spread", "difference", "parameters", "seconds"}
        )
        assert all(kinds[name] == {True} for name in expected)
        names = [row["name"] for row in rows]
        assert names == (["ngram (frozen)", "rnn", "rnn"] if pairs else names)
        assert {"ngram", "ngram (frozen)", "rnn"} & set(names)


def test_json_says_how_every_run_was_made(charlm: Charlm, runs: tuple[str, ...]) -> None:
    told = json.loads(printed(charlm, *runs, "--json"))
    here = told["environment"]
    assert (here["charlm"], here["python"]) == (package.__version__, platform.python_version())
    assert (here["torch"], here["numpy"]) == (str(torch.__version__), np.__version__)
    assert here["threads"] == torch.get_num_threads()
    assert here["processor"]
    assert here["cores"] >= 1
    for row in told["rows"]:
        (made,) = row["provenance"]
        run = checkpoint.load(made["run"])
        (weights,) = Path(made["run"]).glob("weights-*")
        assert made["weights_sha256"] == sha256_of(weights)
        assert made["config"] == run.model.config.to_json()
        assert {name for name, value in made["config"].items() if value is None} <= made["chosen"].keys()
        assert made["chosen"] == (run.model.frozen() if row["frozen"] else run.model).chosen
        assert made["corpus"]["sha256"]["held_out"] == told["text_sha256"]
        assert made["environment"] == here
        if row["architecture"] != "ngram":
            assert {"seed", "batch", "optimizer", "learning_rate", "clip", "budget"} <= made["training"].keys()
            assert None not in made["training"].values()
    assert {row["name"]: row["adapt"] for row in told["rows"]}["ngram"] == "counts"
    assert {row["adapt"] for row in told["rows"] if row["name"] != "ngram"} == {"none"}


def test_pairs_are_in_json_always_and_elsewhere_if_wanted(charlm: Charlm, runs: tuple[str, ...]) -> None:
    told = json.loads(printed(charlm, *runs, "--json"))
    bits = {row["name"]: row["bits_per_character"] for row in told["rows"]}
    assert len(told["pairs"]) == len(bits) * (len(bits) - 1) / 2 == 6
    for pair in told["pairs"]:
        assert pair["mean"] == pytest.approx(bits[pair["name"]] - bits[pair["against"]], abs=1e-9)
        assert pair["low"] <= pair["mean"] <= pair["high"]
    plain, wide = printed(charlm, *runs), printed(charlm, *runs, "--pairs")
    assert "against" not in plain
    shown = [line for line in wide.splitlines() if re.search(r" to [-+]\d", line)]
    assert len(shown) == 6
    assert all(re.search(r"clearly worse|too close to tell", line) for line in shown)
    table = list(csv.DictReader(io.StringIO(printed(charlm, *runs, "--pairs", "--csv"))))
    assert [float(row["mean"]) for row in table] == [pair["mean"] for pair in told["pairs"]]


def test_markdown_and_latex_have_the_table(charlm: Charlm, runs: tuple[str, ...]) -> None:
    names = [row["name"] for row in json.loads(printed(charlm, *runs, "--json"))["rows"]]
    markdown = printed(charlm, *runs, "--markdown", "--pairs").splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in markdown if line.startswith("|")]
    assert {len(row) for row in rows} == {7, 5}
    assert [row[0].strip() for row in rows[2:] if row[0].strip() in map(_markdown, names)][:4] == [
        *map(_markdown, names)
    ]
    latex = printed(charlm, *runs, "--latex", "--pairs")
    body = [line for line in latex.splitlines() if line.endswith("\\\\")]
    columns = {len(re.split(r"(?<!\\)&", line)) for line in body}
    assert columns == {7, 5}
    assert all(_latex(name) in latex for name in names)
    assert latex.count("\\begin{tabular}") == latex.count("\\end{tabular}") == 2
    assert "% \\usepackage{booktabs}" in latex


def test_no_name_breaks_latex_or_markdown() -> None:
    """What is special is escaped: a strict reader of either finds the text again."""
    commands = {
        "textbackslash": "\\",
        "textasciitilde": "~",
        "textasciicircum": "^",
        "textless": "<",
        "textgreater": ">",
    }
    commands["textbar"] = "|"
    escaped = _latex(ODD)
    read = re.sub(
        r"\\(?:([a-z]+)\{\}|([&%$#_{}]))", lambda found: commands[found[1]] if found[1] else found[2], escaped
    )
    assert read == ODD
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", _markdown(ODD)) == ODD
    assert not re.search(r"(?<!\\)[|*_`\[\]<>]", _markdown(ODD))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--markdown", "--latex"), "--markdown and --latex: give one of them"),
        (("--json", "--pairs"), "--pairs: JSON always has them; leave it out"),
    ],
)
def test_what_does_not_go_together(charlm: Charlm, folder: Path, arguments: tuple[str, ...], words: str) -> None:
    outcome = charlm("compare", "corpus.txt", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert words in outcome.err


def test_the_citation_is_of_this_version() -> None:
    lines = (Path(__file__).parents[1] / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    keys = dict(line.split(": ", 1) for line in lines if re.match(r"[a-z-]+: ", line))
    assert keys["cff-version"] == "1.2.0"
    assert keys["version"] == package.__version__
    assert {"message", "title", "type", "license"} <= keys.keys()
    assert "authors:" in lines
