"""A save while the disk fails: at every write, fsync, rename and removal in turn, and when it is full.

Afterwards the folder holds the old checkpoint or the new one, never neither. Three ways to fail: the call raises an
error; the process is killed at it; or the power is cut, and whatever had not been synchronised is lost: the content of
files becomes half of it, renamed files have their old names.
"""

import errno
import io
import os
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from charlm import checkpoint
from charlm.errors import CharlmError, CheckpointError
from charlm.models import ARCHITECTURES, CountingModel
from charlm.tokenizers import TOKENIZERS
from charlm.tokenizers.characters import CharactersConfig
from faults.processes import SMALL, Tally, finished, options, saved_step, spawn, wait

BLOCK = 1 << 16  # bytes in one write, at most
TEXT = "the cat sat on the mat; the rat ate that.\n" * 10


class Disk:
    """The calls that change a disk, counted from 1; at number `at` it strikes. It knows what is unsynchronised."""

    def __init__(self, at: int = 0, strike: "Callable[[Disk], None]" = lambda _: None, room: int | None = None) -> None:
        self.at, self.strike, self.room = at, strike, room
        self.calls = 0
        self.unsynced: set[str] = set()  # files whose content is not on the disk
        self.renamed: list[tuple[str, str, bytes | None]] = []  # from, to, and what was there
        self.real = {name: getattr(os, name) for name in ("fdopen", "fsync", "replace", "unlink")}

    def __enter__(self) -> "Disk":
        for name in self.real:
            setattr(os, name, getattr(self, name))
        return self

    def __exit__(self, *_: object) -> None:
        for name, call in self.real.items():
            setattr(os, name, call)

    def _call(self) -> None:
        self.calls += 1
        if self.calls == self.at:
            self.strike(self)

    def fdopen(self, descriptor: int, mode: str) -> Any:
        self.unsynced.add(_path(descriptor))
        return (
            io.BufferedWriter(_File(descriptor, self), BLOCK) if mode == "wb" else self.real["fdopen"](descriptor, mode)
        )

    def write(self, descriptor: int, data: memoryview) -> int:
        data = data[:BLOCK]
        if self.room is not None and len(data) > self.room:
            data = data[: self.room]
            if not data:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._call()
        written = os.write(descriptor, data)
        self.room = None if self.room is None else self.room - written
        return written

    def fsync(self, descriptor: int) -> None:
        self._call()
        self.real["fsync"](descriptor)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self.renamed.clear()
        self.unsynced.discard(_path(descriptor))

    def replace(self, source: Any, target: Any) -> None:
        self._call()
        before = Path(target).read_bytes() if Path(target).exists() else None
        self.real["replace"](source, target)
        self.renamed.append((str(source), str(target), before))
        if str(source) in self.unsynced:
            self.unsynced = self.unsynced - {str(source)} | {str(target)}

    def unlink(self, path: Any, **named: Any) -> None:
        self._call()
        self.real["unlink"](path, **named)


def _path(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


class _File(io.RawIOBase):
    def __init__(self, descriptor: int, disk: Disk) -> None:
        self.descriptor, self.disk = descriptor, disk

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def write(self, data: Any) -> int:
        return self.disk.write(self.descriptor, memoryview(data).cast("B"))

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self.descriptor)


def fail(_: Disk) -> None:
    """The call raises an error."""
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def kill(_: Disk) -> None:
    """The process is gone."""
    os.kill(os.getpid(), signal.SIGKILL)


