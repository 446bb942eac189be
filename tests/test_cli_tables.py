"""Tables at every width and in pipes: nothing is cut, rows stay distinguishable, no line ends in a space."""

import re
from pathlib import Path

import pytest
from conftest import Charlm
from rich.cells import cell_len
from rich.text import Text

from charlm.cli.tables import Column, print_facts, print_line, print_table

WIDTHS = (60, 80, 120)
COLUMNS = [
    Column("run"),
    Column("bits/char", number=True),
    Column("measured on"),
    Column("corpus", dispensable=1),
    Column("params", number=True, dispensable=2),
]
ROWS = [
    [
        f"python-reference-{kind}-trained-for-{n}-hours",
        f"{n}.123",
        "validation, before joining",
        "python-reference",
        "1M",
    ]
    for n, kind in enumerate(("lstm", "gru", "音楽の記憶"))
]
COMMANDS = (
    ("info",),
    ("info", "a-run-with-a-name-that-is-rather-long-1"),
    ("info", "--device"),
    ("evaluate", "a-run-with-a-name-that-is-rather-long-1", "a-run-with-a-name-that-is-rather-long-2"),
    ("compare", "a-run-with-a-name-that-is-rather-long-1", "a-run-with-a-name-that-is-rather-long-2"),
    ("evaluate", "a-run-with-a-name-that-is-rather-long-1"),
    ("inspect", "predict", "a-run-with-a-name-that-is-rather-long-1", "--text", "HAM"),
    ("inspect", "gradients", "a-run-with-a-name-that-is-rather-long-2", "--reach", "8"),
    ("data", "list"),
)


def terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "0")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))


def lines(text: str) -> list[str]:
    return [Text.from_ansi(line).plain for line in text.splitlines()]


@pytest.mark.parametrize("width", [48, *WIDTHS])
def test_a_terminal_cuts_nothing(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(monkeypatch, width)
    print_table(COLUMNS, ROWS)
    shown = lines(capsys.readouterr().out)
    assert max(map(cell_len, shown)) <= width
    assert "…" not in "".join(shown)
    first = max(cell_len(line.split("  ")[0]) for line in shown[2:])
    names = "".join(re.split("  |$", line)[0] for line in shown[2:] if cell_len(line.split("  ")[0]) <= first)
    for row in ROWS:
        assert row[0] in names
        assert row[1] in "".join(shown)
    for column in COLUMNS:
        assert any(column.heading in line for line in shown)  # as a heading, or among those that are not shown


def test_columns_are_left_out_in_their_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left_out = []
    for width in range(120, 40, -1):
        terminal(monkeypatch, width)
        print_table(COLUMNS, ROWS)
        left_out.append(" ".join(re.findall(r"columns: (.*)\.", capsys.readouterr().out)))
    assert list(dict.fromkeys(left_out)) == ["", "params", "corpus, params"]


def test_a_pipe_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, ROWS)
    print_facts([("name", Text("value", "bold")), ("", ""), ("two", "lines\nof it")], "Title")
    print_line("word " * 99 + "word")
    out = capsys.readouterr().out
    assert not re.search(r"[ \t]$|[─━│╭]|\x1b", out, re.MULTILINE)
    table = out.splitlines()
    assert len(table) == 1 + len(ROWS) + 1 + 4 + 1
    for row, line in zip(ROWS, table[1:], strict=False):
        assert re.split("  +", line) == row
    assert table[-5:-1] == ["name  value", "", "two   lines", "      of it"]


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small runs."""
    from click.testing import CliRunner
    from conftest import TEXT

    from charlm import cli

    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch, CliRunner().isolation():
        patch.chdir(folder)
        (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
        for number, arch in enumerate(("ngram", "rnn"), 1):
            path = f"checkpoints/a-run-with-a-name-that-is-rather-long-{number}"
            size = [] if arch == "ngram" else ["--size", "tiny"]
            options = ["--arch", arch, *size, "--budget", "2steps", "-q", "-o", path]
            assert cli.run(["train", "corpus.txt", *options]) == 0
    return folder


def typed(command: tuple[str, ...]) -> list[str]:
    return [f"checkpoints/{word}" if word.startswith("a-run") else word for word in command]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_command_fits_the_terminal(
    command: tuple[str, ...], width: int, two_runs: Path, charlm: Charlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(two_runs)
    terminal(monkeypatch, width)
    outcome = charlm(*typed(command))
    assert outcome.code == 0, outcome.err
    shown = lines(outcome.out)
    assert max(map(cell_len, shown)) <= width
    if command == ("info",):
        assert all(any(f"long-{n}" in line or line.startswith(f"-{n}") for line in shown) for n in (1, 2)), outcome.out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_is_plain_in_a_pipe(
    command: tuple[str, ...], two_runs: Path, charlm: Charlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(two_runs)
    monkeypatch.setenv("COLUMNS", "60")  # of a terminal that does not get to see it
    outcome = charlm(*typed(command))
    assert outcome.code == 0, outcome.err
    assert not re.search(r" $|[─━│]|\x1b", outcome.out, re.MULTILINE), outcome.out
    names = [word for word in command if word.startswith("a-run")]
    assert all(name in outcome.out for name in names if command[0] == "evaluate")
