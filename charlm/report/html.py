"""Writing HTML: elements as function calls, text escaped unless it is already markup.

The page is well-formed XML, too, so that a strict parser can check it. A template engine would move loops into a second
language and checks to run time; here mypy checks every call.
"""

import re
from collections.abc import Iterable
from html import escape

VOID = {"img", "input", "meta"}  # elements without an end
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069]")  # marks that change the writing direction


class Html(str):
    """Markup, as opposed to text that must be escaped."""

    __slots__ = ()


def text(plain: str) -> Html:
    """Any string as text: escaped, with U+FFFD for the characters that HTML cannot hold or that hide others."""
    return Html(escape(_DIRECTION.sub("\ufffd", _CONTROL.sub("\ufffd", plain))))


def tag(name: str, /, *content: str | None, **attributes: str | bool | None) -> Html:
    """An element. Text in it is escaped, `Html` is not; attributes that are None or False are left out.

    `class_` and the like lose their underscore, others become hyphens: `data_value` -> data-value.
    """
    named = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    markup = "".join(
        f' {key}="{key if value is True else text(str(value))}"' for key, value in named if value not in (None, False)
    )
    return Html(f"<{name}{markup}/>") if name in VOID else Html(f"<{name}{markup}>{together(content)}</{name}>")


def together(parts: Iterable[str | None]) -> Html:
    """Several pieces, one after the other."""
    return Html("".join(part if isinstance(part, Html) else text(part) for part in parts if part is not None))


SIGNS = {" ": "\u2423", "\n": "\u23ce", "\t": "\u21e5", "\r": "\u240d"}
"""The signs of characters that are invisible."""


def visible(plain: str) -> str:
    """Text with signs for its spaces and line ends."""
    return "".join(SIGNS.get(character, character) for character in plain)
