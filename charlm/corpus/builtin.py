"""Corpora that need no download: texts that every CPython brings. The same for every run of the same Python."""

import hashlib
import sys
import sysconfig
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from charlm.errors import DataError

PREFIX = "builtin:"


@dataclass(frozen=True)
class Builtin:
    """A corpus made on the spot. `bytes` is what CPython 3.11 gives; other versions differ by a little."""

    about: str
    bytes: int
    licence: str
    pieces: Callable[[], Iterator[str]]


def _python_reference() -> Iterator[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise DataError("builtin:python-reference: this Python came without pydoc_data; take another corpus") from None
    for name in sorted(topics):
        yield topics[name].strip("\n") + "\n\n"


def _python_stdlib() -> Iterator[str]:
    root = Path(sysconfig.get_path("stdlib"))
    modules = sys.stdlib_module_names - {"idlelib", "pydoc_data"}  # the second is the corpus above
    has_sources = False
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        folders = path.relative_to(root).parts[:-1]
        if (folders[0] if folders else path.stem) not in modules or {"test", "tests"} & set(folders):
            continue
        try:
            yield path.read_text(encoding="utf-8")  # newlines become \n: the same on every system
        except UnicodeDecodeError:
            continue
        has_sources = True
    if not has_sources:
        raise DataError(f"builtin:python-stdlib: this Python came without its sources in {root}; take another corpus")


def _unicode_names() -> Iterator[str]:
    coded = ((code, unicodedata.name(chr(code), "")) for code in range(sys.maxunicode + 1))
    # not CJK UNIFIED IDEOGRAPH-4E00, which is a number; shuffled, lest the held-out names be those of other scripts
    names = [name for code, name in coded if name and not name.endswith(f"-{code:04X}")]
    for name in sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest()):
        yield name + "\n"


_LICENCE = "PSF-2.0"

BUILTINS: Mapping[str, Builtin] = {
    "python-reference": Builtin("the Python language reference, English prose", 466_196, _LICENCE, _python_reference),
    "python-stdlib": Builtin("the source of the Python standard library", 10_557_825, _LICENCE, _python_stdlib),
    "unicode-names": Builtin(
        "the names of the Unicode characters, one a line", 1_109_311, "Unicode-3.0", _unicode_names
    ),
}


def builtin_pieces(source: str) -> Iterator[str]:
    """The text of `builtin:NAME`, piece by piece. Raises DataError for a name that is not in `BUILTINS`."""
    name = source.removeprefix(PREFIX)
    if name not in BUILTINS:
        known = ", ".join(PREFIX + known for known in BUILTINS)
        raise DataError(f"{source}: no such built-in corpus; there are {known}")
    return BUILTINS[name].pieces()
