"""Figures as SVG with the colours and the font of the page, in light and dark mode and in print.

matplotlib does not support CSS: it draws in stand-in colours, which are replaced by CSS variables afterwards.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from charlm.report.html import Html, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE = "#1c0001", "#1c0002", "#1c0003"
COLOURS = tuple(f"#c010{number:02}" for number in range(8))
"""Stand-ins for text, muted text, grid lines, and the contenders in order."""

STAND_INS = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    **{colour: f"var(--c{number})" for number, colour in enumerate(COLOURS)},
}
DASHES: tuple[tuple[float, ...], ...] = ((), (7, 2), (2, 2), (7, 2, 2, 2), (11, 3), (4, 1, 1, 1, 1, 1), (1, 3), (4, 4))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

SIZE = (5.0, 3.6)  # inches of 72 units; the page scales figures

_DIGITS = re.compile(r"(\.\d\d)\d+")  # of coordinates, of which hundredths of a unit are enough


def colour(number: int) -> str:
    """The stand-in colour of a contender."""
    return COLOURS[number % len(COLOURS)]


def style(number: int) -> dict[str, Any]:
    """The style of a contender's line: both colour and dashes distinguish it."""
    dashes = DASHES[number % len(DASHES)]
    return {"color": colour(number), "linestyle": (0, dashes) if dashes else "-", "linewidth": 1.8}


class LineEnd(NamedTuple):
    """Where a line of a figure ends, in data coordinates; the name of its contender and the number of its colour."""

    x: float
    y: float
    name: str
    number: int


LABEL_HEIGHT = 15.0  # units of a figure


def label_lines(axes: "Axes", ends: Sequence[LineEnd], height: float = SIZE[1]) -> None:
    """Label each line at its end, to the right of the axes; labels that are close to each other are moved apart.

    Limits and scales must be set before. `height` is that of the figure in inches.
    """
    to_axes = axes.transAxes.inverted()
    places = [float(to_axes.transform(axes.transData.transform((end.x, end.y)))[1]) for end in ends]
    for end, place in zip(ends, apart(places, LABEL_HEIGHT / (0.8 * 72 * height)), strict=True):
        shade = colour(end.number)
        axes.annotate(
            end.name,
            xy=(end.x, end.y),
            xytext=(1.04, place),
            textcoords="axes fraction",
            color=shade,
            verticalalignment="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": shade, "linewidth": 0.7, "relpos": (0, 0.5), "shrinkB": 0},
        )


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Places between 0 and 1, moved so that neighbours are at least `gap` apart; their order stays."""
    order = sorted(range(len(places)), key=lambda n: places[n])
    moved = list[float]()
    for n in order:
        moved.append(max(places[n], moved[-1] + gap) if moved else max(0.0, places[n]))
    limit = 1.0
    for n in reversed(range(len(moved))):
        moved[n] = min(moved[n], limit)
        limit = moved[n] - gap
    return [moved[order.index(n)] for n in range(len(places))]


@contextmanager
def figure(
    title: str, rows: int = 1, columns: int = 1, size: tuple[float, float] = SIZE, **sharing: Any
) -> Iterator[tuple["Figure", list["Axes"], Callable[[], Html]]]:
    """A figure, its axes, and a function that converts it to SVG; `title` describes it to screen readers."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": title,  # makes the ids of its clips and markers unique on the page
        "lines.scale_dashes": False,
        "font.size": 11,
        "text.color": INK,
        "text.parse_math": False,
        "axes.labelcolor": INK,
        "axes.edgecolor": MUTED,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": LINE,
        "grid.linewidth": 0.8,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about glyphs that its fonts lack and the browser's have
        drawn = Figure(figsize=size, layout="constrained")
        axes = list(np.ravel(drawn.subplots(rows, columns, squeeze=False, **sharing)))
        yield drawn, axes, lambda: _svg(drawn, title)


def _svg(drawn: "Figure", title: str) -> Html:
    """The figure as an element of a page: without prologue, size and unused ids."""
    file = io.StringIO()
    empty = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    drawn.savefig(file, format="svg", transparent=True, metadata=empty)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 var(--sans)", svg)
    used = set(re.findall(r"#([^\")]+)[\")]", svg))
    svg = re.sub(r' id="([^"]*)"', lambda name: name[0] if name[1] in used else "", svg)
    svg = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda place: _DIGITS.sub(r"\1", place[0]), svg)
    for stand_in, real in STAND_INS.items():
        svg = svg.replace(stand_in, real)
    return Html(svg.replace("<svg", f'<svg role="img" aria-label="{text(title)}"', 1).strip())
