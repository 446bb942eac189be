"""A comparison in a notebook: the table and the figures of quality, as one frame that keeps its style to itself."""

from charlm.comparison import Comparison, notes, table
from charlm.report import figures, parts
from charlm.report.findings import Learned, learning_curve
from charlm.report.html import Html, tag, together
from charlm.report.page import STYLE

HEIGHT = 760  # pixels


def as_notebook(result: Comparison) -> str:
    """An iframe with the table, its notes, and the learning curves."""
    listed = tag("ul", *(tag("li", note) for note in notes(result)), class_="notes")
    shown = [parts.table(*table(result)), listed, *_figures(result)]
    style = tag("style", Html(f"/*<![CDATA[*/\n{STYLE}/*]]>*/"))
    page = tag("html", tag("head", tag("meta", charset="utf-8"), style), tag("body", tag("main", *shown)))
    return tag("iframe", "", srcdoc=page, width="100%", height=str(HEIGHT), style="border: 0", sandbox="")


def _figures(result: Comparison) -> list[Html]:
    rows = zip(result.names, result.rows, strict=True)
    every = list(enumerate(Learned(name, row, learning_curve(row)) for name, row in rows if not row.frozen))
    learned = [(number, contender) for number, contender in every if contender.curve]
    quality = parts.side_by_side(
        ("quality and size", figures.front(every, lambda one: one.row.parameters, "parameters", log=True)),
        ("quality and training time", figures.front(every, lambda one: one.row.training_seconds, "seconds", log=False)),
    )
    if not learned:
        return [quality]
    curves = parts.side_by_side(
        ("learning, against characters read", figures.learning(learned, "characters", "characters read in training")),
        ("learning, against time", figures.learning(learned, "seconds", "seconds of training")),
    )
    return [curves, together([parts.key((number, one.name) for number, one in every), quality])]
