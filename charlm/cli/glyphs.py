"""Characters of any text as a terminal or a table can show them, and bars drawn with them."""

from rich.cells import cell_len

EIGHTHS = " ▏▎▍▌▋▊▉█"
ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
SIGNS = {"\n": "⏎", "\t": "⇥", "\x7f": "␡"}
_OBEYED = {  # control characters of both kinds, and what turns the direction
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: "␡",
    **dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"),
}


def escaped(text: str) -> str:
    """A text for one field of a table: backslash, tab, line ends and what cannot be seen, escaped as Python does."""
    return "".join(ESCAPES.get(character) or _escaped(character) for character in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if character.isprintable():
        return character
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shown(text: str) -> str:
    """A text for a terminal, each character as one that moves nothing: ⏎ for a line feed, ␛ for an escape."""
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if character < " " or character in SIGNS:
        return SIGNS.get(character) or chr(0x2400 + ord(character))
    return " " if character.isspace() else "\ufffd"


def harmless(text: str) -> str:
    """A text of several lines for a terminal: what it would obey is shown as a sign, ␛ for an escape.

    Line ends and tabs stay; so does all that is part of writing, joiners for instance, but for the marks that turn the
    direction of what follows.
    """
    return text.replace("\r\n", "\n").translate(_OBEYED)


def label(text: str) -> str:
    """The same where a text stands by itself: a space is seen, and a combining mark has something to stand on."""
    text = shown(text).replace(" ", "␣")
    return text if cell_len(text) or not text else f"◌{text}"


def bar(share: float, width: int) -> str:
    """A bar that fills a share of so many cells, to an eighth of one."""
    whole, rest = divmod(round(8 * width * min(max(share, 0.0), 1.0)), 8)
    return EIGHTHS[-1] * whole + (EIGHTHS[rest] if rest else "")
