"""Where a run's text came from, so that it can be opened again and is known to be the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlm.corpus.builtin import PREFIX
from charlm.corpus.source import Skipped, open_corpus
from charlm.corpus.splits import Split, split
from charlm.errors import DataError


@dataclass(frozen=True)
class Origin:
    """What the user named: the sources of a corpus, their encoding, and the held-out file if there is one."""

    sources: tuple[str, ...]
    encoding: str = "utf-8"
    held_out: str | None = None

    def open(self, skipped: Skipped | None = None) -> Split:
        """Read the corpus and split it. Raises DataError as `open_corpus` and `split` do."""
        held_out = None if self.held_out is None else open_corpus([self.held_out], self.encoding)
        return split(open_corpus(self.sources, self.encoding, skipped), held_out)

    def describe(self, opened: Split) -> dict[str, Any]:
        """A JSON object for the checkpoint: the origin, and sizes and hashes of what it held."""
        held_out = None if self.held_out is None else _lasting(self.held_out)
        parts = {name: getattr(opened, name) for name in ("training", "train", "validation", "held_out")}
        return {
            "name": opened.training.name,
            "sources": [_lasting(source) for source in self.sources],
            "encoding": self.encoding,
            "held_out_file": held_out,
            "characters": {name: part.characters for name, part in parts.items()},
            "sha256": {name: parts[name].sha256 for name in ("training", "held_out")},
        }


def reopen(described: Mapping[str, Any]) -> Split:
    """The split that `Origin.describe` described, read again. Raises DataError if it is gone or is another text now."""
    sources = described["sources"]
    if "-" in sources:
        raise DataError("this run's corpus came from standard input and cannot be read again; name a file with --text")
    opened = Origin(tuple(sources), described["encoding"], described["held_out_file"]).open()
    found = {name: getattr(opened, name).sha256 for name in described["sha256"]}
    if found != described["sha256"]:
        raise DataError(
            f"{', '.join(sources)}: not the text that this run was made from (it has changed since)\n"
            "restore it, or name another text with --text"
        )
    return opened


def _lasting(source: str) -> str:
    """The source in a form that means the same from another working directory."""
    named = source == "-" or source.startswith(PREFIX) or not Path(source).exists()
    return source if named else str(Path(source).resolve())
