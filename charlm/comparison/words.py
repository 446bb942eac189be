"""A comparison in words: the cells of its table, and the sentences under it; for the terminal and for the page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from charlm.comparison.planning import WIDTH
from charlm.comparison.result import Comparison, Row
from charlm.models import ALL_ARCHITECTURES, CountingModel
from charlm.progress import duration
from charlm.training import Budget

PROOF = "stored"
"""The heading of the proofs: stored by claimed bits."""


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
    left_out = set() if any(row.spread is not None for row in result.rows) else {"seeds ±"}
    left_out |= set() if any(row.proof is not None for row in result.rows) else {PROOF}
    headings = ["model", "bits/char", "seeds ±", PROOF, "vs best ±", "perplexity", "params", "trained", "chars/s"]
    kinds = ["best"] + ["model"] * (len(result.rows) - 1)
    lines = [
        Line(kind, _row_cells(row, name, best=kind == "best"))
        for kind, row, name in zip(kinds, result.rows, result.names, strict=True)
    ]
    lines += [Line("baseline", _baseline_cells(name, bits, len(headings))) for name, bits in result.baselines.items()]
    lines.sort(key=lambda line: float(line.cells[1].value or 0.0))
    columns = [n for n, heading in enumerate(headings) if heading not in left_out]
    cut = [Line(kind, tuple(cells[n] for n in columns)) for kind, cells in lines]
    return [headings[n] for n in columns], cut


def _row_cells(row: Row, name: str, *, best: bool) -> tuple[Cell, ...]:
    d, bits, perplexity = row.difference, row.evaluation.bits_per_character, row.evaluation.perplexity
    half = (d.high - d.low) / 2
    sign = "≤" if row.upper_bound else ""
    return (
        Cell(name + ("" if row.finished else " (unfinished)"), name),
        Cell(f"{sign}{bits:.3f}", bits),
        Cell("" if row.spread is None else f"{row.spread:.3f}", row.spread),
        Cell("", None) if row.proof is None else Cell(f"{row.proof.ratio:.5f}", row.proof.ratio),
        Cell("best" if best else f"{d.mean:+.3f} ±{f'{half:.3f}' if math.isfinite(half) else '?'}", d.mean),
        Cell(f"{sign}{perplexity:.2f}", perplexity),
        Cell(short(row.parameters), row.parameters),
        Cell(duration(row.training_seconds), row.training_seconds),
        Cell(short(row.characters_per_second), row.characters_per_second),
    )


def _baseline_cells(name: str, bits: float, count: int) -> tuple[Cell, ...]:
    cells = {0: Cell(name, name), 1: Cell(f"{bits:.3f}", bits), 5: Cell(f"{2**bits:.2f}", 2**bits)}
    return tuple(cells.get(n, Cell("", None)) for n in range(count))


def pairs_table(result: Comparison) -> tuple[list[str], list[Line]]:
    """Headings, and a line for every two models: how much the first costs more than the second."""
    adapting = {name for name, row in zip(result.names, result.rows, strict=True) if row.adapts}
    lines = []
    for name, against, d in result.pairs():
        sure = math.isfinite(d.low)
        interval = f"{d.low:+.3f} to {d.high:+.3f}" if sure else "?"
        verdict = "text too short to tell" if not sure else "clearly worse" if d.low > 0 else "too close to tell"
        if (name in adapting) != (against in adapting):
            verdict += f"; {name if name in adapting else against} adapts"
        cells = (
            Cell(name, name),
            Cell(against, against),
            Cell(f"{d.mean:+.3f}", d.mean),
            Cell(interval, d.low if sure else None),
            Cell(verdict, verdict),
        )
        lines.append(Line("model", cells))
    return ["model", "against", "bits/char more", "95 % interval", "verdict"], lines


def lead(result: Comparison) -> list[str]:
    """Who predicts the text best; and the compressor that beats all models, all frozen ones or all networks."""
    text, bits = result.split.held_out.name, [row.evaluation.bits_per_character for row in result.rows]
    baseline, lowest = min(result.baselines.items(), key=lambda one: one[1], default=("", math.inf))
    if lowest < bits[0]:
        return [
            f"No model predicts {text} as well as {baseline}, which needs no training: "
            f"{lowest:.3f} bits per character.",
            f"The best model, {result.names[0]}, has {bits[0]:.3f}.",
        ]
    frozen = [n for n, row in enumerate(result.rows) if not row.adapts]
    networks = [n for n, row in enumerate(result.rows) if ALL_ARCHITECTURES[row.architecture].by_gradient]
    claim = f"{result.names[0]} predicts {text} best, at {bits[0]:.3f} bits per character"
    sentences = [f"{claim}, adapting to it as it reads." if result.rows[0].adapts else f"{claim}."]
    if result.rows[0].adapts and frozen:
        best = frozen[0]
        sentences.append(f"Of those that stay as they were trained, {result.names[best]} is best, at {bits[best]:.3f}.")
    for kind, those in (("model that stays as it was trained", frozen), ("network", networks)):
        if those and lowest < bits[those[0]]:
            return [*sentences, f"{baseline}, which needs no training, beats every {kind}: it has {lowest:.3f}."]
    return sentences


def notes(result: Comparison) -> Iterator[str]:
    """What to know about the table, a sentence or two each."""
    text, evaluation = result.split.held_out, result.rows[0].evaluation
    whole = "" if evaluation.context is None else f", each from the last {evaluation.context:,} before it"
    yield f"{text.name}: {text.characters:,} characters held out{whole}; {_training(result)}. Lower is better."
    seeds = max(len(row.seeds) for row in result.rows)
    spread = ", spread over seeds" if seeds > 1 else ""
    yield f"±: 95 % interval of the difference to the best (paired bootstrap over blocks{spread})."
    if seeds == 1 and not all(issubclass(ALL_ARCHITECTURES[row.architecture], CountingModel) for row in result.rows):
        yield "Each was trained once: how much another seed would change is not part of ±."
    yield from _scaled(result)
    yield from _times(result)
    yield from _disturbed(result)
    if not all(math.isfinite(row.difference.low) for row in result.rows[1:]):
        yield "±?: the text is too short to tell how sure the difference is."
    if seeds > 1:
        yield f"seeds ±: standard deviation over {seeds} seeds; the other figures are means. Counting has no seed."
    if any(row.upper_bound for row in result.rows):
        yield "≤: an upper bound; SentencePiece can cut a text in many ways, and one was scored."
    yield from _proofs(result)
    yield from _adaptation(result)
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


def _proofs(result: Comparison) -> Iterator[str]:
    """What was stored, and that it came back."""
    proofs = [row.proof for row in result.rows if row.proof is not None]
    if proofs:
        bits = max(proof.header_bits for proof in proofs)
        yield (
            f"{PROOF}: the bits that the text took, compressed by each model and decoded again, as a multiple of the "
            f"bits that its figure claims; the header of the file, up to {bits / 8:,.0f} bytes, is not counted."
        )


def _adaptation(result: Comparison) -> Iterator[str]:
    """Which models learn from the text that they are evaluated on, and what the others compare with."""
    named = list(zip(result.names, result.rows, strict=True))
    if not (adapting := [name for name, row in named if row.adapts]):
        return
    frozen = listed([name for name, row in named if row.frozen])
    if any(row.evaluation.adapt == "all" for _, row in named):
        yield f"{listed(adapting)} went on learning from the text: by counting it, networks by gradient steps."
        yield f"{frozen}: the same without that."
    elif len(adapting) == 1:
        yield f"{adapting[0]} adapts: it counts what it reads, too; {frozen} is the same run without that."
    else:
        yield f"{listed(adapting)} adapt: they count what they read, too."
        yield f"{frozen} are the same without that."
    if any(not row.adapts and not row.frozen for row in result.rows):
        instead = frozen if len(adapting) == 1 else "these"
        yield f"The others do not adapt either: compare them with {instead}, not with {listed(adapting)}."


def _training(result: Comparison) -> str:
    """What was asked for."""
    if result.budget is None:
        return "runs as they were trained"
    equal = f", {WIDTH}s for equally many parameters" if result.match == "parameters" else ""
    return f"{result.budget} of training asked for each{equal}"


def _scaled(result: Comparison) -> Iterator[str]:
    """Which networks were made equally large by another setting than their width, and which were not."""
    for name, setting in result.scaled.items():
        if setting is None:
            yield f"No setting of {name} scales it, so it has its own number of parameters."
        elif setting != WIDTH:
            yield f"{name} has no width: its {setting.replace('_', ' ')} was chosen instead."


def _times(result: Comparison) -> Iterator[str]:
    """What took another time than was asked for."""
    if result.budget is None:
        return
    named = [(name, row) for name, row in zip(result.names, result.rows, strict=True) if not row.frozen]
    if counted := _timed([(name, row) for name, row in named if row.conditions.budget is None]):
        yield f"Counting is never cut short, whatever was asked: {counted}."
    if asked := Budget.parse(result.budget).seconds:
        missed = [(n, r) for n, r in named if r.conditions.budget and abs(r.training_seconds - asked) > _slack(asked)]
        if off := _timed(missed):
            yield f"Training did not take the time that was asked for: {off}."


def _disturbed(result: Comparison) -> Iterator[str]:
    """Who learned from less text than its budget of time buys on a quiet machine."""
    slow = [f"{name} ({row.pace:.0%} of its usual pace)" for name, row in result.disturbed()]
    if slow:
        yield f"The machine was busy while these trained, so they learned from less text than usual: {listed(slow)}."


def _timed(named: Sequence[tuple[str, Row]]) -> str:
    """How long the training of each took."""
    return listed([f"{name} {duration(row.training_seconds)}" for name, row in named]) if named else ""


def _slack(seconds: float) -> float:
    """By how many seconds a run may miss its budget without a word."""
    return max(1.0, 0.1 * seconds)


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
