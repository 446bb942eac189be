"""From what the user names (files, folders, `-`, `builtin:…`, a downloaded corpus) to one `Text`."""

import codecs
import errno
import mmap
import os
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from charlm.corpus.builtin import PREFIX, builtin_pieces
from charlm.corpus.decoder import decoded
from charlm.corpus.encodings import AUTO, Decoding, is_utf8, opening
from charlm.corpus.listing import STANDARD_INPUT, Source, encoding_of, find
from charlm.corpus.log import ReadingLog
from charlm.corpus.text import Text
from charlm.errors import DataError, UsageError

MAX_BYTES_IN_MEMORY = 64 << 20  # bytes; a larger text stays on disk

Skipped = Callable[[Path, str], None]


def open_corpus(
    sources: str | Path | Sequence[str | Path],
    encoding: str = "utf-8",
    skipped: Skipped | None = None,
    *,
    errors: str = "strict",
    log: ReadingLog | None = None,
) -> Text:
    """One source, or several one after the other, unchanged but for byte order marks, as one text.

    A source is a file; a folder, whose text files are read in the order of their paths, hidden ones left out; `-`,
    standard input; `builtin:NAME`; or the name of a corpus that `charlm data get` has fetched. What charlm itself has
    written is never part of a corpus. `encoding` may be `auto`, found out for each file; `errors` is one of `ERRORS`.
    `skipped` is told which files were left out and why, `log` notes all that is to be known. Up to 64 MiB are held in
    memory; a larger text is mapped from the file itself, or from a temporary one where it had to be decoded or joined.

    Raises UsageError for an unknown encoding or a second `-`, DataError for whatever is missing, empty, or not text in
    that encoding.
    """
    decoding, log = Decoding(encoding, errors), log or ReadingLog()
    if skipped:
        log.skipped = skipped
    named = [_spelled(source) for source in ([sources] if isinstance(sources, (str, Path)) else sources)]
    check_standard_input(named)
    if not named:
        raise UsageError("no corpus given; name a file, a folder, - or one that `charlm data list` shows")
    with readable(*named):
        located = [find(source, decoding, log) for source in named]
    return read(located, decoding, log)


def check_standard_input(names: Sequence[str | None]) -> None:
    """Raises UsageError if standard input is named twice: it is read once, and then nothing is left."""
    if list(names).count(STANDARD_INPUT) > 1:
        raise UsageError("standard input can be read once only: give - for one text, and the names of files for others")


def _spelled(source: str | Path) -> str:
    """A source as a str, by which a Path never stands for standard input."""
    path = str(source)
    return f"./{path}" if isinstance(source, Path) and path == STANDARD_INPUT else path


def read(sources: Sequence[Source], decoding: Decoding, log: ReadingLog) -> Text:
    """The text of sources whose files are known. Raises DataError as `open_corpus` does."""
    nonempty = [source for source in sources if source.files != ()] or sources
    name = _name([source.named for source in nonempty])
    text = _mapped(sources, name, decoding, log) or _gathered(name, _blocks(sources, decoding, log))
    if not text.characters:
        names = ", ".join(source.named for source in sources)
        if all(source.files == () for source in sources):
            raise DataError(f"{names}: only what charlm wrote ({', '.join(log.left_out)}), which is never a corpus")
        raise DataError(f"{names}: empty; a corpus needs text")
    return text


def _name(sources: Sequence[str]) -> str:
    """What runs and tables call a corpus: the first source's plain name, and how many follow."""
    first = sources[0]
    plain = "stdin" if first == STANDARD_INPUT else first.removeprefix(PREFIX)
    if first == plain:
        path = Path(first).resolve()
        plain = path.name if os.path.isdir(path) else path.stem  # noqa: PTH112 - Path.is_dir raises for a long name
    return plain if len(sources) == 1 else f"{plain}-and-{len(sources) - 1}-more"


def _mapped(sources: Sequence[Source], name: str, decoding: Decoding, log: ReadingLog) -> Text | None:
    """The text mapped from its own file, where it is one large file of UTF-8."""
    if len(sources) > 1 or sources[0].base is None or not sources[0].base.is_file() or not sources[0].files:
        return None
    path, (entry,) = sources[0].base, sources[0].files
    if not is_utf8(entry.encoding or decoding.encoding) or path.stat().st_size <= MAX_BYTES_IN_MEMORY:
        return None
    deque(_blocks(sources, decoding, log), maxlen=0)  # reads it all: every byte is checked
    if log.wrong_bytes.pop(str(path), 0):
        return None  # the file is not the text
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return Text.from_utf8(memoryview(data)[3 if data[:3] == codecs.BOM_UTF8 else 0 :], name)


def _gathered(name: str, blocks: Iterator[str]) -> Text:
    """The blocks as one text: in memory, or in a temporary file that vanishes with the process."""
    with tempfile.SpooledTemporaryFile(max_size=MAX_BYTES_IN_MEMORY) as spool:
        try:
            for block in blocks:
                spool.write(block.encode())
            if spool.tell() <= MAX_BYTES_IN_MEMORY:
                spool.seek(0)
                return Text.from_utf8(spool.read(), name)
            spool.flush()
            return Text.from_utf8(mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ), name)
        except UnicodeEncodeError:
            raise DataError(f"{name}: this encoding gave half a surrogate pair, which is not text") from None
        except OSError as problem:
            raise _no_room(name, problem) from None


def _no_room(name: str, problem: OSError) -> DataError:
    advice = "; TMPDIR=FOLDER chooses another place" if problem.errno == errno.ENOSPC else ""
    return DataError(f"{tempfile.gettempdir()}: no copy of {name} there: {problem.strerror}{advice}")


@contextmanager
def readable(*names: str) -> Iterator[None]:
    """While files are read: an OSError becomes a DataError that names the file."""
    try:
        yield
    except OSError as problem:
        raise DataError(f"{problem.filename or ', '.join(names)}: cannot be read: {problem.strerror}") from None


def _blocks(sources: Sequence[Source], decoding: Decoding, log: ReadingLog) -> Iterator[str]:
    """The sources' texts, one after the other, in blocks."""
    for source in sources:
        with readable(source.named):
            if source.named == STANDARD_INPUT:
                yield from _once(sys.stdin.buffer, "standard input", decoding, log)
            elif source.base is None:
                yield from builtin_pieces(source.named)
            elif not source.base.is_file() and not source.base.is_dir():
                with source.base.open("rb") as pipe:
                    yield from _once(pipe, source.named, decoding, log)
            else:
                for entry in source.files or ():
                    path = source.base / entry.name
                    used = replace(decoding, encoding=entry.encoding or decoding.encoding)
                    with path.open("rb") as file:
                        yield from decoded(file, str(path), used, log.count_wrong(path, decoding.errors), opening(path))


def _once(stream: BinaryIO, where: str, decoding: Decoding, log: ReadingLog) -> Iterator[str]:
    """The text of what can be read only once; to find out its encoding, it is copied first."""
    if decoding.encoding != AUTO:
        yield from decoded(stream, where, decoding, log.count_wrong(where, decoding.errors))
        return
    with tempfile.TemporaryDirectory(prefix="charlm-") as folder:
        copy = Path(folder) / "text"
        try:
            with copy.open("wb") as file:
                shutil.copyfileobj(stream, file)
        except OSError as problem:
            raise _no_room(where, problem) from None
        guessed = encoding_of(copy, where, log)
        with copy.open("rb") as file:
            yield from decoded(
                file, where, replace(decoding, encoding=guessed), log.count_wrong(where, decoding.errors), opening(copy)
            )
