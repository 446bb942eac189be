"""A run is found by its folder or by its name in checkpoints/, in every command, and shell completion offers it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from conftest import TEXT, Charlm

from charlm.cli import COMMANDS, cli
from charlm.cli.runs import RunPath

TAKING_RUNS = {"run", "runs", "start", "resumed"}  # what parameters that take runs are called


@pytest.fixture(autouse=True)
def within(begun_and_counted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(begun_and_counted, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def leaves(command: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that has no commands of its own, with its names."""
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from leaves(found, *names, name)
    else:
        yield names, command


def test_every_parameter_that_takes_a_run_finds_it_the_same_way() -> None:
    found = [(names, p) for names, leaf in leaves(cli) for p in leaf.params if p.name in TAKING_RUNS]
    assert {names[0] for names, _ in found} >= set(COMMANDS) - {"score", "compare", "bench", "import", "data"}
    assert [names for names, p in found if not isinstance(p.type, RunPath)] == []


@pytest.mark.parametrize(
    "command",
    [
        "sample {} -l 5 --seed 1",
        "evaluate {} --context 3",
        "score {} abc",
        "info {}",
        "inspect predict {} --text a",
        "inspect gradients {}",
        "compare {} counted --csv",
    ],
)
def test_a_name_stands_for_the_folder_in_checkpoints(command: str, charlm: Charlm) -> None:
    timeless = "speed", "seconds", "counted,"
    outputs = []
    for name in "checkpoints/begun", "begun":
        outcome = charlm(*command.format(name).split())
        assert outcome.code == 0, outcome.err
        outputs.append([line for line in outcome.out.splitlines() if not any(word in line for word in timeless)])
    assert command.startswith("compare") or outputs[0] == outputs[1]


@pytest.mark.parametrize("command", ["train --resume begun -q", "train corpus.txt --from begun --budget 2steps -q"])
def test_training_goes_on_from_a_name(command: str, charlm: Charlm) -> None:
    outcome = charlm(*command.split(), "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["run"].startswith("checkpoints")


def test_a_folder_goes_before_a_name_and_a_text_before_a_run(within: Path, charlm: Charlm) -> None:
    shutil.copytree("checkpoints/counted", "begun")
    assert json.loads(charlm("info", "begun", "--json").out)["architecture"] == "ngram"
    (within / "counted").write_text(TEXT)
    assert json.loads(charlm("info", "counted", "--json").out)["run"] == "checkpoints/counted"
    outcome = charlm("compare", "counted", "--arch", "ngram", "--order", "2", "--csv")
    assert "counted-ngram" in outcome.err


@pytest.mark.parametrize("name", ["nosuch", "checkpoints", "..", ".", "x" * 300, "a/b", "begun/nosuch"])
def test_what_is_no_run_is_an_error(name: str, charlm: Charlm) -> None:
    outcome = charlm("evaluate", name)
    assert outcome.code == 3
    assert "`charlm info` lists the runs there are" in outcome.err or "too long" in outcome.err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("charlm sample ", {"begun", "counted"}),
        ("charlm sample be", {"begun"}),
        ("charlm evaluate counted b", {"begun"}),
        ("charlm inspect predict c", {"counted"}),
        ("charlm train --resume b", {"begun"}),
        ("charlm train --from ", {"begun", "counted"}),
        ("charlm compare b", {"begun"}),
        ("charlm score b", {"begun"}),
        ("charlm comp", {"compare", "compress"}),
        ("charlm sample --le", {"--length", "--length-penalty"}),
    ],
)
def test_shell_completion_offers_what_may_follow(
    typed: str, offered: set[str], charlm: Charlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_CHARLM_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" ")) - 1))
    lines = charlm().out.splitlines()
    assert {line.removeprefix("plain,") for line in lines if line.startswith("plain,")} == offered
