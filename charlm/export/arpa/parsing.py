"""The lines of an ARPA file, each checked as it comes: nothing is believed, or given memory, before it is there."""

import codecs
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import IO, NamedTuple

import numpy as np

from charlm.errors import DataError
from charlm.export.arpa.unpacking import DAMAGE
from charlm.models.ngram.smoothing import Numbers
from charlm.models.ngram.windows import Integers
from charlm.progress import Listener

LINES = 1 << 14  # taken at a time
LONGEST_LINE = 1 << 26  # bytes, of the head: a tokenizer may stand in one
LONGEST_HEAD = 1000  # lines before \data\
LONGEST_NGRAM = 16
BLANK = np.isin(np.arange(256), list(b" \t\n\r\v\f"))  # which bytes separate words
MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)  # the first so many bytes of eight
MIX = np.uint64(0x9E37_79B9_7F4A_7C15)  # the golden ratio in 64 bits (Knuth, volume 3, section 6.4)

_SIZE = re.compile(rb"ngram\s+(\d{1,18})\s*=\s*(\d{1,18})")
_NUMBER = re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|-inf(inity)?", re.IGNORECASE)
_COMMA = re.compile(rb"[-+]?\d+,\d+([eE][-+]?\d+)?")


class Section(NamedTuple):
    """The n-grams of one length as they stand in the file, a line each."""

    line: int  # of the first
    grams: Integers  # (M, length): the words' numbers
    probability: Numbers  # (M,) log10, none above 0; -inf: a probability of 0
    backoff: Numbers  # (M,) log10


