"""From what the user names (files, folders, `-`, `builtin:…`, a downloaded corpus) to one `Text`."""

import codecs
import errno
import mmap
import os
import re
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from charlm.corpus.builtin import BUILTINS, PREFIX, builtin_pieces
from charlm.corpus.classics import CLASSICS, downloaded
from charlm.corpus.text import Text
from charlm.errors import DataError, UsageError

STANDARD_INPUT = "-"
"""What stands for standard input among sources; a file of this name is `./-`, or a Path."""

IN_MEMORY = 64 << 20  # bytes; a larger text stays on disk
_BLOCK = 1 << 20  # bytes read at a time
_CONTROL = re.compile("[\0-\x08\x0e-\x19\x1c-\x1f]")  # what most texts do without in their first `_HEAD` bytes
_HEAD = 8192
_MOST_NULS = 0.25  # of the characters at the beginning; UTF-16 read as UTF-8 has a half
_FILLING = "\0" * 64  # what no text holds: the padding of an archive, or what a crash leaves of a file

Skipped = Callable[[Path, str], None]


def open_corpus(
    sources: str | Path | Sequence[str | Path], encoding: str = "utf-8", skipped: Skipped | None = None
) -> Text:
    """One source, or several one after the other, unchanged but for byte order marks, as one text.

    A source is a file; a folder, whose text files are read in the order of their paths, hidden ones left out; `-`,
    standard input; `builtin:NAME`; or the name of a corpus that `charlm data get` has fetched. `skipped` is told
    which files of a folder were left out and why. Up to 64 MiB are held in memory; a larger text is mapped from the
    file itself, or from a temporary one where it had to be decoded or joined.

    Raises UsageError for an unknown encoding or a second `-`, DataError for whatever is missing, empty, or not text in
    that encoding.
    """
    _check_encoding(encoding)
    sources = [sources] if isinstance(sources, (str, Path)) else sources
    check_standard_input(sources)
    if not sources:
        raise UsageError("no corpus given; name a file, a folder, - or one that `charlm data list` shows")
    name = _name(sources)
    blocks = (block for source in sources for block in _blocks(source, encoding, skipped))
    text = _mapped(sources, name, encoding, blocks) or _gathered(name, blocks)
    if not text.characters:
        raise DataError(f"{', '.join(map(str, sources))}: empty; a corpus needs text")
    return text


def check_standard_input(names: Sequence[str | Path | None]) -> None:
    """Raises UsageError if standard input is named twice: it is read once, and then nothing is left."""
    if list(names).count(STANDARD_INPUT) > 1:
        raise UsageError("standard input can be read once only: give - for one text, and the names of files for others")


def _check_encoding(encoding: str) -> None:
    try:
        codecs.getincrementaldecoder(encoding)
        "a".encode(encoding).decode(encoding, "replace")
    except (LookupError, ValueError):
        raise UsageError(
            f"--encoding {encoding!r} is unknown; try utf-8, utf-16, latin-1, cp1252, shift_jis or gb18030"
        ) from None


def _name(sources: Sequence[str | Path]) -> str:
    """What runs and tables call a corpus: the first source's plain name, and how many follow."""
    first = str(sources[0])
    plain = "stdin" if first == STANDARD_INPUT else first.removeprefix(PREFIX)
    if first == plain:
        path = Path(first).resolve()
        plain = path.name if os.path.isdir(path) else path.stem  # noqa: PTH112 - see _locate
    return plain if len(sources) == 1 else f"{plain}-and-{len(sources) - 1}-more"


def _mapped(sources: Sequence[str | Path], name: str, encoding: str, blocks: Iterator[str]) -> Text | None:
    """The text mapped from its own file, where it is one large file of UTF-8."""
    if len(sources) > 1 or codecs.lookup(encoding).name != "utf-8" or _is_special(sources[0]):
        return None
    path = _locate(sources[0])
    if not path.is_file() or path.stat().st_size <= IN_MEMORY:
        return None
    deque(blocks, maxlen=0)  # reads it all: every byte is checked
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return Text.from_utf8(memoryview(data)[3 if data[:3] == codecs.BOM_UTF8 else 0 :], name)


