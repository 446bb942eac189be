"""Where runs live: making the folder of a new one, finding those there are."""

import re
from contextlib import suppress
from pathlib import Path

from charlm.checkpoint.card import CARD, METRICS, OWN_FILE
from charlm.checkpoint.lock import LOCK
from charlm.errors import CharlmError, CheckpointError, UsageError
from charlm.names import is_utf8

RUNS = Path("checkpoints")


def new_run(name: str, output: Path | None = None, *, folder: Path = RUNS, force: bool = False) -> Path:
    """Make the folder of a new run: `output`, or `name` in `folder`, with a number behind it if that is taken.

    `force` says to replace the run that is there, in `output` or under that `name`; it stays until the new run's first
    save takes its place. Raises UsageError if `output` is not UTF-8, exists without `force`, or is no run.
    """
    if output is not None and not is_utf8(output):
        raise UsageError(f"{output}: the name of a run's folder must be UTF-8; choose another", "output")
    stem = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
    try:
        return _numbered(stem, folder) if output is None and not force else _made(output or folder / stem, force)
    except OSError as problem:
        raise CharlmError(
            f"{output or folder}: cannot make this folder: {problem.strerror or problem}; `output` chooses another"
        ) from None


def _numbered(stem: str, folder: Path) -> Path:
    path, number = folder / stem, 1
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            number += 1
            path = folder / f"{stem}-{number}"


def _made(path: Path, force: bool) -> Path:
    with suppress(FileExistsError):
        path.mkdir(parents=True)
    if path.is_dir() and not any(_foreign(entry.name) for entry in path.iterdir()):
        return path
    if not force:
        raise UsageError(f"{path} exists; choose another `output`, or `force=True` to replace the run in it")
    if path.is_symlink() or not (path / CARD).is_file():
        what = "a link" if path.is_symlink() else "not a run"
        raise UsageError(f"{path} exists and is {what}; `force=True` replaces only runs")
    return path


def _foreign(name: str) -> bool:
    """Whether a file is more than what a trainer leaves that was killed before its first save."""
    return name not in (LOCK, METRICS) and not OWN_FILE.fullmatch(name)


def find_run(name: str | Path) -> Path:
    """The run that a user names: its folder, else the run of that name in checkpoints/, else the path as it is.

    A folder that is a run is taken before one of the same name in checkpoints/.
    """
    path = Path(name)
    named = RUNS / path
    if not is_run(path) and len(path.parts) == 1 and path.name and is_run(named):
        return named
    return path


def is_run(path: Path) -> bool:
    """Whether a folder holds a run, whole or damaged."""
    try:
        return (path / CARD).is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL, is none
        return False


def runs(folder: Path = RUNS) -> list[Path]:
    """The runs in a folder, the newest first."""
    dated = []
    for card in folder.glob(f"*/{CARD}"):
        with suppress(OSError):  # removed meanwhile, or a link to nowhere
            dated.append((card.stat().st_mtime_ns, card.parent))
    return [path for _, path in sorted(dated, reverse=True)]


def newest(folder: Path = RUNS) -> Path:
    """The run saved last. Raises CheckpointError if there is none."""
    for path in runs(folder):
        return path
    raise CheckpointError(f"no run in {folder}/ yet: make one with `charlm train CORPUS`, or name a run's folder")