class Arpa:
    """An ARPA file, read from the top. What is wrong with it is a DataError that names the line."""

    def __init__(self, file: IO[bytes], name: str, tell: Listener) -> None:
        self.file, self.name, self.tell = file, name, tell
        self.line = 0  # the last one read
        self.ngrams = 1  # that there are said to be
        self.head: list[tuple[int, bytes]] = []  # the lines before \data\ that are not blank, with their numbers
        self.words: dict[bytes, int] = {}  # of the 1-grams: each with its number, in the order of the file
        self.notes: list[str] = []  # what whoever imports the file should know of it

    def sections(self) -> Iterator[Section]:
        """The n-grams of each length; `head` is there before the first, `words` with it."""
        try:
            yield from self._sections()
        except DAMAGE as problem:
            raise self.wrong(f"cannot be read further: {problem}", self.line + 1) from None

    def wrong(self, what: str, line: int | None = None) -> DataError:
        """The error that says so: of the line read last, if no other is named."""
        return DataError(f"{self.name}:{max(1, line or self.line)}: {what}")

    def _sections(self) -> Iterator[Section]:
        self._read_head()
        sizes, line = self._sizes()
        self.ngrams = max(1, sum(sizes))
        for length, size in enumerate(sizes, 1):
            if line != b"\\%d-grams:" % length:
                raise self._unexpected(f"\\{length}-grams:", line)
            yield self._section(length, size, longest=length == len(sizes))
            line = self._filled()
        if line != b"\\end\\":
            raise self._unexpected("\\end\\", line)

    def _unexpected(self, wanted: str, found: bytes) -> DataError:
        if not found:
            return self.wrong(f"the file ends where {wanted} should stand: it was cut short; get a whole copy")
        more = "; are there more n-grams than \\data\\ says?" if _NUMBER.fullmatch(found.split()[0]) else ""
        return self.wrong(f"expected {wanted}, found {shown(found)}{more}")

    def _filled(self) -> bytes:
        """The next line that is not blank, stripped; b"" at the end."""
        while line := self.file.readline(LONGEST_LINE):
            self.line += 1
            if self.line == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                return line.strip()
        return b""

    def _read_head(self) -> None:
        while (line := self._filled()) != b"\\data\\":
            if not line or len(self.head) == LONGEST_HEAD:
                raise self.wrong("there is no \\data\\ line before this: not an ARPA file")
            self.head.append((self.line, line))

    def _sizes(self) -> tuple[list[int], bytes]:
        """How many n-grams of each length there are said to be; and the line after that."""
        sizes: list[int] = []
        while (line := self._filled()).startswith(b"ngram") or not sizes:
            match = _SIZE.fullmatch(line)
            if not match or int(match[1]) != len(sizes) + 1:
                raise self._unexpected(f"ngram {len(sizes) + 1}=SIZE", line)
            if len(sizes) == LONGEST_NGRAM:
                raise self.wrong(f"n-grams of length {len(sizes) + 1}: charlm has them up to length {LONGEST_NGRAM}")
            sizes.append(int(match[2]))
        return sizes, line

    def _section(self, length: int, size: int, *, longest: bool) -> Section:
        begin, done = self.line + 1, 0
        form = b"\t" + b" " * (length - 1) + (b"\n" if longest else b"\t\n")
        parts: list[tuple[Integers, Numbers, Numbers]] = []
        while done < size or not parts:
            self.tell(f"reading {length}-grams", min(1.0, self.line / self.ngrams))
            lines = list(islice(self.file, min(LINES, size - done)))
            parts.append(self._columns(lines, form, longest))
            self.line += len(lines)
            done += len(lines)
            if done < size and len(lines) < LINES:
                raise self.wrong(f"the file ends after {done:,} of {size:,} {length}-grams: it was cut short")
        return Section(begin, *(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _columns(self, lines: Sequence[bytes], form: bytes, longest: bool) -> tuple[Integers, Numbers, Numbers]:
        """Of each line the words' numbers, the log-probability and the backoff."""
        length = len(form) - 2 + longest
        block = b"".join(lines)
        spans = _spans(block, form, len(lines))
        if spans is None:
            block = b"".join(self._in_form(lines, length, longest))
            spans = _spans(block, form, len(lines))
            assert spans
        texts = block.replace(b"\n", b"\t").split(b"\t")[:-1]
        each = 2 if longest else 3
        probability = self._decimals(texts[::each])
        if (probability > 0).any():
            row = int(np.argmax(probability > 0))
            raise self.wrong(f"log-probability {probability[row]:g} is above 0: more than certain", self.line + 1 + row)
        backoff = np.zeros(len(lines)) if longest else self._decimals(texts[2::each])
        starts, sizes = (span[:, 1 : length + 1] for span in spans)
        grams = self._new(texts[1::each]) if length == 1 else self._known(block, starts, sizes)
        return grams, probability, backoff

    def _in_form(self, lines: Sequence[bytes], length: int, longest: bool) -> Iterator[bytes]:
        """The lines with tabs, spaces and backoffs where they belong."""
        for number, line in enumerate(lines, self.line + 1):
            own = line.split()
            if not own or own[0].startswith(b"\\"):
                raise self.wrong(f"the {length}-grams end before there are as many as \\data\\ says", number)
            if len(own) == length + 1 and not longest:
                own.append(b"0")
            if len(own) == length + 2 and longest and _NUMBER.fullmatch(own[-1]) and not float(own[-1]):
                del own[-1]
            if len(own) != length + 2 - longest:
                what = f"{length} {'word' if length == 1 else 'words'}{'' if longest else ' and perhaps a backoff'}"
                more = " (the longest n-grams have no backoff but 0)" if longest and len(own) == length + 2 else ""
                raise self.wrong(f"expected a log-probability, {what}; found {len(own)} fields{more}", number)
            yield b"\t".join((own[0], b" ".join(own[1 : length + 1]), *own[length + 1 :])) + b"\n"

    def _new(self, words: Sequence[bytes]) -> Integers:
        """Number the words of so many 1-grams, (M, 1)."""
        for line, word in enumerate(words, self.line + 1):
            if word in self.words:
                raise self.wrong(f"{shown(word)} is there already", line)
            self.words[word] = len(self.words)
        return np.arange(len(self.words) - len(words), len(self.words))[:, None]

    def _known(self, block: bytes, starts: Integers, sizes: Integers) -> Integers:
        """The numbers of words that begin here and are so long, (M, length)."""
        known, numbers = self._keys
        keys = _keys(block, starts, sizes)
        at = np.searchsorted(known[:-1], keys)
        if (missing := known[at] != keys).any():
            row, column = (int(axis[0]) for axis in np.nonzero(missing))
            start = starts[row, column]
            word = block[start : start + sizes[row, column]]
            raise self.wrong(f"{shown(word)} is not among the 1-grams", self.line + 1 + row)
        grams: Integers = numbers[at]
        return grams

    @cached_property
    def _keys(self) -> tuple[Integers, Integers]:
        """Of all words the keys, ascending, and the numbers; behind them a key that is no word's."""
        sizes = np.fromiter(map(len, self.words), np.int64)
        keys = _keys(b"".join(self.words), np.cumsum(sizes) - sizes, sizes)
        order = np.argsort(keys)
        return np.append(keys[order], np.uint64(0)), order.astype(np.min_scalar_type(len(order)))

    def _decimals(self, fields: Sequence[bytes]) -> Numbers:
        try:
            numbers = np.fromiter(map(float, fields), np.float64, len(fields))
            if (numbers < np.inf).all() and b"_" not in b"".join(fields):  # which Python takes in a number
                return numbers
        except ValueError:
            pass
        wrong = (not _NUMBER.fullmatch(field) or not float(field) < np.inf for field in fields)
        row = list(wrong).index(True)
        what = "is not a number"
        if _COMMA.fullmatch(fields[row]):
            what = (
                "has a decimal comma, as numbers have in a German or French locale: "
                "let the program that wrote this file write it again with LC_ALL=C"
            )
        raise self.wrong(f"{shown(fields[row])} {what}", self.line + 1 + row)


def _spans(block: bytes, form: bytes, lines: int) -> tuple[Integers, Integers] | None:
    """Where the fields of so many lines begin and how long they are, (lines, fields); None unless `form` ends them."""
    characters = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(BLANK[characters])
    if characters[ends].tobytes() != form * lines:
        return None
    sizes = np.diff(ends, prepend=-1) - 1
    return ((ends - sizes).reshape(-1, len(form)), sizes.reshape(-1, len(form))) if sizes.all() else None


def _keys(block: bytes, starts: Integers, sizes: Integers) -> Integers:
    """A number of 64 bits for each word: its bytes, or of those that have more than 8 a hash."""
    eights = np.ndarray(len(block) + 1, "<u8", block + bytes(8), strides=(1,))  # the 8 bytes from each on
    keys: Integers = eights[starts] & MASKS[sizes.clip(max=8)]
    for begin in range(8, int(sizes.max(initial=0)), 8):
        longer = sizes > begin
        keys[longer] *= MIX
        keys[longer] += eights[starts[longer] + begin] & MASKS[(sizes[longer] - begin).clip(max=8)]
    return keys


def shown(found: bytes) -> str:
    """Something of a file, short and on one line, for a message."""
    text = found.decode("utf-8", "replace")
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
