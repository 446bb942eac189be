"""From what the user names to the files that are read: which they are, and which are left out and why."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from charlm.corpus.builtin import BUILTINS, PREFIX
from charlm.corpus.classics import CLASSICS, downloaded, left_by_download
from charlm.corpus.decoder import looks_binary
from charlm.corpus.encodings import AUTO, SAMPLE_BYTES, Decoding, find_encoding, first_words, guess_encoding, opening
from charlm.corpus.folders import CACHE_FILE, cache_folder
from charlm.corpus.log import Entry, Listed, ReadingLog
from charlm.errors import DataError
from charlm.own_files import FIRST_BYTES, RUN_FOLDER, own_folder, written_by_charlm

BINARY, CACHE, DOWNLOAD = "binary", "a cache of charlm's", "of a download that charlm makes"
WRITTEN_BY_CHARLM = frozenset({RUN_FOLDER, *FIRST_BYTES, CACHE, DOWNLOAD})  # why a file is left out that charlm wrote

STANDARD_INPUT = "-"
"""What stands for standard input among sources; a file of this name is `./-`, or a Path."""

_SNIFFED_BYTES = 8192  # bytes by which a file of a folder is known


class Gone(DataError):  # noqa: N818 - a state of affairs
    """A text is no longer where it was; the message says which."""


@dataclass(frozen=True)
class Source:
    """What the user named, and where the files of it lie; without files it is standard input or built in."""

    named: str
    base: Path | None = None
    files: Listed = None


def is_special(source: str) -> bool:
    """Whether this names no file: standard input, or a text that every Python brings."""
    return source == STANDARD_INPUT or source.startswith(PREFIX)


def find(source: str, decoding: Decoding, log: ReadingLog) -> Source:
    """The files of a source. What charlm has written is left out, whoever names it; see `charlm.own_files`.

    Raises DataError for one that is missing, a folder without text, or a file in no encoding where `AUTO` asks for one.
    """
    if is_special(source):
        return Source(source)
    path = locate(source)
    if path.is_dir():
        files = tuple(_texts(path, decoding, log))
        if not files:
            _check_all_own(path, log)
        return Source(source, path, files)
    if not path.is_file():  # a pipe, whose content comes once
        return Source(source, path, (Entry(".", 0),))
    if own := _own(path):
        log.leave_out(path, own)
        return Source(source, path, ())
    encoding = encoding_of(path, str(path), log) if decoding.encoding == AUTO else None
    return Source(source, path, (Entry(".", path.stat().st_size, encoding),))


def find_again(source: str, listed: Listed, decoding: Decoding, log: ReadingLog) -> Source:
    """The same files as when they were `listed`, or all where they were not; what is new in a folder is noted in `log`.

    Raises Gone that names what is not there any more.
    """
    if listed is None or is_special(source):
        _check_there(source)
        return find(source, decoding, log)
    if not listed:
        return Source(source, Path(source), ())
    _check_there(source)
    path = locate(source)
    if path.is_dir() == (listed[0].name == "."):  # it has moved, and is another kind of thing there
        return find(source, decoding, log)
    if gone := [str(path / entry.name) for entry in listed if entry.name != "." and not (path / entry.name).is_file()]:
        raise Gone(f"{gone[0]}{f' and {len(gone) - 1} more' if len(gone) > 1 else ''}: no longer there")
    if path.is_dir():
        known = {entry.name for entry in listed}
        new = (str(path / entry.name) for entry in _texts(path, decoding, ReadingLog(), known))
        log.new += [name for name in new if name not in log.new]
    return Source(source, path, listed)


def _check_there(source: str) -> None:
    """Raises Gone for a file or folder that is not there; a corpus that has a name says itself how it comes back."""
    if not (is_special(source) or source in CLASSICS or os.path.exists(source)):  # noqa: PTH110 - see `locate`
        raise Gone(f"{source}: no longer there")


def locate(source: str) -> Path:
    """The file or folder meant: the path itself, or where `charlm data get` has put the corpus of that name."""
    if source and os.path.exists(source):  # noqa: PTH110 - Path.exists raises for a name that is too long
        return Path(source)
    if source in CLASSICS:
        corpus = downloaded(source)
        if corpus is None:
            raise DataError(f"{source}: not here yet; `charlm data get {source}` downloads it")
        return corpus
    if source in BUILTINS:
        raise DataError(f"{source}: no such file; the built-in corpus of that name is {PREFIX}{source}")
    if (stem := source.removesuffix(".txt")) in CLASSICS:
        raise DataError(f"{source}: no such file; the corpus to download is named {stem}, without .txt")
    name = source[:200] or repr(source)
    raise DataError(f"{name}: no such file or folder; `charlm data list` shows corpora that need none")


def _texts(folder: Path, decoding: Decoding, log: ReadingLog, known: Collection[str] = ()) -> Iterator[Entry]:
    """The text files below a folder but those `known`: not hidden, not empty, not binary, and not charlm's own."""
    for path in _visible_files(folder, log):
        name = path.relative_to(folder).as_posix()
        if name in known:
            continue
        with path.open("rb") as stream:
            head = stream.read(_SNIFFED_BYTES)
        guessed, why = None, "empty" if not head else _own(path)
        if why is None and decoding.encoding == AUTO:
            guessed = find_encoding(opening(path))
            why = None if guessed else BINARY
        elif why is None and looks_binary(head, decoding):
            other = guess_encoding(head)
            why = f"{other}, not {decoding.encoding}; `encoding='auto'` reads it" if other else BINARY
        if why is None:
            if guessed:
                _note_guess(path, str(path), guessed, log)
            yield Entry(name, path.stat().st_size, guessed)
        else:
            log.leave_out(path, why)


