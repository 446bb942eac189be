"""Which encoding a file is in, found out where it is asked for or where the one that was named does not decode it.

chardet ranks the encodings that the bytes could be in; what it ranks has to decode the whole file, and to give text.
"""

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from charlm.errors import UsageError

AUTO = "auto"
ERRORS = ("strict", "replace", "skip")
"""What becomes of bytes that cannot be decoded: the text is refused, they become U+FFFD, or are left out."""

SAMPLE_BYTES = 1 << 17  # bytes that are looked at; a multiple of four, the size of a character in UTF-32
_BYTES_PER_READ = 1 << 20  # bytes read at a time
_ENCODING_OF_MARK = {  # UTF-32 before UTF-16, whose mark it begins with
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_GUESSED = re.compile(  # chardet takes short texts for rarer ones too; those must be named
    r"ascii|utf-(8|16|32).*|cp125\d|cp(437|850|852|866|874|932|949|950)|iso8859-(1|2|5|7|8|9|15)|koi8-[ru]|mac-roman"
    r"|iso2022.*|shift_jis.*|euc_.*|gb.*|big5.*|hz"
)
_WIDE = frozenset(f"utf-{bits}{order}" for bits in (16, 32) for order in ("", "-le", "-be"))
_NON_ASCII = bytes(range(0x80, 0x100))
_MAX_WRONG_SHARE = 0.1  # wrong bytes of as many characters that are not ASCII
_WESTERN = "cp1252"
_C1 = bytes(range(0x80, 0xA0))  # quotes and dashes in Windows-1252, in ISO 8859 controls, which no text has
_MIN_WESTERN_SCORE = 0.82  # of the best score: so far behind Windows-1252 is still taken, the most common of them
CONTROL_CHARACTERS = re.compile("[\0-\x08\x0e-\x19\x1c-\x1f]")  # what most texts do without
_MAX_CONTROL_SHARE = 0.25  # of the characters at the beginning; UTF-16 read as UTF-8 has a half
_MAX_ODD_SHARE = 0.01  # of the characters: controls, and such as no Unicode version has
_QUOTED_CHARACTERS = 40  # characters of the first words


Opens = Callable[[], BinaryIO]
"""Opens a file, from its beginning, as often as it is called."""


@dataclass(frozen=True)
class Decoding:
    """How bytes become text: in which encoding (`AUTO`: in the one that is found), and with which of `ERRORS`.

    Raises UsageError for an encoding that Python does not know, or that is none of text.
    """

    encoding: str = "utf-8"
    errors: str = "strict"

    def __post_init__(self) -> None:
        if self.errors not in ERRORS:
            raise UsageError(f"must be one of {', '.join(ERRORS)}, not {self.errors!r}", "errors")
        if self.encoding == AUTO:
            return
        try:
            codecs.getincrementaldecoder(self.encoding)
            "a".encode(self.encoding).decode(self.encoding, "replace")
        except (LookupError, ValueError):
            raise UsageError(
                f"{self.encoding!r} is unknown; try utf-8, utf-16, latin-1, cp1252, shift_jis or gb18030, "
                f"or {AUTO}, which finds out",
                "encoding",
            ) from None


def opening(path: Path) -> Opens:
    """What opens this file."""
    return lambda: path.open("rb")


def find_encoding(open_file: Opens) -> str | None:
    """The encoding of a file: what its mark says, else UTF-8 if it is that or nearly, else the likeliest that fits.

    None for what is no text. Reads all of the file.
    """
    wrong = undecodable(open_file, "utf-8")
    start = max(0, (wrong or 0) - SAMPLE_BYTES // 2) & ~3
    with open_file() as file:
        if marked := _marked(file.read(4)):
            return marked
        file.seek(start)
        sample = file.read(SAMPLE_BYTES)
    if _is_utf8(sample, begins=not start) and (wrong is None or is_damaged(sample, "utf-8")):
        return "utf-8"
    if start and b"\0" not in sample:
        sample = sample[sample.find(b"\n") + 1 :]  # not from the middle of a character
    ranked = _ranked(sample, cut=len(sample) < SAMPLE_BYTES)
    return next((name for name in ranked if undecodable(open_file, name) is None), None)


def guess_encoding(sample: bytes) -> str | None:
    """The same where the sample is all there is to look at."""
    return _marked(sample) or ("utf-8" if _is_utf8(sample) else next(_ranked(sample), None))


def _marked(head: bytes) -> str | None:
    return next((name for mark, name in _ENCODING_OF_MARK.items() if head.startswith(mark)), None)


def _is_utf8(sample: bytes, *, begins: bool = True) -> bool:
    """Whether a sample is text in UTF-8, or damaged text; it may be cut at its end, and unless it `begins` a file."""
    text = sample.decode("utf-8", "replace").rstrip("\ufffd")
    text = text if begins else text.lstrip("\ufffd")
    return is_text(text) and ("\ufffd" not in text or is_damaged(sample, "utf-8"))


def is_utf8(encoding: str) -> bool:
    """Whether this is a name of UTF-8, with or without its mark."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def is_damaged(sample: bytes, encoding: str) -> bool:
    """Whether a sample is in this encoding but for a few bytes: of one whose bytes others hardly ever look like.

    Those are UTF-8, half of which may be wrong, and the encodings of Chinese, Japanese and Korean.
    """
    utf8 = is_utf8(encoding)
    if not utf8 and (
        len(_NON_ASCII.decode(encoding, "replace")) == len(_NON_ASCII) or codecs.lookup(encoding).name in _WIDE
    ):
        return False
    text = sample.decode(encoding, "replace")
    wrong = text.count("\ufffd") - sample.decode(encoding, "ignore").count("\ufffd")
    right = sum(not character.isascii() for character in text) - wrong
    return 0 < wrong <= right * (1.0 if utf8 else _MAX_WRONG_SHARE)


def is_text(head: str) -> bool:
    """Whether the beginning of a text has few enough control characters, of which UTF-16 read as UTF-8 has many."""
    return "\0" not in head or len(CONTROL_CHARACTERS.findall(head)) <= _MAX_CONTROL_SHARE * len(head)


def undecodable(open_file: Opens, encoding: str) -> int | None:
    """About where a file is not in this encoding, in bytes; None where it is, its last character cut perhaps."""
    decoder, offset = codecs.getincrementaldecoder(encoding)(), 0
    with open_file() as file:
        while block := file.read(_BYTES_PER_READ):
            try:
                decoder.decode(block)
            except UnicodeDecodeError as problem:
                return offset + max(0, len(block) - len(problem.object) + problem.start)
            except UnicodeError:
                return 0
            offset += len(block)
    return None


def _ranked(sample: bytes, *, cut: bool = False) -> Iterator[str]:
    """The encodings that give text, the likeliest first; with `cut` the last character may lack bytes."""
    scores = max(
        map(_scores, (sample[: len(sample) - n] for n in range(4 * cut or 1))),
        key=lambda scores: round(_best(scores), 1),
    )
    names = list(scores)
    mac = names[:1] == ["mac-roman"] and not any(byte in _C1 for byte in sample)  # which has its quotes elsewhere
    if not mac and scores.get(_WESTERN, 0.0) >= _MIN_WESTERN_SCORE * _best(scores):
        names.sort(key=lambda name: name != _WESTERN)
    return (name for name in names if _gives_text(sample, name))


def _scores(sample: bytes) -> dict[str, float]:
    """How well each encoding fits, by the names that Python has for them, the best first."""
    import chardet

    scores: dict[str, float] = {}
    for guess in chardet.detect_all(sample, ignore_threshold=True, max_bytes=SAMPLE_BYTES):
        if guess["encoding"]:
            name = codecs.lookup(guess["encoding"]).name
            scores.setdefault(_WESTERN if name == "iso8859-1" else name, guess["confidence"])
    return {name: score for name, score in scores.items() if _GUESSED.fullmatch(name)}


def _best(scores: Mapping[str, float]) -> float:
    return max(scores.values(), default=0.0)


def _gives_text(sample: bytes, encoding: str) -> bool:
    """Whether this decodes a sample, which may be cut at its end, into characters that texts have."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeError:
        return False
    odd = sum(unicodedata.category(c) in ("Cc", "Cn", "Co", "Cs") and c not in "\t\n\r\f\v" for c in text)
    return odd <= _MAX_ODD_SHARE * len(text)


def first_words(data: bytes, encoding: str) -> str:
    """How a text begins, or where it first is more than ASCII, on one line and short, for a message."""
    text = codecs.getincrementaldecoder(encoding)("replace").decode(data)
    line = " ".join(text.removeprefix("\ufeff").split())
    tells = next((at for at, character in enumerate(line) if not character.isascii()), 0)
    begin = line.rfind(" ", 0, tells - _QUOTED_CHARACTERS // 2) + 1 if tells > _QUOTED_CHARACTERS // 2 else 0
    part = line[begin : begin + _QUOTED_CHARACTERS]
    end = (
        part.rfind(" ")
        if len(line) > begin + _QUOTED_CHARACTERS and part.rfind(" ") > _QUOTED_CHARACTERS // 2
        else len(part)
    )
    return '"' + "".join(c if c.isprintable() else "\ufffd" for c in part[:end]) + '"'
