"""Where a run's text came from, so that it can be opened again and is known to be the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlm.corpus.builtin import PREFIX
from charlm.corpus.source import Skipped, open_corpus
from charlm.corpus.splits import Split, split
from charlm.errors import DataError

HASHED = ("training", "held_out")  # the parts by which a text is known again


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
            "sha256": {name: parts[name].sha256 for name in HASHED},
        }


def reopen(described: Any, way_out: str = "name another text with --text") -> Split:
    """The split that `Origin.describe` described, read again.

    Raises DataError, with the `way_out`, if it is gone or is another text now, or if nothing is described.
    """
    try:
        sources = tuple(map(str, described["sources"]))
        expected = {name: described["sha256"][name] for name in HASHED}
        origin = Origin(sources, described["encoding"], described["held_out_file"])
        _check_names(sources, origin.encoding, origin.held_out)
    except (KeyError, TypeError, ValueError):
        raise DataError(f"this run does not say which text it was made from; {way_out}") from None
    if "-" in sources:
        raise DataError(f"this run's corpus came from standard input and cannot be read again; {way_out}")
    opened = origin.open()
    if {name: getattr(opened, name).sha256 for name in HASHED} != expected:
        raise DataError(
            f"{', '.join(sources)}: not the text that this run was made from (it has changed since)\n"
            f"restore it, or {way_out}"
        )
    return opened


def relocated(described: Any, sources: Sequence[str]) -> dict[str, Any]:
    """The description of a corpus that now lies elsewhere; `reopen` finds out whether it is the same."""
    return {**(described if isinstance(described, Mapping) else {}), "sources": [_lasting(name) for name in sources]}


def _check_names(sources: tuple[str, ...], encoding: Any, held_out: Any) -> None:
    """Raises ValueError for what is no name of a text, or names something that never ends."""
    names = [*sources, *([] if held_out is None else [held_out])]
    special = [name for name in names if Path(name).exists() and not (Path(name).is_file() or Path(name).is_dir())]
    if special or not sources or not isinstance(encoding, str):
        raise ValueError


def _lasting(source: str) -> str:
    """The source in a form that means the same from another working directory."""
    named = source == "-" or source.startswith(PREFIX) or not Path(source).exists()
    return source if named else str(Path(source).resolve())
