"""What several test files share: a little text, a working folder of its own, and the command line run in it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from charlm import cli

TEXT = "".join(
    f"{speaker}:\nWhat {adjective} {noun} is this, and who has seen {number} of them by night?\n\n"
    for number in range(2, 12)
    for speaker, adjective, noun in (
        ("HAMLET", "pale", "ghost"),
        ("OPHELIA", "sweet", "flower"),
        ("CLOWN", "old", "skull"),
    )
)


torch.set_num_threads(1)  # the models here are tiny: a second thread only waits for the first


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Charlm = Callable[..., Outcome]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a corpus of 2,000 characters in it, corpus.txt."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


@pytest.fixture
def charlm() -> Charlm:
    """The command line as a function: charlm("train", "corpus.txt") -> exit code, standard output, standard error."""

    def call(*arguments: str, stdin: str | bytes = "") -> Outcome:
        with CliRunner().isolation(input=stdin) as streams:
            code = cli.run([str(argument) for argument in arguments])
            out, err = streams[0].getvalue(), streams[1].getvalue()
        return Outcome(code, out.decode("utf-8"), err.decode("utf-8"))

    return call
