"""What came of reading a corpus: which files were read, what was left out and why; for users to see, runs to keep."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_MAX_NAMED_FILES = 3  # files in one line


class Entry(NamedTuple):
    """A file that was read: its path below what the user named (`.` for that itself), its size, and the encoding
    that `auto` found; None where one was named.
    """

    name: str
    bytes: int
    encoding: str | None = None


Listed = tuple[Entry, ...] | None
"""The files of one source in the order in which they are read; None where there are none: standard input, built in."""


@dataclass
class ReadingLog:
    """Filled while texts are read; `notes` says what there is to say."""

    listed: list[Listed] = field(default_factory=list)  # of the corpus, by source
    held_out: Listed = None  # of the held-out text
    left_out: dict[str, list[str]] = field(default_factory=dict)  # files, by why
    new: list[str] = field(default_factory=list)  # files that were not there when a run was made from the others
    guessed: dict[str, list[str]] = field(default_factory=dict)  # files, by the encoding that was found for them
    wrong_bytes: dict[str, int] = field(default_factory=dict)  # by file: how many could not be decoded
    mended: str = ""  # what became of those
    skipped: Callable[[Path, str], None] = lambda _path, _why: None

    def leave_out(self, path: Path, why: str) -> None:
        """Note a file or folder that is not read."""
        self.left_out.setdefault(why, []).append(str(path))
        self.skipped(path, why)

    def guess(self, path: str, encoding: str, words: str) -> None:
        """Note the encoding that was found for a file, and for the first one of it how it reads."""
        paths = self.guessed.setdefault(encoding, [])
        paths.append(path if paths else f"{path}, {words}")

    def count_wrong(self, where: Path | str, errors: str) -> Callable[[int], None]:
        """What counts the bytes of a file that cannot be decoded, for what becomes of them see `Decoding`."""
        self.mended = "replaced by U+FFFD" if errors == "replace" else "left out"

        def count(wrong: int) -> None:
            self.wrong_bytes[str(where)] = self.wrong_bytes.get(str(where), 0) + wrong

        return count

    def notes(self) -> Iterator[str]:
        """A line for each thing to know, however many files it is about."""
        for why, paths in self.left_out.items():
            yield f"left out {_named(paths)}: {why}"
        if self.new:
            yield f"left out {_named(self.new)}: new since the run was trained; a run keeps to its own files"
        for encoding, paths in self.guessed.items():
            yield f"read as {encoding}: {_named(paths)}"
        if self.wrong_bytes:
            total = sum(self.wrong_bytes.values())
            where = _named(list(self.wrong_bytes))
            yield f"{self.mended}: {total:,} {'bytes' if total > 1 else 'byte'} of {where} that cannot be decoded"


def _named(paths: Sequence[str]) -> str:
    if len(paths) <= _MAX_NAMED_FILES:
        return ", ".join(paths)
    return f"{len(paths):,} files ({', '.join(paths[:_MAX_NAMED_FILES])}, …)"
