"""How the lines of a text end, and whether a model knows such ends: one it has never met costs it 20 bits a line."""

from collections.abc import Mapping
from typing import Any

from charlm.corpus.text import Text

LINE_ENDS = ("LF", "CRLF", "CR")  # \n, as on Linux and macOS; \r\n, as on Windows; \r alone, as on old Macs
KNOWN_SHARE = 0.01  # of a training text's line ends; below it a kind is hardly known
CONVERTERS = {("CRLF", "LF"): "dos2unix", ("CR", "LF"): "mac2unix", ("LF", "CRLF"): "unix2dos"}


def line_ends(text: Text) -> dict[str, int]:
    """How many lines end with each of `LINE_ENDS`."""
    feeds = returns = pairs = 0
    previous = ""
    for chunk in text.chunks():
        feeds, returns = feeds + chunk.count("\n"), returns + chunk.count("\r")
        pairs += chunk.count("\r\n") + (previous == "\r" and chunk[0] == "\n")
        previous = chunk[-1]
    return dict(zip(LINE_ENDS, (feeds - pairs, pairs, returns - pairs), strict=True))


def unknown_line_ends(text: Text, known: Mapping[str, int]) -> str | None:
    """What to tell whoever gives a model a text whose lines end as none of its training text did; else None.

    `known` is what `line_ends` said of the training text.
    """
    counts = line_ends(text)
    own, usual = max(counts, key=counts.__getitem__), max(known, key=known.__getitem__)
    if not counts[own] or not known[usual] or known[own] >= KNOWN_SHARE * sum(known.values()):
        return None
    converter = CONVERTERS.get((own, usual))
    how = f", for example with {converter}" if converter else ""
    return (
        f"{text.name}: its lines end with {own}, those of the training text with {usual}: "
        f"each line end costs the model many bits; convert the text first{how}"
    )


def known_line_ends(described: Any, *, feeds: bool, returns: bool) -> dict[str, int] | None:
    """What `Origin.describe` kept of a training text's line ends; None where that cannot be told.

    Of a run from before they were kept it is known whether the text had line feeds and carriage returns at all.
    """
    counts = described.get("line_ends") if isinstance(described, Mapping) else None
    if isinstance(counts, Mapping) and all(type(counts.get(kind)) is int for kind in LINE_ENDS):
        return {kind: counts[kind] for kind in LINE_ENDS}
    if feeds and returns:
        return None
    return {"LF": int(feeds), "CRLF": 0, "CR": int(returns)}