def cut(disk: Disk) -> None:
    """The power is gone, and with it what was not on the disk."""
    for path in disk.unsynced:
        if os.path.exists(path):
            os.truncate(path, os.path.getsize(path) // 2)
    for source, target, before in reversed(disk.renamed):
        os.rename(target, source)
        if before is not None:
            Path(target).write_bytes(before)
    kill(disk)


def operations(_count: int, folder: Path, _seed: int) -> Tally:
    """Every call of a save over an earlier one, and of a run's first save, for a network and for a counting model."""
    tally = Tally("every call of a save fails, is the last, or loses the power")
    for architecture in ("lstm", "ngram"):
        old, new = _models(architecture)
        for first in (False, True):
            for strike in (fail, kill, cut):
                at = 0
                while at < 1000:
                    at += 1
                    path = folder / f"{architecture}-{first}-{strike.__name__}-{at}"
                    path.mkdir()
                    if not first:
                        _save(path, architecture, old, 1)
                    if not _struck(path, architecture, new, at, strike):
                        break
                    tally.add(f"calls, {strike.__name__}")
                    _check(path, first, tally)
    return tally


def _models(architecture: str) -> tuple[Any, Any]:
    kind, made = ARCHITECTURES[architecture], []
    tokenizer = TOKENIZERS["characters"].train([TEXT], CharactersConfig())
    for seed in (0, 1):
        torch.manual_seed(seed)
        known = kind.Config.names()
        config = kind.Config().changed({name: value for name, value in SMALL.items() if name in known})
        model = kind(config, tokenizer.vocab_size)
        if isinstance(model, CountingModel):
            ids = tokenizer.encode(TEXT[: 300 + 60 * seed])
            model.fit(ids[:-50], ids[-50:])
        made.append((model, tokenizer))
    return made[0], made[1]


def _save(path: Path, architecture: str, model: Any, step: int) -> None:
    resume = {"state.0": torch.full((40_000,), float(step))}
    history = checkpoint.History(progress={"step": step, "finished": False})
    checkpoint.save(path, architecture, *model, history, resume)


def _struck(path: Path, architecture: str, model: Any, at: int, strike: Callable[[Disk], None]) -> bool:
    """Save, struck at that call; whether there was such a call."""
    if strike is fail:
        with Disk(at, strike) as disk:
            try:
                _save(path, architecture, model, 2)
            except CharlmError as problem:
                assert "Input/output error" in str(problem)
        return disk.calls >= at
    if not (pid := os.fork()):
        with Disk(at, strike):
            _save(path, architecture, model, 2)
        os._exit(0)
    return wait(pid) == -signal.SIGKILL


def _check(path: Path, first: bool, tally: Tally) -> None:
    try:
        run = checkpoint.load(path, resume=True)
        step = (run.history.progress or {})["step"]
        tally.add(f"then the {'old' if step == 1 else 'new'} one")
        tally.check(bool((run.resume["state.0"] == step).all()), f"{path}: a mixture of two saves")
    except CheckpointError as problem:
        tally.add("then none, before the first")
        tally.check(first and not (path / checkpoint.CARD).exists(), f"{path}: {problem}")


def full(_count: int, folder: Path, _seed: int) -> Tally:
    """The disk is full after every 64 KiB of a save: one line, exit code 1, the last save as it was."""
    tally, original = Tally("disk full at each 64 KiB of a save"), folder / "original"
    arguments = ["train", "corpus.txt", "-o", "original", "--arch", "lstm", "--budget", "3000steps", "--quiet"]
    pid = spawn([*arguments, *options("lstm"), "--width", "128", "--batch", "4", "--save-every", "0.001s"], folder)
    while not (original / checkpoint.CARD).exists():
        pass
    os.kill(pid, signal.SIGINT)
    assert wait(pid) == 130
    _shorten(original)
    before, room = _contents(original), 0
    while True:
        run = folder / f"full-{room}"
        shutil.copytree(original, run)
        pid = spawn(["train", "--resume", str(run), "--quiet"], folder, lambda: Disk(room=room).__enter__() and None)  # noqa: B023
        code, said = wait(pid), (folder / "out.txt").read_text()
        if code == 0:
            tally.check(finished(run) and room > sum(map(len, before.values())) * 0.9, f"{run}: finished too soon")
            break
        tally.add("saves")
        tally.check(code == 1 and len(said.splitlines()) == 1 and "No space left" in said, f"{run}: {code}: {said}")
        further = saved_step(run) > saved_step(original)  # an earlier save of this process had room
        tally.add("that left a later save of the same process" if further else "that left the one before")
        tally.check(further or _contents(run) == before, f"{run}: the last save changed")
        checkpoint.load(run, resume=True)
        shutil.rmtree(run)
        room += BLOCK
    return tally


def _shorten(run: Path) -> None:
    """Let a run end after three steps more."""
    card = run / checkpoint.CARD
    step = (checkpoint.read_card(run).history.progress or {})["step"]
    card.write_text(card.read_text().replace('"steps": 3000', f'"steps": {step + 3}'))


def _contents(run: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in run.iterdir() if file.name != checkpoint.METRICS}
