"""The command line in processes forked from this one, where all is imported: a start takes milliseconds."""

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from charlm import checkpoint, cli
from charlm.checkpoint.card import OWN_FILE
from charlm.cli import train as _command  # noqa: F401 - so that no child has to import it
from charlm.corpus import Text, split
from charlm.models import ARCHITECTURES, CountingModel
from charlm.models.recurrent import RNN
from charlm.tokenizers import TOKENIZERS
from charlm.tokenizers.characters import CharactersConfig
from charlm.training import TrainingConfig
from charlm.training import complete as complete_settings
from charlm.training import train as train_run

torch.set_num_threads(1)  # a process with more threads than one must not fork

SMALL = {"width": 32, "layers": 1, "heads": 2, "window": 16, "embedding": 8, "order": 4}
TRAINING = ("--batch", "4", "--segment", "32", "--save-every", "0.1s")  # of what is not counted only


@dataclass
class Tally:
    """What was done, how often, and what went wrong."""

    name: str
    counts: dict[str, int | float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, what: str, number: float = 1) -> None:
        """Count."""
        self.counts[what] = self.counts.get(what, 0) + number

    def check(self, fine: bool, failure: str) -> None:
        """Note a failure unless all is fine."""
        if not fine:
            self.failures.append(failure)

    def __str__(self) -> str:
        counts = ", ".join(
            f"{value:,.3g} {what}" if isinstance(value, float) else f"{value:,} {what}"
            for what, value in self.counts.items()
        )
        return "\n  ".join([f"{self.name}: {counts}; {len(self.failures)} failures", *self.failures[:20]])


def write_corpus(folder: Path) -> None:
    """corpus.txt: 60,000 characters that are a little work to learn, the same every time."""
    words = random.Random(0).choices(("the", "cat", "sat", "on", "mat", "hat", "rat", "ate", "é", "—", "42"), k=16_000)
    lines = (" ".join(words[at : at + 9]) for at in range(0, len(words), 9))
    (folder / "corpus.txt").write_text("\n".join(lines), encoding="utf-8")


def warm_up(folder: Path) -> None:
    """Import whatever training imports, once for all processes."""
    text = (folder / "corpus.txt").read_text(encoding="utf-8")
    parts = split(Text.from_string(text[:3000], "warm"))
    tokenizer = TOKENIZERS["characters"].train([text], CharactersConfig())
    (folder / "warm").mkdir()
    training = complete_settings(TrainingConfig(budget="1steps"), "rnn")
    train_run(folder / "warm", parts, tokenizer, "rnn", RNN.Config(width=8), training)


def options(architecture: str) -> list[str]:
    """The options of a small model."""
    known = ARCHITECTURES[architecture].Config.names()
    return [word for name, value in SMALL.items() if name in known for word in (f"--{name}", str(value))]


def train(run: Path, architecture: str, steps: int) -> list[str]:
    """The command that begins a run, or goes on with it if there is anything to go on from."""
    if (run / checkpoint.CARD).exists():
        return ["train", "--resume", str(run), "--quiet"]
    return [
        "train", "corpus.txt", "-o", str(run), "--arch", architecture, "--budget", f"{steps}steps",
        "--quiet", *(() if issubclass(ARCHITECTURES[architecture], CountingModel) else TRAINING),
        *options(architecture),
    ]  # fmt: skip


def spawn(arguments: list[str], folder: Path, before: Callable[[], None] = lambda: None) -> int:
    """The command in a process of its own, whose output goes to out.txt; its id."""
    if pid := os.fork():
        return pid
    try:
        os.chdir(folder)
        output = os.open("out.txt", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(output), "w", buffering=1) for _ in range(2))
        before()
        code = cli.run(arguments)
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait(pid: int, seconds: float = 120.0) -> int:
    """The exit code of a process, minus the signal if one ended it. One that takes longer is killed: -100."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -100


def complete(run: Path, architecture: str, steps: int, folder: Path) -> dict[str, object]:
    """Train to the end; what the end looks like: the hash of the weights and where the counters stand."""
    while not finished(run):
        code = wait(spawn(train(run, architecture, steps), folder))
        assert code == 0, f"exit code {code}: {(folder / 'out.txt').read_text()}"
    return outcome(run)


def finished(run: Path) -> bool:
    """Whether there is a save and it is the last."""
    return (run / checkpoint.CARD).exists() and checkpoint.read_card(run).history.finished


def outcome(run: Path) -> dict[str, object]:
    """What must not depend on how often a run was interrupted."""
    card = checkpoint.read_card(run)
    counters = card.history.progress or {}
    progress = {name: counters.get(name) for name in ("step", "steps", "best", "joined", "training", "since_best")}
    return {"weights": card.files["weights"].sha256, **progress}


def saved_step(run: Path) -> int:
    """The step of the last save; -1 where there is none."""
    if not (run / checkpoint.CARD).exists():
        return -1
    return int((checkpoint.read_card(run).history.progress or {}).get("step", 0))


def died_in_a_save(run: Path) -> bool:
    """Whether a save has left its traces: a file that is not whole, or one that the card does not name (any more)."""
    named = set()
    if (run / checkpoint.CARD).exists():
        named = {entry.name for entry in checkpoint.read_card(run).files.values()}
    return any(OWN_FILE.fullmatch(file.name) and file.name not in named for file in run.iterdir())
