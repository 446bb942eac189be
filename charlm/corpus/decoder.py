"""Bytes into text, block by block; and what to say about bytes that are none."""

import codecs
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO

from charlm.corpus.encodings import (
    CONTROL_CHARACTERS,
    SAMPLE_BYTES,
    Decoding,
    Opens,
    find_encoding,
    first_words,
    guess_encoding,
    is_damaged,
    is_text,
    is_utf8,
)
from charlm.errors import DataError

BYTES_PER_READ = 1 << 20  # bytes read at a time
BYTE_ORDER_MARKS = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
}
"""What a text in these encodings begins with; each Python version refuses one without a mark in other words."""

HEAD_CHARACTERS = 8192  # characters at the beginning that tell text from other data
_PADDING = "\0" * 64  # what no text holds: the padding of an archive, or what a crash leaves of a file
_CUT_OFF = re.compile("unexpected end of data|truncated data|incomplete multibyte sequence")
_COUNT_WRONG_BYTES = "charlm.mark"  # the error handler below
_WRONG_BYTES = re.compile("[\ud800-\udfff]")


def _mark_wrong(problem: UnicodeError) -> tuple[str, int]:
    """In place of bytes that cannot be decoded a lone surrogate that says how many they are; no text has these."""
    assert isinstance(problem, UnicodeDecodeError)
    return chr(0xDC00 + problem.end - problem.start), problem.end


codecs.register_error(_COUNT_WRONG_BYTES, _mark_wrong)


def decoded(
    stream: BinaryIO,
    where: str,
    decoding: Decoding,
    wrong: Callable[[int], None],
    again: Opens | None = None,
) -> Iterator[str]:
    """The text of a stream in blocks, without its byte order mark.

    `wrong` is told how many bytes were replaced or skipped, block by block. Raises DataError that names the first byte
    that is no text; what `again` opens, the same stream from its beginning, is looked at for its real encoding.
    """
    encoding, strict, ascii_before = decoding.encoding, decoding.errors == "strict", True
    name = codecs.lookup(encoding).name
    decoder = codecs.getincrementaldecoder(encoding)("strict" if strict else _COUNT_WRONG_BYTES)
    offset, line, block, text = 0, 1, b"more", ""
    begun = name in ("utf-8-sig", *BYTE_ORDER_MARKS)  # they drop the mark themselves
    while block:
        block, waiting = stream.read(BYTES_PER_READ), len(decoder.getstate()[0])
        if (
            not offset
            and (marks := BYTE_ORDER_MARKS.get(name))
            and len(block) >= len(marks[0])
            and not block.startswith(marks)
        ):
            raise _refused(where, encoding, "no byte order mark", block, again)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as problem:
            start = offset + len(block) - len(problem.object) + problem.start
            line += problem.object.count(b"\n", 0, problem.start)
            raise _not_text(where, decoding, start, line, problem, again, ascii_before) from None
        except UnicodeError:
            raise _refused(where, encoding, f"from byte {offset}, line {line}, on", block, again) from None
        if "\0" in text and (nul := no_text_at(text, beginning=not offset)) is not None:
            start = offset - waiting + len(text[:nul].encode(encoding, "replace"))
            place = f"NULs at byte {start}, line {line + text.count(chr(10), 0, nul)}"
            raise _refused(where, encoding, place, block[:SAMPLE_BYTES], again)
        if not strict:
            text = _mended(text, decoding.errors, wrong)
        yield text if begun else text.removeprefix("\ufeff")
        begun, ascii_before = begun or bool(text), ascii_before and text.isascii()
        offset += len(block)
        line += text.count("\n")


def _mended(text: str, errors: str, wrong: Callable[[int], None]) -> str:
    """The text with U+FFFD, or nothing, where `_mark_wrong` or the encoding itself has left a lone surrogate."""
    if text.isascii() or not (marks := _WRONG_BYTES.findall(text)):
        return text
    wrong(sum(1 if ord(mark) < 0xDC00 else max(1, ord(mark) - 0xDC00) for mark in marks))
    return _WRONG_BYTES.sub("\ufffd" if errors == "replace" else "", text)


