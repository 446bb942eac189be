"""SIGKILL at random moments, many of them inside a save: every save stays readable, none is lost, the end is the same.

And SIGINT and SIGTERM: saved soon, with their exit codes, and resumable.
"""

import itertools
import os
import random
import signal
import time
from pathlib import Path

from charlm import checkpoint
from charlm.errors import CheckpointError
from charlm.models import ARCHITECTURES
from faults.processes import Tally, complete, died_in_a_save, finished, saved_step, spawn, train, wait

STEPS = 600
EACH = 100  # steps of a long run for each time it is killed
PATIENCE = 5.0  # seconds to save in, and one step more


def kills(count: int, folder: Path, seed: int) -> Tally:
    """`count` kills in all, the same number in each architecture, up to eight in one run."""
    tally, rng = Tally("SIGKILL at random moments"), random.Random(seed)
    for number, architecture in enumerate(ARCHITECTURES):
        began = time.monotonic()
        expected = complete(folder / f"{architecture}-whole", architecture, STEPS, folder)
        longest = (time.monotonic() - began) / 2
        left = count * (number + 1) // len(ARCHITECTURES) - count * number // len(ARCHITECTURES)
        run = 0
        while left:
            path = folder / f"{architecture}-{run}"
            done = _kill(path, architecture, STEPS, min(left, rng.randint(1, 8)), folder, rng, tally, longest)
            _finish(path, architecture, STEPS, folder, expected, tally)
            left, run = left - done, run + 1
    return tally


def kills_in_one_run(count: int, folder: Path, seed: int) -> Tally:
    """`count` kills in a row."""
    tally, rng, architecture = Tally("SIGKILL again and again in one run"), random.Random(seed), "gru"
    steps = EACH * count
    expected = complete(folder / "long-whole", architecture, steps, folder)
    path = folder / "long"
    done = _kill(path, architecture, steps, count, folder, rng, tally, longest=0.4)
    tally.check(done == count, f"the run ended after {done} kills")
    _finish(path, architecture, steps, folder, expected, tally)
    return tally


def _kill(
    run: Path,
    architecture: str,
    steps: int,
    most: int,
    folder: Path,
    rng: random.Random,
    tally: Tally,
    longest: float,
) -> int:
    """Start or resume a run and kill it after `longest` seconds at most, then or in the save that follows, again and
    again; returns how often it was killed before it ended."""
    for number in range(most):
        if finished(run):
            return number
        pid = spawn(train(run, architecture, steps), folder)
        time.sleep(rng.uniform(0, longest))
        if rng.random() < 0.6:
            _wait_for_a_save(run, pid)
            time.sleep(rng.uniform(0, 0.004))
        before = saved_step(run)
        os.kill(pid, signal.SIGKILL)
        if (code := wait(pid)) != -signal.SIGKILL:
            tally.check(code == 0, f"{run}: exit code {code}: {(folder / 'out.txt').read_text()}")
            return number
        tally.add("kills")
        _inspect(run, before, tally)
    return most


def _wait_for_a_save(run: Path, pid: int) -> None:
    """Until a file is being written, or the process is at its end."""
    while not any(run.glob(".*.part")):
        if _ended(pid):
            return


def _inspect(run: Path, before: int, tally: Tally) -> None:
    """What a killed trainer has left: the last save or the next, whole."""
    if run.is_dir() and died_in_a_save(run):
        tally.add("inside a save")
    if before < 0 and not (run / checkpoint.CARD).exists():
        tally.add("before the first save")
        return
    try:
        card = checkpoint.read_card(run)
        checkpoint.load(run, resume="resume" in card.files)
        tally.check(saved_step(run) >= before, f"{run}: step {before} was saved and is lost")
    except CheckpointError as problem:
        tally.check(False, f"unreadable: {problem}")


def _finish(run: Path, architecture: str, steps: int, folder: Path, expected: dict[str, object], tally: Tally) -> None:
    killed_in_its_last_save = finished(run) and died_in_a_save(run)  # which none follows to clear up after it
    found = complete(run, architecture, steps, folder)
    tally.add("runs finished")
    tally.check(found == expected, f"{run}: ended as {found}, uninterrupted as {expected}")
    tally.check(killed_in_its_last_save or not died_in_a_save(run), f"{run}: files that no save needs are left")


def signals(count: int, folder: Path, seed: int) -> Tally:
    """SIGINT and SIGTERM in turn, at random moments of runs of every architecture, up to three in one run."""
    tally, rng, slowest = Tally("SIGINT and SIGTERM"), random.Random(seed), 0.0
    names = list(ARCHITECTURES)
    whole = {name: complete(folder / f"{name}-uninterrupted", name, STEPS, folder) for name in names}
    saved = 0
    for run in itertools.count():
        architecture = names[run % len(names)]
        path = folder / f"{architecture}-signalled-{run}"
        for _ in range(rng.randint(1, 3)):
            number = (signal.SIGINT, signal.SIGTERM)[saved % 2]
            code, seconds, said = _signal(path, architecture, number, rng.uniform(0, 0.8), folder)
            if code in (0, 128 + number) and finished(path):  # it came too late to change anything
                tally.add("besides, at the end")
                break
            slowest = max(slowest, seconds)
            tally.check(code == 128 + number, f"{path}: {number.name} gave {code}: {said}")
            tally.check(seconds < PATIENCE, f"{path}: took {seconds:.1f} s")
            tally.check("Traceback" not in said, f"{path}: {said}")
            if (path / checkpoint.CARD).exists():
                saved += 1
                tally.add(number.name)
                checkpoint.load(path, resume=True)
                tally.check(f"--resume {path}" in said, f"{path}: does not say how to go on: {said}")
            else:
                tally.add("besides, before there was anything to save")
        tally.check(complete(path, architecture, STEPS, folder) == whole[architecture], f"{path}: another end")
        if saved >= count:
            break
    tally.counts["seconds at most"] = slowest
    return tally


def _signal(run: Path, architecture: str, number: signal.Signals, after: float, folder: Path) -> tuple[int, float, str]:
    """Train, send the signal so many seconds after training has begun; exit code, seconds to the end, what was said."""
    pid = spawn(train(run, architecture, STEPS), folder)
    while not (run / checkpoint.LOCK).exists() and not _ended(pid):
        time.sleep(0.0005)
    time.sleep(after)
    began = time.monotonic()
    os.kill(pid, number)
    return wait(pid), time.monotonic() - began, (folder / "out.txt").read_text()


def _ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
