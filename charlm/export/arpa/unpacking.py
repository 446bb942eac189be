"""What a file begins with tells how it is packed, whatever it is called, and what it is if it is no text."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Any, cast

from charlm.errors import DataError

DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""What reading a packed file raises where it is cut short or damaged."""

OPENERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x5d\0\0": lzma.open,  # .lzma
}
"""First bytes, and what unpacks a file that begins with them."""

_NOT_TEXT = "charlm reads ARPA files only: take the one that it was made from"
OTHER_FORMATS = {
    b"mmap lm http://kheafield.com/code": f"a binary file of KenLM's build_binary; {_NOT_TEXT}",
    b"blmt": f"a binary file of IRSTLM; {_NOT_TEXT}, or `compile-lm --text=yes FILE FILE.arpa`",
    b"Qblmt": f"a quantized binary file of IRSTLM; {_NOT_TEXT}",
    b"qARPA": f"a quantized file of IRSTLM; {_NOT_TEXT}",
    b"iARPA": "IRSTLM's intermediate format, not ARPA: convert it with `compile-lm --text=yes FILE FILE.arpa`",
    b"SRILM_BINARY": f"a binary file of SRILM; {_NOT_TEXT}, or `ngram -lm FILE -write-lm FILE.arpa`",
    b"Darpa Trigram LM": f"a Sphinx DMP file; {_NOT_TEXT}, or convert it with sphinx_lm_convert",
    b"\xd6\xfd\xb2\x7e": f"an OpenFst automaton; {_NOT_TEXT}",
    b"\x28\xb5\x2f\xfd": "packed with zstd: unpack it first (unzstd)",
    b"PK\3\4": "a zip archive: unpack it first (unzip)",
    b"\x1f\x9d": "packed with compress: unpack it first (gunzip)",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive: unpack it first",
    b"\xff\xfe": "in UTF-16: save it as UTF-8 first",
    b"\xfe\xff": "in UTF-16: save it as UTF-8 first",
}
"""First bytes, and what a file is that begins with them."""

_LONGEST = max(map(len, (*OPENERS, *OTHER_FORMATS)))


def unpacked(file: IO[bytes], name: str) -> IO[bytes]:
    """The file, or what is packed in it (gzip, bzip2, xz). Raises DataError for a format that is not text, by name."""
    begin = _beginning(file, name)
    for magic, opened in OPENERS.items():
        if begin.startswith(magic):
            file = cast(IO[bytes], opened(file))
            begin = _beginning(file, name)
            break
    for magic, what in OTHER_FORMATS.items():
        if begin.startswith(magic):
            raise DataError(f"{name}: {what}")
    return file


def _beginning(file: IO[bytes], name: str) -> bytes:
    """The first bytes, without reading past them."""
    try:
        if not file.seekable():
            peek = getattr(file, "peek", None)
            return bytes(peek(_LONGEST)) if peek else b""  # what cannot be looked into is taken as it is
        begin = file.read(_LONGEST)
        file.seek(-len(begin), io.SEEK_CUR)
        return begin
    except DAMAGE as problem:
        raise DataError(f"{name}:1: cannot be read: {problem}") from None
