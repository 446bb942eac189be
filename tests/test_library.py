"""The library as a user sees it: five lines, their types, their examples, and what is said when something is wrong."""

import doctest
import importlib.util
import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TEXT

import charlm
from charlm.errors import CharlmError, CheckpointError, UsageError

SCRIPT = """
from pathlib import Path

import charlm

run = charlm.train("corpus.txt", "lstm", budget="2m", width=16, seed=1)
reveal_type(run)
reveal_type(run.sample("hello", length=20, temperature=0.5))
reveal_type(run.evaluate().bits_per_character)
reveal_type(run.score("text")[0].bits)
reveal_type(charlm.load(Path("folder")))
result = charlm.compare("corpus.txt", ["rnn", "ngram"], budget="30s")
reveal_type(result.rows[0].evaluation)
reveal_type(charlm.evaluate)
reveal_type(charlm.analysis.lens)
"""
"""What a user writes; nothing in it is of type Any."""

TYPES = (
    "charlm.library.run.Run", "str", "float", "float", "charlm.library.run.Run", "charlm.evaluation.result.Evaluation",
    "def (", "def (",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with corpus.txt and a small run of it in checkpoints/."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        charlm.train("corpus.txt", "lstm", budget="20steps", width=8, seed=3)
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_samples_evaluates_and_scores(here: Path) -> None:
    run = charlm.load("corpus-lstm")
    assert isinstance(run, charlm.Run)
    assert run.sample("HAMLET", length=30, seed=1) == run.sample("HAMLET", length=30, seed=1)
    evaluation = run.evaluate()
    held_out = charlm.split(charlm.open_corpus("corpus.txt")).held_out
    assert evaluation.bits == charlm.evaluate(run.model, run.tokenizer, held_out).bits
    assert charlm.load("corpus-lstm").history.result.bits_per_character == evaluation.bits_per_character
    own = run.evaluate("corpus.txt")
    assert own.characters == len(TEXT)
    assert sum(c.bits for c in run.score(TEXT[:50])) == pytest.approx(
        run.evaluate(charlm.Text.from_string(TEXT[:50], "beginning")).bits, rel=1e-4
    )


def test_the_library_trains_what_the_command_line_trains(here: Path) -> None:
    from charlm import cli

    arguments = ["train", "corpus.txt", "--budget", "20steps", "--width", "8", "--seed", "3", "-q", "-o", "other"]
    assert cli.run(arguments) == 0
    ours, theirs = charlm.load("corpus-lstm"), charlm.load("other")
    assert ours.weights == theirs.weights
    assert ours.history.training == theirs.history.training


def test_a_run_is_resumed(here: Path) -> None:
    with pytest.raises(CheckpointError, match="larger budget trains it on"):
        charlm.train(resume="corpus-lstm")
    longer = charlm.train(resume="corpus-lstm", budget="30steps")
    assert (longer.path, longer.history.budget, longer.history.finished) == (
        Path("checkpoints/corpus-lstm"),
        "30steps",
        True,
    )


def test_a_run_starts_another_and_brings_all_that_is_decided(here: Path) -> None:
    Path("more.txt").write_text(TEXT[::-1] + "é", encoding="utf-8")
    other = charlm.train("more.txt", start="corpus-lstm", budget="5steps")
    first = charlm.load("corpus-lstm")
    assert other.model.config == first.model.config
    assert other.tokenizer.fingerprint == first.tokenizer.fingerprint
    assert [parent["weights"] for parent in other.history.parents] == [first.weights]
    for setting in ({"width": 16}, {"architecture": "gru"}, {"size": "tiny"}, {"tokenizer": "bytes"}):
        with pytest.raises(UsageError, match="`start`: the run brings it") as refusal:
            charlm.train("more.txt", start="corpus-lstm", **setting)
        assert f"`{next(iter(setting))}`" in str(refusal.value)
    charlm.train("corpus.txt", "ngram", order=3)
    with pytest.raises(UsageError, match=r"`start` .*gradients do not train ngram models"):
        charlm.train("more.txt", start="corpus-ngram")


def test_a_run_is_one_line(here: Path) -> None:
    shown = repr(charlm.load("corpus-lstm"))
    assert shown.startswith("Run('checkpoints/corpus-lstm', lstm, ")
    assert "\n" not in shown


def test_a_comparison_prints_draws_and_becomes_a_frame(here: Path) -> None:
    result = charlm.compare("corpus.txt", ["rnn", "ngram"], budget="8steps", order=3, width=8)
    lines = str(result).splitlines()
    assert lines[0].split()[:2] == ["model", "bits/char"]
    assert {line.split()[0] for line in lines[1:]} >= {"rnn", "ngram", "uniform"}
    assert repr(result) == str(result)
    html = result._repr_html_()
    assert html.startswith("<iframe")
    assert "svg" in html
    if importlib.util.find_spec("pandas"):
        assert list(result.to_frame()["name"])[: len(result.rows)] == list(result.names)
    else:
        with pytest.raises(CharlmError, match="pip install pandas"):
            result.to_frame()


def test_what_is_wrong_is_said_without_advice_on_options(here: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere does not exist") as missing:
        charlm.load("nowhere")
    assert "--output" not in str(missing.value)
    with pytest.raises(UsageError, match="architecture"):
        charlm.train("corpus.txt", "lsmt")
    with pytest.raises(UsageError, match="tokenizer"):
        charlm.train("corpus.txt", tokenizer="words")
    with pytest.raises(UsageError, match="`architectures` must be some of"):
        charlm.compare("corpus.txt", ["rnn", "lsmt"])
    with pytest.raises(UsageError, match="widht"):
        charlm.train("corpus.txt", widht=3)
    assert sorted(path.name for path in Path("checkpoints").iterdir()) == ["corpus-lstm"]


def test_dir_is_the_interface_and_all_of_it_is_there() -> None:
    assert dir(charlm) == sorted(charlm.__all__)
    assert [name for name in charlm.__all__ if not hasattr(charlm, name)] == []
    with pytest.raises(AttributeError, match="no attribute 'importlib_'"):
        charlm.importlib_  # noqa: B018


def test_importing_it_imports_neither_torch_nor_numpy() -> None:
    code = "import charlm, sys; print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def examples() -> list[doctest.DocTest]:
    """Those of the public names and of the methods of their classes."""
    finder = doctest.DocTestFinder(recurse=True)
    named = [(name, getattr(charlm, name)) for name in charlm.__all__]
    objects = [("charlm", charlm), *((n, o) for n, o in named if inspect.isclass(o) or inspect.isfunction(o))]
    found = [finder.find(item, name, module=False, extraglobs={"charlm": charlm}) for name, item in objects]
    return [test for tests in found for test in tests if test.examples]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_examples_run(example: doctest.DocTest, here: Path) -> None:
    assert doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(example).failed == 0


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("mypy"), reason="needs mypy")
def test_a_users_script_has_types_for_mypy(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    options = ["--strict", "--no-error-summary", "--follow-imports=silent", "--cache-dir", str(tmp_path)]
    command = [sys.executable, "-m", "mypy", *options, "script.py"]
    root = str(Path(charlm.__file__).parent.parent)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"MYPYPATH": root, "PATH": ""})
    revealed = [line.split('"')[1] for line in done.stdout.splitlines() if "Revealed type" in line]
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(kind in found for kind, found in zip(TYPES, revealed, strict=True)), revealed
    assert "Any" not in " ".join(revealed[:6])


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pyright"), reason="needs pyright")
def test_a_users_script_has_types_for_pyright(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(["pyright", "--outputjson", "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert json.loads(done.stdout)["summary"]["errorCount"] == 0, done.stdout
