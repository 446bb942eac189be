"""The building blocks of the page: the table, keys, coloured text, tabs, figures."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from charlm.analysis import Character
from charlm.comparison import Line, listed
from charlm.report.findings import Findings
from charlm.report.html import Html, tag, text, together, visible
from charlm.report.plots import DASHES

MARKS = (
    "M15.5 6a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
    "M16 2h8v8h-8z",
    "M20 1.5l4.8 8.5h-9.6z",
    "M20 1l5 5l-5 5l-5 -5z",
    "M20 10.5l4.8 -8.5h-9.6z",
    "M18.5 1.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "M17 1.5l3 2.6l3 -2.6l1.8 1.8l-2.6 2.7l2.6 2.7l-1.8 1.8l-3 -2.6l-3 2.6l-1.8 -1.8l2.6 -2.7l-2.6 -2.7z",
    "M20 0.5l1.4 4h4.2l-3.4 2.6l1.2 4.1l-3.4 -2.4l-3.4 2.4l1.2 -4.1l-3.4 -2.6h4.2z",
)
"""The shapes of `plots.MARKERS` as SVG paths, for the key."""
SURPRISE_SHADES = 10  # one a bit; the last is for all larger numbers


def table(headings: Sequence[str], lines: Sequence[Line]) -> Html:
    """A table that is sorted by its second column, and by another when its heading is pressed."""
    head = [
        tag("th", tag("button", heading, type="button"), scope="col", aria_sort="ascending" if n == 1 else None)
        for n, heading in enumerate(headings)
    ]
    rows = []
    for line in lines:
        (name, *cells) = line.cells
        first = tag("th", name.text, scope="row", data_value=str(name.value))
        rest = [tag("td", c.text, data_value="" if c.value is None else repr(c.value)) for c in cells]
        rows.append(tag("tr", first, *rest, class_=line.kind))
    sortable = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows), class_="sortable")
    wide = tag("div", sortable, class_="wide", tabindex="0", role="region", aria_label="results, scrolls sideways")
    return together([tag("p", "The table scrolls sideways →", class_="note swipe"), wide])


def key(named: Iterable[tuple[int, str]]) -> Html:
    """The key of the lines in a figure."""
    return tag("ul", *(tag("li", _swatch(number), name) for number, name in named), class_="key")


def _swatch(number: int) -> Html:
    dashes = " ".join(map(str, DASHES[number % len(DASHES)])) or None
    line = tag("line", x1="0", y1="6", x2="40", y2="6", stroke_dasharray=dashes)
    mark = tag("path", d=MARKS[number % len(MARKS)])
    return tag("svg", line, mark, viewBox="0 0 40 12", class_=f"c{number % 8}", aria_hidden="true")


def reading(characters: Iterable[Character]) -> Html:
    """Text whose characters are darker the more surprising they were; their titles have the predictions."""
    return together(surprise(c.text, c.bits, _predicted(c)) for c in characters)


def surprise(character: str, bits: float, predicted: str) -> Html:
    """One character, darker the more surprising it was."""
    shade = min(SURPRISE_SHADES - 1, int(bits))
    return tag("i", _shown(character), class_=f"s{shade}" if shade else None, title=f"{bits:.2f} bits{predicted}")


def _predicted(character: Character) -> str:
    """The format that script.js parses: parts separated by a dot, predictions by two blanks."""
    guesses = "  ".join(f"{visible(p.text)}\u00a0{p.probability:.3f}" for p in character.predictions)
    return f" · rank {character.rank:,} · {guesses}"


def runs(plain: str, shades: Iterable[str]) -> Html:
    """Text in classes of shade, "" for none; a run of characters of one shade is one element."""
    pieces = []
    for shade, group in groupby(zip(plain, shades, strict=True), key=lambda pair: pair[1]):
        stretch = "".join(_shown(character) for character, _ in group)
        pieces.append(tag("i", stretch, class_=shade) if shade else text(stretch))
    return together(pieces)


def _shown(character: str) -> str:
    """A character with a sign before it if it is invisible."""
    return {"\n": "⏎\n", "\t": "⇥\t", "\r": "␍"}.get(character, character)


def scale() -> Html:
    """The key of the shades."""
    last = SURPRISE_SHADES - 1
    steps = (tag("i", f"{n}" if n < last else f"{n}+", class_=f"s{n}" if n else None) for n in range(last + 1))
    return tag("p", "bits: ", *steps, class_="scale")


def tabs(name: str, panels: Sequence[tuple[str, Html]]) -> Html:
    """Panels of which one is visible at a time, chosen by name, in the colours of the contenders; all when printed."""
    return numbered_tabs(name, [(title, panel, number) for number, (title, panel) in enumerate(panels)])


def numbered_tabs(name: str, panels: Sequence[tuple[str, Html, int]]) -> Html:
    """`tabs` with the number of each panel's colour."""
    return _tabs(name, [(text(title), title, panel, number) for title, panel, number in panels])


def picture_tabs(name: str, panels: Sequence[tuple[Html, str, Html]]) -> Html:
    """`tabs` with markup as labels; each panel has a title in words, too."""
    return _tabs(name, [(*panel, 0) for panel in panels], "tabs pictures")


def _tabs(name: str, panels: Sequence[tuple[Html, str, Html, int]], kind: str = "tabs") -> Html:
    parts: list[Html] = []
    for place, (label, title, panel, number) in enumerate(panels):
        parts += [
            tag("input", type="radio", name=name, id=f"{name}-{place}", checked=not place),
            tag("label", label, for_=f"{name}-{place}", class_=f"c{number % 8}"),
            tag("div", tag("h4", title), panel, class_="panel"),
        ]
    return tag("div", *parts, class_=kind)


def marked(whole: str, place: int, length: int) -> Html:
    """Text with a passage of it marked."""
    end = place + length
    return together([text(whole[:place]), tag("mark", whole[place:end]) if length else None, text(whole[end:])])


def beside(words: Sequence[Html | None], picture: Html) -> Html:
    """Words with a figure beside them where there is room."""
    return tag("div", tag("div", *words), picture, class_="side")


def words(*paragraphs: str) -> Html:
    """Paragraphs as wide as the section, in two columns where there is room."""
    return tag("div", *map(paragraph, paragraphs), class_="words")


def paragraph(sentences: str) -> Html:
    """A paragraph."""
    return tag("p", sentences)


def note(sentences: str) -> Html:
    """A paragraph in smaller, muted text."""
    return tag("p", sentences, class_="note")


def without_mixtures(findings: Findings, what: str) -> Html | None:
    """A note on mixtures that are missing from a section."""
    if not (mixtures := [f"{f.name} ({f.made[0]})" for f in findings.contenders if f.made]):
        return None
    return note(
        f"Not shown: {listed(mixtures)}. A mixture has no {what} of its own; train its members alone to see theirs."
    )


def side_by_side(*named: tuple[str, Html]) -> Html:
    """Figures with their names, as many in a row as fit."""
    return tag("div", *(tag("figure", tag("figcaption", name), svg) for name, svg in named), class_="figures")
