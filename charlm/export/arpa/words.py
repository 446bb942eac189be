"""The words that stand for ids in an ARPA file, which cannot hold white space.

▁ is a space and ⏎ a line feed, as is the custom; \\u{H} is the character with the hexadecimal code point H, \\xHH the
byte HH. Escaped are characters that cannot be seen or would break a line, ▁, ⏎ and \\ themselves, and the first one of
a piece that would read <s>, </s> or <unk>.
"""

import re

from charlm.tokenizers import FIRST_PIECE, Tokenizer

SENTENCE_BEGIN, SENTENCE_END, UNKNOWN_WORD = "<s>", "</s>", "<unk>"
UNKNOWNS = frozenset({UNKNOWN_WORD, "<UNK>"})  # KenLM takes both
SPECIAL = UNKNOWNS | {SENTENCE_BEGIN, SENTENCE_END}
SPACE_MARK, NEWLINE_MARK = "▁", "⏎"
LEGEND = f"{SPACE_MARK} is a space, {NEWLINE_MARK} a line feed, \\u{{H}} the code point H, \\xHH the byte HH"

_PLAIN = {" ": SPACE_MARK, "\n": NEWLINE_MARK}
_BYTE = re.compile(r"\\x([0-9A-Fa-f]{2})|<0x([0-9A-Fa-f]{2})>")  # charlm's, and SentencePiece's
_PART = re.compile(r"\\u\{([0-9A-Fa-f]{1,6})\}|.", re.DOTALL)


def words(tokenizer: Tokenizer) -> list[str]:
    """The word of each id, (V,), all different; that of the boundary is <s>."""
    pieces = tokenizer.pieces()
    learned = (piece.decode("utf-8", "surrogatepass") for piece in pieces[FIRST_PIECE:])
    return [SENTENCE_BEGIN, *(spelled(piece[0]) for piece in pieces[1:FIRST_PIECE]), *map(spelled, learned)]


def spelled(what: str | int) -> str:
    """The word for a text of one character or more, or for a byte."""
    if isinstance(what, int):
        return f"\\x{what:02X}"
    if what in SPECIAL:
        return _escaped(what[0]) + what[1:]
    plain = (c.isprintable() and c not in (SPACE_MARK, NEWLINE_MARK, "\\", " ") for c in what)
    return "".join(c if as_is else _PLAIN.get(c) or _escaped(c) for c, as_is in zip(what, plain, strict=True))


def meaning(word: str, space: str = SPACE_MARK, newline: str = NEWLINE_MARK) -> str | int:
    """The text, or the value of the byte, that a word stands for.

    Inside a longer word, \\u{H} and a `space` or `newline` of one character mean what they mean alone.
    """
    if match := _BYTE.fullmatch(word):
        return int(match[1] or match[2], 16)
    plain = {space: " ", newline: "\n"}
    return plain.get(word) or "".join(plain.get(part[0]) or _unescaped(part) for part in _PART.finditer(word))


def _unescaped(part: "re.Match[str]") -> str:
    code_point = int(part[1] or "110000", 16)
    return chr(code_point) if code_point < 0x110000 else part[0]


def _escaped(character: str) -> str:
    return f"\\u{{{ord(character):X}}}"
