"""Tables and lists of facts on standard output: as wide as the terminal, plain lines in a pipe.

On a terminal no cell is cut: text is folded, and where that is not enough whole columns are left out and named below
the table. The first column, which identifies the rows, is folded last. In a pipe columns are aligned with spaces,
nothing is folded or drawn, and no line ends in a space.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from charlm.cli.glyphs import printable, sanitized
from charlm.cli.terminal import Terminal

MIN_FOLDED_CELLS = 16  # width below which no column of text is folded
GAP_CELLS = 2  # between columns

Cell = str | Text


@dataclass(frozen=True)
class Column:
    """A heading; whether the cells are numbers, right-aligned and never folded; and whether it can be left out.

    Where room is short, columns with `dispensable` above 0 are left out, the highest first.
    """

    heading: str
    number: bool = False
    dispensable: int = 0


def output() -> Console:
    """A console for standard output."""
    return Terminal()


def print_line(text: Cell = "", style: str = "") -> None:
    """Print a sentence: wrapped at words on a terminal, one line in a pipe."""
    console = output()
    console.print(text, style=style, soft_wrap=not console.is_terminal)


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], styles: Sequence[str] = ()) -> None:
    """Print rows of one cell a column below the headings, if there are any; `styles` has a style for each row.

    A cell that is a string is printed on one line; a cell of several lines is a Text.
    """
    console, body = output(), [[_text(cell) for cell in row] for row in rows]
    heading = [Text(c.heading, "bold") for c in columns]
    widths = [max(map(_width, cells)) for cells in zip(heading, *body, strict=True)]
    if console.is_terminal:
        widths = _fitted(columns, widths, console.width)
    if any(c.heading for c in columns):
        _print_row(console, columns, widths, heading)
        if console.is_terminal:
            console.print("─" * (sum(width + GAP_CELLS for width in widths if width) - GAP_CELLS), soft_wrap=True)
    for number, row in enumerate(body):
        _print_row(console, columns, widths, row, styles[number] if styles else "")
    if left_out := [c.heading for c, width in zip(columns, widths, strict=True) if not width and c.heading]:
        console.print(f"Not shown in {console.width} columns: {', '.join(left_out)}.", style="dim")


def print_facts(facts: Iterable[tuple[str, Cell]], title: str = "") -> None:
    """Print a name and a value a line. A name without a value is a heading, and two empty strings an empty line."""
    if title:
        print_line(title, "italic")
    rows = ((Text(name, "bold"), Text(sanitized(value)) if isinstance(value, str) else value) for name, value in facts)
    print_table([Column(""), Column("")], list(rows))


def _text(cell: Cell) -> Text:
    return Text(printable(cell)) if isinstance(cell, str) else cell


def _width(text: Text) -> int:
    return max((line.cell_len for line in text.split()), default=0)


def _fitted(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """The widths of the columns that fit into `room` cells together; 0 for a column that is left out."""
    narrowest = [w if c.number else min(w, MIN_FOLDED_CELLS) for c, w in zip(columns, widths, strict=True)]
    narrowest[0] = min(widths[0], max(MIN_FOLDED_CELLS, room // 2))
    shown = list(range(len(columns)))
    while _total(narrowest, shown) > room:
        last = max(shown, key=lambda n: columns[n].dispensable)
        if not columns[last].dispensable:
            narrowest[0] = min(widths[0], MIN_FOLDED_CELLS)
            break
        shown.remove(last)
    spare, fitted = max(0, room - _total(narrowest, shown)), [0] * len(columns)
    for n in shown:
        fitted[n] = min(widths[n], narrowest[n] + spare)
        spare -= fitted[n] - narrowest[n]
    return fitted


def _total(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[n] + GAP_CELLS for n in shown) - GAP_CELLS


def _print_row(
    console: Console, columns: Sequence[Column], widths: Sequence[int], row: Sequence[Text], style: str = ""
) -> None:
    """Print one row, on as many lines as its cells need."""
    cells = zip(columns, widths, row, strict=True)
    folded = [(c, width, cell.wrap(console, width, overflow="fold")) for c, width, cell in cells if width]
    for n in range(max((len(lines) for *_, lines in folded), default=0)):
        line = Text()
        for number, (c, width, lines) in enumerate(folded):
            part = lines[n] if n < len(lines) else Text()
            part.rstrip()
            gap, blank = " " * GAP_CELLS * (number > 0), " " * (width - part.cell_len)
            line.append_text(Text.assemble(gap, blank * c.number, part, blank * (not c.number)))
        line.rstrip()
        console.print(line, style=style, soft_wrap=True)