def _visible_files(folder: Path, log: ReadingLog) -> list[Path]:
    """The files below a folder in the order of their paths, none hidden, and none in runs, exports or caches."""
    files, cache = [], cache_folder().resolve()
    for parent, folders, names in os.walk(folder, onerror=lambda problem: _unreadable(problem, log)):
        own = own_folder(Path(parent), names) or (CACHE if Path(parent).resolve() == cache else None)
        if own is not None:
            log.leave_out(Path(parent), own)
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted((path for path in files if path.is_file()), key=lambda path: path.relative_to(folder).parts)


def _check_all_own(folder: Path, log: ReadingLog) -> None:
    """Raises DataError for a folder without text, unless charlm wrote all that is in it."""
    below = [(why, path) for why, paths in log.left_out.items() for path in paths if Path(path).is_relative_to(folder)]
    own = sum(why in WRITTEN_BY_CHARLM for why, _ in below)
    if not own or own < len(below):
        more = f", and {own} that charlm wrote" if own else ""
        raise DataError(f"{folder}: no text in this folder ({len(below) - own} binary or empty files left out{more})")


def _unreadable(problem: OSError, log: ReadingLog) -> None:
    log.leave_out(Path(str(problem.filename)), f"cannot be read: {problem.strerror}")


def _own(path: Path) -> str | None:
    """What this file is if charlm wrote it, or keeps it beside a corpus that it downloads."""
    if CACHE_FILE.fullmatch(path.name):
        return CACHE
    return written_by_charlm(path) or (DOWNLOAD if left_by_download(path) else None)


def encoding_of(path: Path, where: str, log: ReadingLog) -> str:
    """The encoding of a file, called `where`, that has to be found out. Raises DataError for what is no text."""
    encoding = find_encoding(opening(path))
    if encoding is None:
        raise DataError(f"{where}: binary data, not text (it fits no encoding); compressed? unpack it first")
    _note_guess(path, where, encoding, log)
    return encoding


def _note_guess(path: Path, where: str, encoding: str, log: ReadingLog) -> None:
    if encoding != "utf-8":
        with path.open("rb") as file:
            log.guess(where, encoding, first_words(file.read(SAMPLE_BYTES), encoding))
