"""Tables and lists of facts on standard output: as wide as the terminal, plain lines where there is none.

On a terminal no cell is cut: text is folded, and where that is not enough whole columns are left out and named below.
The first column tells the rows apart and is folded last.
In a pipe columns are aligned with spaces and nothing is folded; no line ends in a space, nothing is drawn.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from charlm.cli.glyphs import harmless, shown
from charlm.cli.terminal import Terminal

FOLDED = 16  # cells that a column of text keeps at least, if it is that wide, where it is folded
GAP = 2  # cells between columns

Cell = str | Text


@dataclass(frozen=True)
class Column:
    """A heading; whether its cells are numbers, to the right and in one line; and what goes where room is short.

    Of the columns whose `dispensable` is above 0 the highest is left out first.
    """

    heading: str
    number: bool = False
    dispensable: int = 0


def output() -> Console:
    """Standard output, with nothing coloured or interpreted that nobody asked for."""
    return Terminal()


def print_line(text: Cell = "", style: str = "") -> None:
    """A sentence: wrapped at words on a terminal, one line in a pipe."""
    console = output()
    console.print(text, style=style, soft_wrap=not console.is_terminal)


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], styles: Sequence[str] = ()) -> None:
    """Rows of one cell a column, below the headings if there are any; `styles` has one a row, if any.

    A cell that is a string is one line, whatever is in it; one of several lines is given as a Text.
    """
    console, body = output(), [[_text(cell) for cell in row] for row in rows]
    heading = [Text(c.heading, "bold") for c in columns]
    widths = [max(map(_width, cells)) for cells in zip(heading, *body, strict=True)]
    if console.is_terminal:
        widths = _fitted(columns, widths, console.width)
    if any(c.heading for c in columns):
        _print_row(console, columns, widths, heading)
        if console.is_terminal:
            console.print("─" * (sum(width + GAP for width in widths if width) - GAP), soft_wrap=True)
    for number, row in enumerate(body):
        _print_row(console, columns, widths, row, styles[number] if styles else "")
    if left_out := [c.heading for c, width in zip(columns, widths, strict=True) if not width and c.heading]:
        console.print(f"Not shown in {console.width} columns: {', '.join(left_out)}.", style="dim")


def print_facts(facts: Iterable[tuple[str, Cell]], title: str = "") -> None:
    """A name and a value a line; what has no value is a heading, and with no name either an empty line."""
    if title:
        print_line(title, "italic")
    rows = ((Text(name, "bold"), Text(harmless(value)) if isinstance(value, str) else value) for name, value in facts)
    print_table([Column(""), Column("")], list(rows))


def _text(cell: Cell) -> Text:
    return Text(shown(cell)) if isinstance(cell, str) else cell


def _width(text: Text) -> int:
    return max((line.cell_len for line in text.split()), default=0)


def _fitted(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """The widths of the columns where all of them have so much room; 0 for one that is left out."""
    least = [width if c.number else min(width, FOLDED) for c, width in zip(columns, widths, strict=True)]
    least[0] = min(widths[0], max(FOLDED, room // 2))
    shown = list(range(len(columns)))
    while _total(least, shown) > room and columns[last := max(shown, key=lambda n: columns[n].dispensable)].dispensable:
        shown.remove(last)
    if _total(least, shown) > room:
        least[0] = min(widths[0], FOLDED)
    left, fitted = max(0, room - _total(least, shown)), [0] * len(columns)
    for n in shown:
        fitted[n] = min(widths[n], least[n] + left)
        left -= fitted[n] - least[n]
    return fitted


def _total(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[n] + GAP for n in shown) - GAP


def _print_row(
    console: Console, columns: Sequence[Column], widths: Sequence[int], row: Sequence[Text], style: str = ""
) -> None:
    """One row, on as many lines as its cells need."""
    cells = zip(columns, widths, row, strict=True)
    shown = [(c, width, cell.wrap(console, width, overflow="fold")) for c, width, cell in cells if width]
    for n in range(max((len(lines) for *_, lines in shown), default=0)):
        line = Text()
        for number, (c, width, lines) in enumerate(shown):
            part = lines[n] if n < len(lines) else Text()
            part.rstrip()
            blank = " " * (width - part.cell_len)
            line.append_text(Text.assemble(" " * GAP * (number > 0), blank * c.number, part, blank * (not c.number)))
        line.rstrip()
        console.print(line, style=style, soft_wrap=True)
