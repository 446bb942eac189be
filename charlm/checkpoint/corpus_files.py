"""The list of the files that a run's corpus was read from: of a large folder it is longer than a card may be.

It is kept as a file of the run, `files-<digest>.json`, and belongs into the description of the corpus in its card.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charlm.checkpoint.card import CARD, damaged, find_files, read_card, verify
from charlm.errors import CheckpointError

NAME = "files.json"
_KIND = "files"  # what the card calls it
_CORPUS, _FILES = "corpus", "files"  # where it belongs in what is known of a run
LIMIT = 64 << 20  # bytes; half a million files


def split_off(about: Mapping[str, Any]) -> tuple[dict[str, Any], bytes | None]:
    """What is known of a run without the list, and the list as the content of its file; None where there is none."""
    corpus = about.get(_CORPUS)
    if not isinstance(corpus, Mapping) or _FILES not in corpus:
        return dict(about), None
    shorter = {name: value for name, value in corpus.items() if name != _FILES}
    return {**about, _CORPUS: shorter}, json.dumps(corpus[_FILES], ensure_ascii=True).encode()


def put_back(path: Path, card: Mapping[str, Any]) -> Any:
    """The description of the corpus in a run's card, with the list. Raises CheckpointError for a damaged one."""
    corpus, entries = card.get(_CORPUS), card.get("files")
    if not isinstance(corpus, Mapping) or not isinstance(entries, Mapping) or _KIND not in entries:
        return corpus
    try:
        entry = entries[_KIND]
        file = find_files(path, {_KIND: entry})[_KIND]
        if entry["bytes"] > LIMIT:
            raise damaged(file, "larger than any list of files")
        verify(file, entry)
        return {**corpus, _FILES: json.loads(file.read_bytes())}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        raise CheckpointError(
            f"{path / CARD}: damaged: the list of the corpus's files is none; restore it from a copy"
        ) from None
    except OSError as problem:
        raise CheckpointError(f"{path}: the list of files cannot be read: {problem.strerror}") from None


def read_corpus(path: Path) -> Any:
    """What a run's card says of its corpus, with the list of its files. Raises CheckpointError."""
    return put_back(path, read_card(path))
