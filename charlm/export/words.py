"""The words that stand for ids in an ARPA file, which cannot hold white space.

▁ is a space and ⏎ a line feed, as is the custom; \\u{H} is the character with the hexadecimal code point H, \\xHH the
byte HH. Escaped are characters that cannot be seen or would break a line, ▁, ⏎ and \\ themselves, and the first one of
a piece that would read <s>, </s> or <unk>.
"""

import re

from charlm.tokenizers import FIRST_PIECE, Tokenizer

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
SPECIAL = frozenset({BEGIN, END, UNKNOWN, "<UNK>"})  # the last is KenLM's other name for the third
SPACE, NEWLINE = "▁", "⏎"
LEGEND = f"{SPACE} is a space, {NEWLINE} a line feed, \\u{{H}} the code point H, \\xHH the byte HH"

_PLAIN = {" ": SPACE, "\n": NEWLINE}
_ESCAPE = re.compile(r"\\(?:u\{([0-9A-Fa-f]{1,6})\}|x([0-9A-Fa-f]{2}))")


def words(tokenizer: Tokenizer) -> list[str]:
    """The word of each id, (V,), all different; that of the boundary is <s>."""
    pieces = tokenizer.pieces()
    learned = (piece.decode("utf-8", "surrogatepass") for piece in pieces[FIRST_PIECE:])
    return [BEGIN, *(spelled(piece[0]) for piece in pieces[1:FIRST_PIECE]), *map(spelled, learned)]


def spelled(what: str | int) -> str:
    """The word for a text of one character or more, or for a byte."""
    if isinstance(what, int):
        return f"\\x{what:02X}"
    if what in SPECIAL:
        return _escaped(what[0]) + what[1:]
    plain = (c.isprintable() and c not in (SPACE, NEWLINE, "\\", " ") for c in what)
    return "".join(c if as_is else _PLAIN.get(c) or _escaped(c) for c, as_is in zip(what, plain, strict=True))


def meaning(word: str, space: str = SPACE, newline: str = NEWLINE) -> str | int:
    """The character, or the value of the byte, that a word stands for; any other word is itself."""
    if word in (space, newline):
        return " " if word == space else "\n"
    found = _ESCAPE.fullmatch(word)
    if not found:
        return word
    code_point, byte = found.groups()
    number = int(code_point or byte, 16)
    if byte:
        return number
    return chr(number) if number < 0x110000 else word


def _escaped(character: str) -> str:
    return f"\\u{{{ord(character):X}}}"
