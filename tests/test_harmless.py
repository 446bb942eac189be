"""Whatever stands in the name of a file, a run or a text, or in a run's card: it is shown, not obeyed."""

import json
import os
from pathlib import Path

import pytest
from conftest import TEXT, Charlm

from charlm import checkpoint

OBEYED = "\x1b]0;title\x07\x9b31m\u202e\u2066\x7f"
"""Sets a terminal's title, its colour, the direction of writing; deletes."""
SHOWN = "[red]:smile:"
"""What rich takes for markup and for an emoji."""
NAME = f"a{OBEYED}b{SHOWN}"
ALWAYS_OBEYED = {"\x07", "\x9b", "\u202e", "\u2066", "\x7f", "\x1b]"}  # rich's own sequences begin with \x1b[ or \x1b?


def nasty(value: object) -> object:
    """A part of a card with all its text replaced, but for what a run cannot be loaded without."""
    if isinstance(value, dict):
        return {name: nasty(entry) for name, entry in value.items()} | {NAME: NAME}
    return NAME if isinstance(value, str) else value


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and runs of these names; the card of one of them says them in all that is free."""
    from click.testing import CliRunner

    from charlm import cli

    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch, CliRunner().isolation():
        patch.chdir(folder)
        Path(f"{NAME}.txt").write_text(TEXT, encoding="utf-8")
        for arch, options in (("ngram", ["--order", "3"]), ("rnn", ["--budget", "2steps", "--width", "8"])):
            path = Path("checkpoints", f"{NAME}-{arch}")
            assert cli.run(["train", f"{NAME}.txt", "--arch", arch, *options, "-o", str(path)]) == 0
        card = json.loads((path / checkpoint.CARD).read_text())
        other = Path("checkpoints", "other")
        os.rename(path, other)  # noqa: PTH104 - as a user does
        for name in ("progress", "training", "environment", "charlm", "torch", "processor_use"):
            card[name] = nasty(card[name])
        (other / checkpoint.CARD).write_text(json.dumps(card | {NAME: NAME}))
        damaged = Path("checkpoints", f"{NAME}-damaged")
        damaged.mkdir()
        (damaged / checkpoint.CARD).write_text(f'{{"format": 1, "{SHOWN}')
    return folder


COUNTED = f"checkpoints/{NAME}-ngram"
COMMANDS: list[list[str]] = [
    ["info"],
    ["info", "other"],
    ["info", COUNTED],
    ["info", f"checkpoints/{NAME}-damaged"],
    ["evaluate", COUNTED],
    ["evaluate", COUNTED, "other"],
    ["compare", COUNTED, "other"],
    ["compare", COUNTED, "other", "--markdown"],
    ["compare", COUNTED, "other", "--latex"],
    ["compare", COUNTED, "other", "--csv"],
    ["compare", f"{NAME}.txt", "--arch", "ngram,rnn", "--budget", "2steps", "-o", f"{NAME}-compared"],
    ["report", COUNTED, "-o", f"{NAME}.html"],
    ["train", f"{NAME}.txt", "--arch", "rnn", "--budget", "2steps", "-o", f"{NAME}-trained"],
    ["train", "--resume", "other"],
    ["train", f"{NAME}.txt", "--arch", NAME],
    ["train", f"{NAME}.txt", "--from", COUNTED],
    ["train", f"{NAME}-not-there.txt"],
    ["mix", COUNTED, "other", "-o", f"{NAME}-mixed"],
    ["sample", COUNTED, "--length", "0", "--stop", NAME],
    ["sample", COUNTED, "--length", "0", "--prompt", NAME],
    ["score", COUNTED, f"{NAME}.txt"],
    ["inspect", "predict", COUNTED, "--text", "W"],
    ["inspect", "embeddings", "other"],
    ["inspect", "gradients", "other", "--reach", "3"],
    ["export", COUNTED, "-o", f"{NAME}.arpa", "--force"],
    ["import", f"{NAME}.arpa", "-o", f"{NAME}-imported", "--force"],
    ["data", "get", NAME],
    [NAME],
    ["info", f"--{NAME}"],
]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command).replace(NAME, "NAME"))
def test_nothing_in_a_name_or_a_card_is_obeyed(
    command: list[str], terminal: bool, made: Path, charlm: Charlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    if terminal:
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("COLUMNS", "300")
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    outcome = charlm(*command)
    data = {"--csv", "--prompt"} & set(command) and not terminal  # in a pipe, data are as they are
    printed = outcome.err if data else outcome.out + outcome.err
    assert "Traceback" not in printed
    assert not [sign for sign in ALWAYS_OBEYED if sign in printed], printed
    if "smile" in "".join(command):
        assert "😄" not in printed


def test_a_name_is_one_line_of_a_table(made: Path, charlm: Charlm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    before = len(charlm("info").out.splitlines())
    run = Path("checkpoints", "two\nlines\r\tand more")
    run.mkdir()
    (run / checkpoint.CARD).write_bytes(Path("checkpoints", "other", checkpoint.CARD).read_bytes())
    assert len(charlm("info").out.splitlines()) == before + 1
    assert "two⏎lines␍⇥and more" in charlm("info").out
