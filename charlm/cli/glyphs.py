"""Any text as a terminal or a table can show it, and bars drawn with block characters."""

from rich.cells import cell_len

EIGHTH_BLOCKS = " ▏▎▍▌▋▊▉█"
ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
CONTROL_SIGNS = {"\n": "⏎", "\t": "⇥", "\x7f": "␡"}
_SANITIZED = {  # control characters, C0 and C1, and the marks that change the writing direction
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: "␡",
    **dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"),
}


def escaped(text: str) -> str:
    """A text for one field of a table: backslashes, tabs, line ends and invisible characters escaped as in Python."""
    return "".join(ESCAPES.get(character) or _escaped(character) for character in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if character.isprintable():
        return character
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printable(text: str) -> str:
    """A text on one line, with a sign for each control character: ⏎ for a line feed, ␛ for an escape."""
    return "".join(_printable(character) for character in text)


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    if character < " " or character in CONTROL_SIGNS:
        return CONTROL_SIGNS.get(character) or chr(0x2400 + ord(character))
    return " " if character.isspace() else "\ufffd"


def sanitized(text: str) -> str:
    """A text of several lines, with a sign for each character that would control the terminal: ␛ for an escape.

    Line ends, tabs and the joiners that scripts need stay. Marks that change the writing direction are replaced.
    """
    return text.replace("\r\n", "\n").translate(_SANITIZED)


def visible(text: str) -> str:
    """`printable`, for a token on its own: spaces are visible, and a combining mark has a base to stand on."""
    text = printable(text).replace(" ", "␣")
    return text if cell_len(text) or not text else f"◌{text}"


def block_bar(share: float, width: int) -> str:
    """A bar that fills `share` (0 to 1) of `width` cells, to an eighth of a cell."""
    whole, rest = divmod(round(8 * width * min(max(share, 0.0), 1.0)), 8)
    return EIGHTH_BLOCKS[-1] * whole + (EIGHTH_BLOCKS[rest] if rest else "")