def no_text_at(text: str, *, beginning: bool) -> int | None:
    """Where the NULs are that say that this is no text; a few here and there are characters like others."""
    if beginning and not is_text(text[:HEAD_CHARACTERS]):
        return text.index("\0")
    filling = text.find(_PADDING)
    return None if filling < 0 else filling


def looks_binary(head: bytes, decoding: Decoding) -> bool:
    """Whether the beginning of a file has control characters, and more that is no text."""
    text = head.decode(decoding.encoding, "replace")
    if not CONTROL_CHARACTERS.search(text):
        return False
    if decoding.errors == "strict" and "\ufffd" in text.rstrip("\ufffd"):
        return True
    return no_text_at(text, beginning=True) is not None or guess_encoding(head) is None


def _not_text(
    where: str,
    decoding: Decoding,
    start: int,
    line: int,
    problem: UnicodeDecodeError,
    again: Opens | None,
    ascii_before: bool,
) -> DataError:
    """The error for bytes that the encoding cannot decode, from the byte `start` of the file on."""
    place = f"byte {start}, line {line}"
    encoding, data = decoding.encoding, problem.object
    if problem.end == len(data) and _CUT_OFF.search(problem.reason):
        doubt = ""
        if ascii_before and len(data) == 1 and is_utf8(encoding):
            doubt = f"; or it is cp1252, {first_words(data, 'cp1252')} being the character"
        return DataError(
            f"{where}: not {encoding} ({place}): cut inside its last character{doubt}\n"
            "get a whole copy, or leave the rest of that character out with `errors='skip'`"
        )
    near = _near(data, problem.start, again, start)
    if is_damaged(near, encoding):
        wrong = _count_wrong(again, decoding) if again else None
        share = f"{wrong:,} of its bytes {'are' if wrong > 1 else 'is'} wrong" if wrong else "some bytes are wrong"
        return DataError(
            f"{where}: not {encoding} ({place}): {share}, the rest is {encoding}\n"
            "get a better copy, or read it with `errors='replace'` (U+FFFD takes their place) or `errors='skip'`"
        )
    return _refused(where, encoding, place, near, again)


def _refused(where: str, encoding: str, place: str, near: bytes, again: Opens | None) -> DataError:
    """The error for a text in another encoding, which is named if it can be told; or for what is no text."""
    guessed = find_encoding(again) if again else guess_encoding(near)
    if guessed is None or codecs.lookup(guessed) == codecs.lookup(encoding):
        if CONTROL_CHARACTERS.search(near[:HEAD_CHARACTERS].decode("latin-1")):
            why = place if place.startswith("NULs") else f"{place} is not {encoding}"
            return DataError(f"{where}: binary data, not text ({why}); compressed? unpack it first")
        return DataError(
            f"{where}: not {encoding} ({place}), nor in an encoding that its bytes tell\n"
            "name it with `encoding`, or read what can be read with `errors='replace'` or `errors='skip'`"
        )
    if again:
        with again() as file:
            head = file.read(SAMPLE_BYTES)
        near = near if head.isascii() and b"\0" not in head else head
    return DataError(
        f"{where}: not {encoding} ({place}); it reads as {guessed}: {first_words(near, guessed)}\n"
        f"say `encoding={guessed!r}`, or `encoding='auto'`, which finds out for each file"
    )


def _near(data: bytes, at: int, again: Opens | None, start: int) -> bytes:
    """What stands around a place: `at` in `data`, or where it can be read, `start` in the file."""
    if again is None:
        return data[max(0, at - SAMPLE_BYTES // 2) & ~3 : at + SAMPLE_BYTES // 2]
    with again() as file:
        file.seek(max(0, start - SAMPLE_BYTES // 2) & ~3)
        return file.read(SAMPLE_BYTES)


def _count_wrong(again: Opens, decoding: Decoding) -> int:
    """How many bytes of a file cannot be decoded."""
    counts: list[int] = []
    with again() as file, suppress(DataError):
        deque(decoded(file, "", replace(decoding, errors="skip"), counts.append), maxlen=0)
    return sum(counts)
