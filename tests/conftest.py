"""What several test files share: a little text, a working folder of its own, and the command line run in it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hypothesis import settings

from charlm import checkpoint, cli, training
from charlm.corpus import Origin
from charlm.models import ARCHITECTURES
from charlm.threads import FIXED
from charlm.tokenizers import TOKENIZERS

TEXT = "".join(
    f"{speaker}:\nWhat {adjective} {noun} is this, and who has seen {number} of them by night?\n\n"
    for number in range(2, 12)
    for speaker, adjective, noun in (
        ("HAMLET", "pale", "ghost"),
        ("OPHELIA", "sweet", "flower"),
        ("CLOWN", "old", "skull"),
    )
)


torch.set_num_threads(1)
settings.register_profile("charlm", deadline=None)  # a timing is no test
settings.load_profile("charlm")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The models here are tiny: a second thread only waits for the first, and pytest runs a process on each core.

    Whatever a test does to the number of threads (`--threads` sets it for the process) ends with the test.
    """
    monkeypatch.delenv(FIXED, raising=False)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@contextmanager
def few_steps() -> Iterator[None]:
    """Meanwhile the gates of n-grams and mixtures are trained for 20 steps, not for hundreds: a second for each."""
    with pytest.MonkeyPatch.context() as patch:
        for gate in ("ngram.gate", "ngram.cache", "mixture.combining"):
            patch.setattr(f"charlm.models.{gate}.ADAM_STEPS", 20)
        yield


@pytest.fixture(scope="module", autouse=True)
def hasty_gates() -> Iterator[None]:
    """What gates learn is tested in test_ngram and test_mixing, which do without this."""
    with few_steps():
        yield


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Charlm = Callable[..., Outcome]


def observing(kind: type[Any] = training.TrainingObserver, **methods: Callable[..., object]) -> Any:
    """An observer, of training or of another kind, with these functions for methods."""
    observer = kind()
    vars(observer).update(methods)
    return observer


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


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs of every kind, one for all files that test the server; see serving."""
    from serving import make_runs

    return make_runs(tmp_path_factory.mktemp("served"))


def begun() -> Path:
    """A run of corpus.txt, in the current folder, that was interrupted after two steps of four."""
    origin, asked = Origin(("corpus.txt",)), iter(range(-2, 99))
    split, kind = origin.open(), TOKENIZERS["characters"]
    path = checkpoint.new_run("begun")
    training.train(
        path,
        split,
        kind.train(split.training.chunks(), kind.Config()),
        "rnn",
        ARCHITECTURES["rnn"].Config(width=8),
        training.complete(training.TrainingConfig(budget="4steps"), "rnn"),
        history=checkpoint.History(corpus=origin.describe(split)),
        observer=observing(should_stop=lambda: next(asked) == 2),
    )
    return path


@pytest.fixture(scope="module")
def begun_and_counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with corpus.txt and two runs of it in checkpoints/: begun (an RNN, interrupted), counted (an n-gram)."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        begun()
        arguments = ["train", "corpus.txt", "--arch", "ngram", "--order", "3", "-q", "-o", "checkpoints/counted"]
        assert cli.run(arguments) == 0
    return folder
