"""Where a run's text came from, so that it can be opened again and is known to be the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from charlm.corpus.builtin import PREFIX
from charlm.corpus.line_ends import line_ends
from charlm.corpus.source import STANDARD_INPUT, Skipped, check_standard_input, open_corpus
from charlm.corpus.splits import Split, TrainingPart, split, training_part
from charlm.corpus.text import Text
from charlm.errors import DataError

HASHED = ("training", "held_out")  # the parts by which a text is known again


@dataclass(frozen=True)
class Origin:
    """What the user named: the sources of a corpus, their encoding, and the held-out file if there is one."""

    sources: tuple[str, ...]
    encoding: str = "utf-8"
    held_out: str | None = None

    def open(self, skipped: Skipped | None = None) -> Split:
        """Read the corpus and split it. Raises UsageError and DataError as `open_corpus` and `split` do."""
        check_standard_input([*self.sources, self.held_out])
        held_out = None if self.held_out is None else open_corpus([self.held_out], self.encoding)
        return split(open_corpus(self.sources, self.encoding, skipped), held_out)

    def describe(self, opened: Split) -> dict[str, Any]:
        """A JSON object for the checkpoint: the origin, and sizes, hashes and line ends of what it held."""
        held_out = None if self.held_out is None else _lasting(self.held_out)
        parts = {name: getattr(opened, name) for name in ("training", "train", "validation", "held_out")}
        return {
            "name": opened.training.name,
            "sources": [_lasting(source) for source in self.sources],
            "encoding": self.encoding,
            "held_out_file": held_out,
            "characters": {name: part.characters for name, part in parts.items()},
            "sha256": {name: parts[name].sha256 for name in HASHED},
            "line_ends": line_ends(opened.training),
        }


class Reopened:
    """The texts that `Origin.describe` described; each is read again when it is asked for, and only then.

    Asking raises DataError, with a way out, for a text that is gone, has changed, or came from standard input.
    """

    def __init__(self, origin: Origin, expected: Mapping[str, str], way_out: str, *, given: bool = False) -> None:
        """`expected` has the SHA-256 of each of the `HASHED`; `given`: the sources have just been named anew."""
        self._origin, self._expected, self._way_out, self._given = origin, expected, way_out, given

    @cached_property
    def split(self) -> Split:
        """All of it."""
        if self._origin.held_out is not None:
            return Split(**vars(self.learned), held_out=self.held_out)
        self._check_kept("corpus", self._origin.sources)
        opened = self._origin.open()
        self._check_same(self._origin.sources, training=opened.training, held_out=opened.held_out)
        return opened

    @cached_property
    def learned(self) -> TrainingPart:
        """What the run learned from, whether or not the held-out text can be read."""
        if self._origin.held_out is None:
            return self.split
        self._check_kept("corpus", self._origin.sources)
        part = training_part(open_corpus(self._origin.sources, self._origin.encoding))
        self._check_same(self._origin.sources, training=part.training)
        return part

    @cached_property
    def held_out(self) -> Text:
        """What the run held out, whether or not a text of its own was learned from that can be read."""
        if self._origin.held_out is None:
            return self.split.held_out
        self._check_kept("held-out text", [self._origin.held_out])
        text = open_corpus([self._origin.held_out], self._origin.encoding)
        self._check_same([self._origin.held_out], held_out=text)
        return text

    def _check_kept(self, what: str, sources: Sequence[str]) -> None:
        if STANDARD_INPUT in sources and not self._given:
            raise DataError(f"this run's {what} came from standard input and cannot be read again; {self._way_out}")

    def _check_same(self, sources: Sequence[str], **texts: Text) -> None:
        if any(text.sha256 != self._expected[name] for name, text in texts.items()):
            raise DataError(
                f"{', '.join(sources)}: not the text that this run was made from (it has changed since)\n"
                f"restore it, or {self._way_out}"
            )


def reopen(described: Any, way_out: str = "name another text with --text", *, given: bool = False) -> Reopened:
    """The texts that `Origin.describe` described. With `given`, standard input is among them just now.

    Raises DataError, with the `way_out`, if nothing is described.
    """
    try:
        sources = tuple(map(str, described["sources"]))
        expected = {name: described["sha256"][name] for name in HASHED}
        origin = Origin(sources, described["encoding"], described["held_out_file"])
        _check_names(sources, origin.encoding, origin.held_out)
    except (KeyError, TypeError, ValueError):
        raise DataError(f"this run does not say which text it was made from; {way_out}") from None
    return Reopened(origin, expected, way_out, given=given)


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
    named = source == STANDARD_INPUT or source.startswith(PREFIX) or not Path(source).exists()
    return source if named else str(Path(source).resolve())
