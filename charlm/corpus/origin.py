"""Where a run's text came from, so that it can be opened again and is known to be the same."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from charlm.corpus.encodings import ERRORS, Decoding
from charlm.corpus.line_ends import line_ends
from charlm.corpus.listing import STANDARD_INPUT, Gone, find, find_again, is_special
from charlm.corpus.log import Entry, Listed, ReadingLog
from charlm.corpus.source import check_standard_input, read, readable
from charlm.corpus.splits import Split, TrainingPart, split, training_part
from charlm.corpus.text import Text
from charlm.errors import DataError

FILES_KEY = "files"  # under which name a description keeps the files of each source
MOVED_SETTINGS = ("`corpus=PATH`", "`held_out=FILE`")  # how to name another place
HASHED_PARTS = ("training", "held_out")  # the parts by which a text is known again


@dataclass(frozen=True)
class Origin:
    """What the user named: the sources of a corpus, how their bytes become text, and the held-out file if there is one.

    `listed` and `held_out_listed` are the files that they had when a run was made from them: only these are read then.
    """

    sources: tuple[str, ...]
    encoding: str = "utf-8"
    held_out: str | None = None
    errors: str = "strict"
    listed: tuple[Listed, ...] | None = None
    held_out_listed: Listed = None

    def open(self, log: ReadingLog | None = None) -> Split:
        """Read the corpus and split it; `log` notes what there is to know.

        Raises UsageError and DataError as `open_corpus` and `split` do.
        """
        log = log or ReadingLog()
        check_standard_input([*self.sources, self.held_out])
        held_out = None if self.held_out is None else self.open_held_out(log)
        return split(self.open_corpus(log), held_out)

    def open_corpus(self, log: ReadingLog) -> Text:
        """The corpus as one text. Raises Gone for what is listed and not there any more."""
        decoding = Decoding(self.encoding, self.errors)
        with readable(*self.sources):
            if self.listed is None:
                sources = [find(source, decoding, log) for source in self.sources]
            else:
                pairs = zip(self.sources, self.listed, strict=True)
                sources = [find_again(source, files, decoding, log) for source, files in pairs]
        log.listed = [source.files for source in sources]
        return read(sources, decoding, log)

    def open_held_out(self, log: ReadingLog) -> Text:
        """The held-out text. Raises Gone where it is listed and not there any more."""
        named, decoding = self.held_out or "", Decoding(self.encoding, self.errors)
        with readable(named):
            fresh = self.listed is None
            source = find(named, decoding, log) if fresh else find_again(named, self.held_out_listed, decoding, log)
        log.held_out = source.files
        return read([source], decoding, log)

    def changed(self) -> list[str]:
        """The files that no longer have the size that they had when they were listed."""
        pairs = [*zip(self.sources, self.listed or (), strict=False), (self.held_out or "", self.held_out_listed)]
        paths = ((Path(source) / entry.name, entry.bytes) for source, listed in pairs for entry in listed or ())
        return [str(path) for path, size in paths if path.is_file() and path.stat().st_size != size]

    def describe(self, opened: Split, log: ReadingLog | None = None) -> dict[str, Any]:
        """A JSON object for the checkpoint: the origin, sizes, hashes and line ends of its text, the files in `log`."""
        held_out = None if self.held_out is None else _lasting(self.held_out)
        parts = {name: getattr(opened, name) for name in ("training", "train", "validation", "held_out")}
        files = [_worth_keeping(listed) for listed in (*log.listed, log.held_out)] if log else []
        return {
            "name": opened.training.name,
            "sources": [_lasting(source) for source in self.sources],
            "encoding": self.encoding,
            "errors": self.errors,
            "held_out_file": held_out,
            "characters": {name: part.characters for name, part in parts.items()},
            "sha256": {name: parts[name].sha256 for name in HASHED_PARTS},
            "line_ends": line_ends(opened.training),
            **(
                {FILES_KEY: {"sources": files[:-1], "held_out": files[-1]}} if any(f is not None for f in files) else {}
            ),
        }


class Reopened:
    """The texts that `Origin.describe` described; each is read again when it is asked for, and only then.

    Asking raises DataError, with a way out, for a text that is gone, has changed, or came from standard input.
    """

    def __init__(
        self,
        origin: Origin,
        expected: Mapping[str, str],
        way_out: str,
        *,
        given: bool = False,
        moved: tuple[str, str] | None = None,
        log: ReadingLog | None = None,
    ) -> None:
        """`expected` has the SHA-256 of each of the `HASHED_PARTS`; `given`: the sources have just been named anew."""
        self._origin, self._expected, self._way_out, self._given = origin, expected, way_out, given
        self._moved, self._log = moved, log or ReadingLog()

    @cached_property
    def split(self) -> Split:
        """All of it."""
        if self._origin.held_out is not None:
            return Split(**vars(self.learned), held_out=self.held_out)
        self._check_kept("corpus", self._origin.sources)
        with self._there(held_out=False):
            opened = self._origin.open(self._log)
        self._check_same(self._origin.sources, training=opened.training, held_out=opened.held_out)
        return opened

    @cached_property
    def learned(self) -> TrainingPart:
        """What the run learned from, whether or not the held-out text can be read."""
        if self._origin.held_out is None:
            return self.split
        self._check_kept("corpus", self._origin.sources)
        with self._there(held_out=False):
            part = training_part(self._origin.open_corpus(self._log))
        self._check_same(self._origin.sources, training=part.training)
        return part

    @cached_property
    def held_out(self) -> Text:
        """What the run held out, whether or not a text of its own was learned from that can be read."""
        if self._origin.held_out is None:
            return self.split.held_out
        self._check_kept("held-out text", [self._origin.held_out])
        with self._there(held_out=True):
            text = self._origin.open_held_out(self._log)
        self._check_same([self._origin.held_out], held_out=text)
        return text

    def _check_kept(self, what: str, sources: Sequence[str]) -> None:
        if STANDARD_INPUT in sources and not self._given:
            raise DataError(f"this run's {what} came from standard input and cannot be read again; {self._way_out}")

    @contextmanager
    def _there(self, *, held_out: bool) -> Iterator[None]:
        """While a text is opened: say of one that is gone how to name its new place."""
        try:
            yield
        except Gone as problem:
            place, other = (self._moved or MOVED_SETTINGS)[held_out], "" if self._moved else f"; or {self._way_out}"
            raise DataError(
                f"{problem}, and this run was made from it\nif it has moved, say where it is now: {place}{other}"
            ) from None

    def _check_same(self, sources: Sequence[str], **texts: Text) -> None:
        if any(text.sha256 != self._expected[name] for name, text in texts.items()):
            which = self._origin.changed()
            since = f"{', '.join(which[:3])} {'have' if len(which) > 1 else 'has'}" if which else "it has"
            raise DataError(
                f"{', '.join(sources)}: not the text that this run was made from ({since} changed since)\n"
                f"restore it, or {self._way_out}"
            )


def reopen(
    described: Any,
    way_out: str = "name another text with `text=FILE`",
    *,
    given: bool = False,
    moved: tuple[str, str] | None = None,
    log: ReadingLog | None = None,
) -> Reopened:
    """The texts that `Origin.describe` described: of a folder the files that it had then.

    With `given`, standard input is among them just now; `moved` says how to name the new place of the corpus and of
    the held-out text, by default `MOVED_SETTINGS`; `log` notes what there is to know, such as files of a folder that
    are new. Raises DataError, with the `way_out`, if nothing is described.
    """
    try:
        origin = _origin(described)
        expected = {name: described["sha256"][name] for name in HASHED_PARTS}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DataError(f"this run does not say which text it was made from; {way_out}") from None
    return Reopened(origin, expected, way_out, given=given, moved=moved, log=log)


def relocated(described: Any, sources: Sequence[str], held_out: str | None = None) -> dict[str, Any]:
    """The description of a text that now lies elsewhere, all or in part; `reopen` finds out whether it is the same."""
    known = dict(described) if isinstance(described, Mapping) else {}
    if sources:
        before = known.get("sources")
        if isinstance(before, Sequence) and len(before) != len(sources):
            known.pop(FILES_KEY, None)
        known["sources"] = [_lasting(name) for name in sources]
    return known if held_out is None else {**known, "held_out_file": _lasting(held_out)}


def _origin(described: Any) -> Origin:
    """What a run says of its text. Raises ValueError and others for what is no description of one.

    Nor may it name a thing that never ends, or lead out of a folder by the names of its files.
    """
    sources, held_out = tuple(map(str, described["sources"])), described["held_out_file"]
    names = [*sources, *([] if held_out is None else [held_out])]
    special = [name for name in names if Path(name).exists() and not (Path(name).is_file() or Path(name).is_dir())]
    if special or not sources or not isinstance(described["encoding"], str):
        raise ValueError
    files = described.get(FILES_KEY) or {"sources": [None] * len(sources), "held_out": None}
    listed = tuple(map(_entries, files["sources"]))
    if len(listed) != len(sources):
        raise ValueError
    if (errors := described.get("errors", "strict")) not in ERRORS:
        raise ValueError
    return Origin(sources, described["encoding"], held_out, errors, listed, _entries(files["held_out"]))


def _entries(listed: Any) -> Listed:
    """The files of a source from their JSON. Raises ValueError or TypeError for what is none."""
    if listed is None:
        return None
    entries = tuple(Entry(*entry) for entry in listed)
    for name, size, encoding in entries:
        outside = name.startswith(("/", "\\")) or ":" in name[1:2] or ".." in name.split("/")
        if outside or not isinstance(size, int) or not isinstance(encoding, str | None):
            raise ValueError
    return entries


def _worth_keeping(listed: Listed) -> Listed:
    """The files of a source, where they say more than its name does."""
    return None if listed and listed[0].name == "." and listed[0].encoding is None else listed


def _lasting(source: str) -> str:
    """The source in a form that means the same from another working directory."""
    named = is_special(source) or not Path(source).exists()
    return source if named else str(Path(source).resolve())
