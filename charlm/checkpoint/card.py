"""checkpoint.json: what a run is, and the size and SHA-256 of every file that belongs to it."""

import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charlm.errors import CheckpointError
from charlm.files import sha256_of
from charlm.own_files import CARD as CARD
from charlm.own_files import METRICS as METRICS
from charlm.own_files import RUN_FILE

FORMAT = 1
OWN_FILE = RUN_FILE
CARD_LIMIT = 1 << 20  # bytes; an honest card has a few thousand
FILES_LIMIT = 8  # in a run; an honest one has four

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{,99}")


def read_card(path: Path) -> dict[str, Any]:
    """The content of a run's checkpoint.json, its format checked. Raises CheckpointError."""
    card = path / CARD
    try:
        found = card.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise CheckpointError(f"{card}: not a file of its own; take a whole copy of the run, links followed")
        if found.st_size > CARD_LIMIT:
            raise CheckpointError(f"{card}: larger than any card charlm writes; this is not a run")
        content = json.loads(card.read_bytes())
        version = content["format"]
    except (FileNotFoundError, NotADirectoryError):
        what = "is not a run: it has no checkpoint.json" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path} {what}; `charlm info` lists the runs there are") from None
    except OSError as problem:
        raise CheckpointError(f"{card}: cannot be read: {problem.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"{card}: damaged: not the JSON of a run; restore it from a copy") from None
    if version != FORMAT:
        raise CheckpointError(
            f"{card}: format {str(version)[:20]}, this charlm reads {FORMAT}: upgrade charlm to read it"
        )
    return dict(content)


def finished(card: Mapping[str, Any]) -> bool:
    """Whether the run of this card came to the end of its budget."""
    progress = card.get("progress")
    return isinstance(progress, Mapping) and bool(progress.get("finished"))


def card_json(card: Mapping[str, Any]) -> bytes:
    """A card as it is written."""
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")  # half a surrogate, as in odd file names, the way JSON spells it


def described(name: str, size: int, digest: str) -> dict[str, Any]:
    """The entry of a file in the card."""
    return {"name": name, "bytes": size, "sha256": digest}


def find_files(path: Path, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Path]:
    """The files that a card names, by kind: in this folder, no links, and of the right size; their content unread.

    Raises CheckpointError, or KeyError, TypeError or AttributeError for entries that are none.
    """
    if len(entries) > FILES_LIMIT:
        raise CheckpointError(f"{path / CARD}: damaged: names more files than any run has; restore it from a copy")
    return {kind: _find(path, entry) for kind, entry in entries.items()}


def _find(path: Path, entry: Mapping[str, Any]) -> Path:
    name = entry["name"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise CheckpointError(f"{path / CARD}: damaged: names a file that no run has; restore it from a copy")
    file = path / name
    try:
        found = file.lstat()
    except OSError:
        found = None
    if found is None or not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{file}: missing; the run is incomplete, restore it from a copy")
    if found.st_size != entry["bytes"]:
        raise damaged(file)
    return file


def verify(file: Path, entry: Mapping[str, Any]) -> None:
    """Raises CheckpointError unless the file's content is what was saved."""
    try:
        if sha256_of(file) == entry["sha256"]:
            return
    except OSError as problem:
        raise CheckpointError(f"{file}: cannot be read: {problem.strerror}") from None
    raise damaged(file)


def damaged(file: Path, why: str = "not the content that was saved") -> CheckpointError:
    """The error for a file that is there but wrong."""
    return CheckpointError(f"{file}: damaged: {why}; restore it from a copy")