def _gathered(name: str, blocks: Iterator[str]) -> Text:
    """The blocks as one text: in memory, or in a temporary file that vanishes with the process."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as spool:
        try:
            for block in blocks:
                spool.write(block.encode())
            if spool.tell() <= IN_MEMORY:
                spool.seek(0)
                return Text.from_utf8(spool.read(), name)
            spool.flush()
            return Text.from_utf8(mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ), name)
        except UnicodeEncodeError:
            raise DataError(f"{name}: this encoding gave half a surrogate pair, which is not text") from None
        except OSError as problem:
            advice = "; TMPDIR=FOLDER chooses another place" if problem.errno == errno.ENOSPC else ""
            raise DataError(f"{tempfile.gettempdir()}: no copy of {name} there: {problem.strerror}{advice}") from None


def _is_special(source: str | Path) -> bool:
    return source == STANDARD_INPUT or str(source).startswith(PREFIX)


def _blocks(source: str | Path, encoding: str, skipped: Skipped | None) -> Iterator[str]:
    try:
        if source == STANDARD_INPUT:
            yield from _decoded(sys.stdin.buffer, "standard input", encoding)
        elif _is_special(source):
            yield from builtin_pieces(str(source))
        else:
            path = _locate(source)
            for file in _text_files(path, encoding, skipped) if path.is_dir() else [path]:
                with file.open("rb") as stream:
                    yield from _decoded(stream, str(file), encoding)
    except OSError as problem:
        raise DataError(f"{problem.filename or source}: cannot be read: {problem.strerror}") from None


def _locate(source: str | Path) -> Path:
    """The file or folder meant: the path itself, or where `charlm data get` has put the corpus of that name."""
    path, name = Path(source), str(source)
    if name and os.path.exists(path):  # noqa: PTH110 - Path.exists raises for a name that is too long
        return path
    if name in CLASSICS:
        found = downloaded(name)
        if found is None:
            raise DataError(f"{name}: not here yet; `charlm data get {name}` downloads it")
        return found
    if name in BUILTINS:
        raise DataError(f"{name}: no such file; the built-in corpus of that name is {PREFIX}{name}")
    if (stem := name.removesuffix(".txt")) in CLASSICS:
        raise DataError(f"{name}: no such file; the corpus to download is named {stem}, without .txt")
    raise DataError(
        f"{name[:200] or repr(name)}: no such file or folder; `charlm data list` shows corpora that need none"
    )


def _text_files(folder: Path, encoding: str, skipped: Skipped | None) -> Iterator[Path]:
    """The text files below a folder: not hidden, not empty, and not binary where they begin."""
    left_out = found = 0
    for path in _visible_files(folder):
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
        if head and not _looks_binary(head.decode(encoding, "replace")):
            found += 1
            yield path
        else:
            left_out += 1
            if skipped:
                skipped(path, "binary" if head else "empty")
    if not found:
        raise DataError(f"{folder}: no text in this folder ({left_out} binary or empty files left out)")


def _looks_binary(head: str) -> bool:
    """Whether the beginning of a file has control characters, and more that is no text."""
    return bool(_CONTROL.search(head)) and ("\ufffd" in head.rstrip("\ufffd") or _wrong_nul(head, True) is not None)


def _wrong_nul(text: str, beginning: bool) -> int | None:
    """Where the NULs are that say that this is no text; a few here and there are characters like others."""
    if beginning and text.count("\0") > _MOST_NULS * len(text):
        return text.index("\0")
    filling = text.find(_FILLING)
    return None if filling < 0 else filling


def _visible_files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted((path for path in found if path.is_file()), key=lambda path: path.relative_to(folder).parts)


def _decoded(stream: BinaryIO, where: str, encoding: str) -> Iterator[str]:
    """The text of a stream in blocks, without its byte order mark. Raises DataError at the first byte that is none."""
    decoder = codecs.getincrementaldecoder(encoding)()
    offset, line, block, text = 0, 1, b"more", ""
    begun = codecs.lookup(encoding).name in ("utf-8-sig", "utf-16", "utf-32")  # they drop the mark themselves
    while block:
        block, waiting = stream.read(_BLOCK), len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as problem:
            start = offset + len(block) - len(problem.object) + problem.start
            line += problem.object.count(b"\n", 0, problem.start)
            raise _not_text(where, encoding, start, line, problem.object) from None
        except UnicodeError:
            raise DataError(f"{where}: no byte order mark; say --encoding {encoding}-le or {encoding}-be") from None
        if "\0" in text and (wrong := _wrong_nul(text, not offset)) is not None:
            start = offset - waiting + len(text[:wrong].encode(encoding, "replace"))
            place = f"NULs at byte {start}, line {line + text.count(chr(10), 0, wrong)}"
            raise DataError(f"{where}: binary data, not text ({place}); if it is UTF-16, say --encoding utf-16-le")
        yield text if begun else text.removeprefix("\ufeff")
        begun = begun or bool(text)
        offset += len(block)
        line += text.count("\n")


def _not_text(where: str, encoding: str, offset: int, line: int, data: bytes) -> DataError:
    place = f"byte {offset}, line {line}"
    if offset == 0 and data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return DataError(f"{where}: looks like UTF-16; say --encoding utf-16")
    if _CONTROL.search(data[:_HEAD].decode("latin-1")):
        return DataError(f"{where}: binary data, not text ({place} is not {encoding}); compressed? unpack it first")
    return DataError(f"{where}: not {encoding} ({place}); name the real encoding, for example --encoding latin-1")
