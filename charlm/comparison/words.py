"""A comparison in words: the cells of its table, and the sentences under it; for the terminal and for the page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from charlm.comparison.result import Comparison, Row


class Cell(NamedTuple):
    """What a cell shows, and by what it is put in order; None: it goes last."""

    text: str
    value: float | str | None


class Line(NamedTuple):
    """A line of the table: one cell a heading. `kind` is best, model or baseline."""

    kind: str
    cells: tuple[Cell, ...]


def table(result: Comparison) -> tuple[list[str], list[Line]]:
    """Headings, and lines from best to worst: the contenders and what needs no model."""
    seeds = any(row.spread is not None for row in result.rows)
    headings = ["model", "bits/char", "seeds ±", "vs best ±", "perplexity", "params", "trained", "chars/s"]
    kinds = ["best"] + ["model"] * (len(result.rows) - 1)
    lines = [
        Line(kind, _row_cells(row, name, best=kind == "best"))
        for kind, row, name in zip(kinds, result.rows, result.names, strict=True)
    ]
    lines += [Line("baseline", _baseline_cells(name, bits, len(headings))) for name, bits in result.baselines.items()]
    lines.sort(key=lambda line: float(line.cells[1].value or 0.0))
    shown = [n for n, heading in enumerate(headings) if seeds or heading != "seeds ±"]
    cut = [Line(kind, tuple(cells[n] for n in shown)) for kind, cells in lines]
    return [headings[n] for n in shown], cut


def _row_cells(row: Row, name: str, *, best: bool) -> tuple[Cell, ...]:
    d, bits, perplexity = row.difference, row.evaluation.bits_per_character, row.evaluation.perplexity
    half = (d.high - d.low) / 2
    sign = "≤" if row.upper_bound else ""
    return (
        Cell(name + ("" if row.finished else " (unfinished)"), name),
        Cell(f"{sign}{bits:.3f}", bits),
        Cell("" if row.spread is None else f"{row.spread:.3f}", row.spread),
        Cell("best" if best else f"{d.mean:+.3f} ±{f'{half:.3f}' if math.isfinite(half) else '?'}", d.mean),
        Cell(f"{sign}{perplexity:.2f}", perplexity),
        Cell(short(row.parameters), row.parameters),
        Cell(duration(row.training_seconds), row.training_seconds),
        Cell(short(row.characters_per_second), row.characters_per_second),
    )


def _baseline_cells(name: str, bits: float, count: int) -> tuple[Cell, ...]:
    shown = {0: Cell(name, name), 1: Cell(f"{bits:.3f}", bits), 4: Cell(f"{2**bits:.2f}", 2**bits)}
    return tuple(shown.get(n, Cell("", None)) for n in range(count))


def notes(result: Comparison) -> Iterator[str]:
    """What to know about the table, a sentence or two each."""
    text, evaluation = result.split.held_out, result.rows[0].evaluation
    whole = "" if evaluation.context is None else f", each from the last {evaluation.context:,} before it"
    yield f"{text.name}: {text.characters:,} characters held out{whole}; {_training(result)}. Lower is better."
    yield "±: 95 % interval of the difference to the best (paired bootstrap over blocks)."
    if not all(math.isfinite(row.difference.low) for row in result.rows[1:]):
        yield "±?: the text is too short to tell how sure the difference is."
    if seeds := max(len(row.seeds) for row in result.rows) - 1:
        yield f"seeds ±: standard deviation over {seeds + 1} seeds; the other figures are means. Counting has no seed."
    if any(row.upper_bound for row in result.rows):
        yield "≤: an upper bound; SentencePiece can cut a text in many ways, and one was scored."
    if adapting := [name for name, row in zip(result.names, result.rows, strict=True) if row.adapts]:
        yield f"The text being read is counted too by {listed(adapting)} (not with --cache 0); the rest learn no more."
    if unseen := [row.evaluation for row in result.rows if row.evaluation.unseen_characters]:
        costs = [e.unseen_bits / e.unseen_characters for e in unseen]
        yield (
            f"{max(e.unseen_characters for e in unseen):,} of the characters never occur in training; "
            f"they are paid for in full, {min(costs):.1f} to {max(costs):.1f} bits each."
        )
    for what, values in result.conditions().items():
        if len(values) > 1:
            yield f"Not the same {what}: {differing(values)}."
    if result.stopped:
        yield "Stopped before the end: some contenders and the compressors are missing."


def _training(result: Comparison) -> str:
    if result.budget is None:
        return "runs as they were trained"
    equal = ", widths for equally many parameters" if result.match == "parameters" else ""
    return f"{result.budget} of training each{equal}"


def differing(values: Mapping[str, list[str]]) -> str:
    """Who had which value."""
    return "; ".join(f"{listed(names)} {value}" for value, names in values.items())


def listed(names: Sequence[str]) -> str:
    """One; one and another; one, another and a third."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def short(number: float) -> str:
    """Three digits or so: 950, 12.3k, 1.20M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 8 s, 1:30, 2:05:00."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
