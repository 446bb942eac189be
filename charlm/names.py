"""File names in messages: as people read them, as a shell takes them, and as Python does.

On Unix a name is bytes, of any kind but NUL and slash; Python keeps a byte that is not UTF-8 as a lone surrogate
(PEP 383, "surrogateescape").
"""

import codecs
import os
import shlex
import subprocess
import sys
from pathlib import Path

READABLE = "charlm-readable"
"""An error handler for what is printed: a byte that is not UTF-8 becomes \\xHH, what the encoding lacks \\uHHHH."""

_SHELL_ESCAPES = {"\n": "\\n", "\t": "\\t", "\\": "\\\\", "'": "\\'"}


def shell_quoted(name: str | Path) -> str:
    """The name as one word of a command that is to be typed: every command in a message quotes its names by this.

    One that begins with a dash, so that it would be an option, gets ./ before it; see `quoted_word`.
    """
    word = os.fspath(name)
    return quoted_word(f"./{word}" if word.startswith("-") else word)


def quoted_word(word: str) -> str:
    """Any text as one word of a command: a plain one as it is, others in quotes, on Windows in double ones.

    What cannot be seen, or is not UTF-8, is spelled in $'...', which bash, zsh and ksh read (POSIX.1-2024, section
    2.2.4); octal, because digits may follow.
    """
    if sys.platform == "win32":
        return subprocess.list2cmdline([word])
    return shlex.quote(word) if word.isprintable() else f"$'{''.join(map(_spelled, word))}'"


def code_quoted(name: str | Path) -> str:
    """The name as a value in a message's code, such as `start='my run'`; see `charlm.errors`."""
    return repr(os.fspath(name)).replace("`", r"\x60")


def is_utf8(name: str | Path) -> bool:
    """Whether a name is text, as safetensors wants it of the files that it opens."""
    try:
        os.fspath(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def _spelled(character: str) -> str:
    if character in _SHELL_ESCAPES or character.isprintable():
        return _SHELL_ESCAPES.get(character, character)
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(character))


def _readable(problem: UnicodeError) -> tuple[str | bytes, int]:
    """One character that the encoding lacks, spelled in ASCII."""
    assert isinstance(problem, UnicodeEncodeError)
    code = ord(problem.object[problem.start])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}", problem.start + 1
    one = UnicodeEncodeError(problem.encoding, problem.object, problem.start, problem.start + 1, problem.reason)
    return codecs.backslashreplace_errors(one)


codecs.register_error(READABLE, _readable)
