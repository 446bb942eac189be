"""A comparison on standard output for a README or a paper, as Markdown and as LaTeX."""

import re
from collections.abc import Callable, Iterator, Sequence

from charlm.cli.ranking import PAIRS
from charlm.cli.terminal import echo
from charlm.comparison import Cell, Comparison, Line, lead, notes, pairs_table, table

Table = tuple[list[str], list[Line]]  # headings and lines

MARKDOWN = str.maketrans({sign: "\\" + sign for sign in "\\`*_[]<>|~#&"})
LATEX = str.maketrans(
    {sign: "\\" + sign for sign in "&%$#_{}"}
    | {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
    | {"<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}", '"': "''"}
    | {"±": "$\\pm$", "≤": "$\\leq$", "–": "--", "…": "\\ldots{}"}
)
SIGN = re.compile(r"(?<!\S)[-+](?=\d)")  # of a number, which LaTeX sets in math mode


def as_markdown(result: Comparison, pairs: bool) -> None:
    """Print the table as GitHub and pandoc read it, between its lead and its notes; with `pairs` that of all pairs."""
    if result.rows:
        parts = [[_markdown(" ".join(lead(result)))], _markdown_table(table(result))]
        parts += [[f"- {_markdown(note)}" for note in notes(result)]]
        parts += [_markdown_table(pairs_table(result)), [_markdown(PAIRS)]] if pairs else []
        echo("\n\n".join("\n".join(part) for part in parts))


def as_latex(result: Comparison, pairs: bool) -> None:
    """Print the table for the booktabs package, its lead and notes as comments; with `pairs` that of all pairs."""
    if result.rows:
        comments = ["\\usepackage{booktabs} in the preamble", *lead(result), *notes(result)]
        lines = [f"% {' '.join(comment.split())}" for comment in comments]
        lines += _latex_table(table(result))
        lines += ["", f"% {PAIRS}", *_latex_table(pairs_table(result))] if pairs else []
        echo("\n".join(lines))


def _markdown_table(table: Table) -> list[str]:
    headings, lines = table
    rules = [":---" if left else "---:" for left in _are_words(table)]
    rows = [map(_markdown, headings), rules, *(map(_markdown, texts) for texts in _texts(lines, lambda c: c.text))]
    return [f"| {' | '.join(row)} |" for row in rows]


def _latex_table(table: Table) -> list[str]:
    headings, lines = table
    columns = "".join("l" if left else "r" for left in _are_words(table))
    head = _latex_row(map(_latex, headings))
    body = [_latex_row(texts) for texts in _texts(lines, _latex_cell)]
    rules = ["\\toprule", head, "\\midrule", *body, "\\bottomrule"]
    return [f"\\begin{{tabular}}{{{columns}}}", *rules, "\\end{tabular}"]


def _are_words(table: Table) -> list[bool]:
    """Which columns are words, aligned to the left: those whose cells sort as text."""
    headings, lines = table
    return [all(isinstance(line.cells[n].value, str) for line in lines) for n in range(len(headings))]


def _texts(lines: Sequence[Line], spelled: Callable[[Cell], str]) -> Iterator[list[str]]:
    return ([spelled(cell) for cell in line.cells] for line in lines)


def _markdown(text: str) -> str:
    return " ".join(text.split()).translate(MARKDOWN)


def _latex(text: str) -> str:
    return " ".join(text.split()).translate(LATEX)


def _latex_cell(cell: Cell) -> str:
    escaped = _latex(cell.text)
    return escaped if isinstance(cell.value, str) else SIGN.sub(lambda sign: f"${sign[0]}$", escaped)


def _latex_row(cells: "Iterator[str] | list[str] | map[str]") -> str:
    return " & ".join(cells) + " \\\\"
