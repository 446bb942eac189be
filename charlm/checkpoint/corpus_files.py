"""The list of the files that a run's corpus was read from: of a large folder it is longer than a card may be.

It is kept as a file of the run, `files-<digest>.json`, and belongs into the description of the corpus in its card.
"""

import json
from dataclasses import replace
from pathlib import Path

from charlm.checkpoint.card import CARD, Card, damaged, find_files, read_card, verify
from charlm.checkpoint.history import History
from charlm.errors import CheckpointError

FILE_LIST = "files.json"
_KIND = "files"  # what the card calls it
_FILES = "files"  # where it belongs in the description of the corpus
MAX_LIST_BYTES = 64 << 20  # of the list; half a million files


def split_off(history: History) -> tuple[History, bytes | None]:
    """The history of a run without the list, and the list as the content of its file; None where there is none."""
    if history.corpus is None or _FILES not in history.corpus:
        return history, None
    shorter = {name: value for name, value in history.corpus.items() if name != _FILES}
    return replace(history, corpus=shorter), json.dumps(history.corpus[_FILES], ensure_ascii=True).encode()


def put_back(path: Path, card: Card) -> History:
    """The history in a run's card, with the list in its corpus. Raises CheckpointError for a damaged one."""
    history = card.history
    if history.corpus is None or _KIND not in card.files:
        return history
    entry = card.files[_KIND]
    file = find_files(path, {_KIND: entry})[_KIND]
    if entry.bytes > MAX_LIST_BYTES:
        raise damaged(file, "larger than any list of files")
    try:
        verify(file, entry)
        return replace(history, corpus={**history.corpus, _FILES: json.loads(file.read_bytes())})
    except (ValueError, RecursionError):
        raise CheckpointError(
            f"{path / CARD}: damaged: the list of the corpus's files is none; restore it from a copy"
        ) from None
    except OSError as problem:
        raise CheckpointError(f"{path}: the list of files cannot be read: {problem.strerror}") from None


def read_history(path: Path) -> History:
    """The history of a run, with the list of the files of its corpus. Raises CheckpointError."""
    return put_back(path, read_card(path))
