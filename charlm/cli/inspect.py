"""`charlm inspect`: what goes on within one run, drawn in the terminal."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text as Line

from charlm import checkpoint
from charlm.analysis import (
    AttentionMaps,
    EmbeddingMap,
    Gradients,
    Prediction,
    attention_maps,
    embedding_map,
    gradients_through_time,
    predict,
)
from charlm.cli.glyphs import bar, label
from charlm.cli.options import (
    Decorator,
    GroupedCommand,
    apply,
    device_option,
    moved_options,
    option,
    refuse,
    threads_option,
)
from charlm.cli.runs import RUN
from charlm.cli.tables import GAP, Cell, Column, output, print_line, print_table
from charlm.cli.texts import MOVED, Moved, as_utf8, note_line_ends, own_text, tell, typed_or_piped
from charlm.corpus import ReadingLog, Text
from charlm.names import shell_quoted
from charlm.training import choose_device

BAR = 48  # cells of the longest bar
DECADES = 8  # that a bar of gradients spans at most
SHADES = " ░▒▓█"
SHADED = (0.02, 0.1, 0.25, 0.5)  # the weights from which on each shade but the first is used
GRID = (96, 26)  # columns and rows of the map of embeddings, at most
LINE = 60  # characters of the text held out that attention is shown for


@click.group("inspect")
def command() -> None:
    """Look into one run: what the page of a comparison draws, in the terminal."""


def common(*more: Decorator) -> Decorator:
    """What every one of these takes: a run, a device, and whether JSON is wanted."""
    return apply(
        [
            click.argument("run", required=False, type=RUN),
            *more,
            device_option(),
            threads_option(),
            option("--json", "as_json", is_flag=True, help="Print JSON."),
        ]
    )


def text_option(default: str | None) -> Decorator:
    """The text that is looked at; without a default it has to be given."""
    shown = "" if default is None else f"  [default: {default}]"
    return option(
        "--text", required=default is None, callback=as_utf8, help=f"What is read, - for standard input.{shown}"
    )


def loaded(path: Path | None, device: str) -> checkpoint.Run:
    """The run, by default the newest, its model on the device."""
    run = checkpoint.load(path or checkpoint.newest())
    run.model.to(choose_device(device))
    return run


def text_of(run: checkpoint.Run, given: str | None, moved: Moved = ((), None)) -> Text:
    """What was given with --text, or what the run held out."""
    if given is None:
        log = ReadingLog()
        held_out = own_text(run, moved, log, "give another text with --text").held_out
        tell(log)
        return held_out
    refuse(MOVED, "says where the run's own text is, and --text takes its place")
    command = f"{click.get_current_context().command_path} {shell_quoted(run.path)} --text"
    text = typed_or_piped(given, "--text", command)
    note_line_ends(text, run.history, run.tokenizer)
    return text


def show(data: dict[str, Any], as_json: bool, draw: Callable[[Console], None]) -> None:
    """As JSON, or drawn."""
    click.echo(json.dumps(data)) if as_json else draw(output())


@command.command("gradients", cls=GroupedCommand)
@common(
    text_option("what the run held out"),
    *moved_options,
    option("--reach", type=click.IntRange(min=1), default=128, show_default=True, help="Tokens to look back."),
)
def gradients(
    run: Path | None,
    text: str | None,
    corpus_moved: tuple[str, ...],
    held_out_moved: str | None,
    reach: int,
    device: str,
    as_json: bool,
) -> None:
    """How far back RUN can learn from: the gradient of the loss by an input k tokens ago, for each k."""
    of = loaded(run, device)
    found = gradients_through_time(
        of.model, of.tokenizer, text_of(of, text, (corpus_moved, held_out_moved)), reach=reach
    )
    data = {"run": str(of.path), "positions": found.positions, "norms": found.norms.tolist()}
    show(data, as_json, lambda console: _draw_gradients(console, of.name, found))


def _draw_gradients(console: Console, name: str, found: Gradients) -> None:
    norms = found.norms
    top = math.ceil(math.log10(norms.max() or 1.0))
    least = norms[norms > 0].min(initial=norms.max() or 1.0)
    bottom = max(math.floor(math.log10(least)), top - DECADES)
    columns = [
        Column("k", number=True),
        Column("norm", number=True),
        Column(f"from 1e{bottom} to 1e{top}, logarithmic"),
    ]
    cells = _bar_cells(console, len(str(len(norms))) + len("1.0e-12"))
    rows: list[list[Cell]] = []
    for k in _spread(len(norms)):
        height = (math.log10(norms[k]) - bottom) / max(1, top - bottom) if norms[k] else 0.0
        rows.append([str(k), f"{norms[k]:.1e}" if norms[k] else "0", Line(bar(height, cells), "cyan")])
    print_line(f"{name}: gradient of the loss by the input k tokens ago")
    print_table(columns, rows)
    strong = int(np.flatnonzero(norms >= norms.max() / 100)[-1])
    far = f"at least {strong}" if strong == len(norms) - 1 else str(strong)
    print_line(f"Above a hundredth of the largest for {far} tokens; mean over {found.positions} positions.")


def _spread(count: int) -> Iterator[int]:
    """0, 1, 2, 3, 4, 6, 8, 12, ... and the last number below `count`."""
    yield from range(min(3, count))
    size = 3
    while size < count - 1:
        yield size
        size = size * 4 // 3 if size & (size - 1) else size * 3 // 2
    if count > 3:
        yield count - 1


@command.command("attention", cls=GroupedCommand)
@common(
    text_option(f"the first {LINE} characters that the run held out"),
    *moved_options,
    option("--layer", type=click.IntRange(min=1), default=None, help="Show this layer only.  [default: all]"),
    option("--head", type=click.IntRange(min=1), default=None, help="Show this head only.  [default: their mean]"),
)
def attention(
    run: Path | None,
    text: str | None,
    corpus_moved: tuple[str, ...],
    held_out_moved: str | None,
    layer: int | None,
    head: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Where a Transformer looks: how much each token (a row) takes of each before it (a column)."""
    of = loaded(run, device)
    line = text_of(of, text, (corpus_moved, held_out_moved)).slice(0, LINE if text is None else None).read()
    found = attention_maps(of.model, of.tokenizer, line)
    for name, number, count in (("layer", layer, len(found.weights)), ("head", head, found.weights.shape[1])):
        if number and number > count:
            raise click.BadParameter(f"{of.name} has {count}", param_hint=f"--{name}")
    chosen = found.weights[layer and layer - 1 : layer, head and head - 1 : head]
    data = {"run": str(of.path), "tokens": found.tokens, "weights": chosen.tolist()}
    show(data, as_json, lambda console: _draw_attention(console, found, layer, head))


def _draw_attention(console: Console, found: AttentionMaps, layer: int | None, head: int | None) -> None:
    labels = [label(token) or "⊢" for token in found.tokens]
    margin = max(map(cell_len, labels)) + 1
    shown = slice(max(0, len(labels) - max(1, console.width - margin)), None)
    for number, maps in enumerate(found.weights, 1):
        if layer in (None, number):
            weights = (maps.mean(0) if head is None else maps[head - 1])[shown, shown]
            console.print(Line(f"layer {number}, {'mean of the heads' if head is None else f'head {head}'}", "bold"))
            console.print(" " * margin + "".join(_cell(name) for name in labels[shown]), soft_wrap=True)
            for name, row in zip(labels[shown], weights, strict=True):
                cells = "".join(SHADES[level] for level in np.searchsorted(SHADED, row, side="right"))
                console.print(Line(" " * (margin - 1 - cell_len(name)) + name + " ") + Line(cells.rstrip(), "cyan"),
                              soft_wrap=True)  # fmt: skip
    dropped = f" The last {len(labels[shown])} of {len(labels)} tokens." if shown.start else ""
    names = ", ".join(f"{shade} {weight:.0%}" for shade, weight in zip(SHADES[1:], SHADED, strict=True))
    console.print(f"From {names} of what a token takes; ⊢ is the beginning.{dropped}", soft_wrap=True)


def _cell(name: str) -> str:
    """A token's first character if that fills one cell."""
    return name[0] if cell_len(name[0]) == 1 else "·"


@command.command("embeddings", cls=GroupedCommand)
@common()
def embeddings(run: Path | None, device: str, as_json: bool) -> None:
    """Where a network has put its characters: the two directions in which its embeddings differ most."""
    of = loaded(run, device)
    found = embedding_map(of.model, of.tokenizer)
    data = {"run": str(of.path), "tokens": found.tokens, "points": found.points.tolist(), "explained": found.explained}
    show(data, as_json, lambda console: _draw_embeddings(console, of.name, found))


def _draw_embeddings(console: Console, name: str, found: EmbeddingMap) -> None:
    columns, rows = min(console.width, GRID[0]), GRID[1]
    extent = np.abs(found.points).max(0, initial=1e-9)
    grid = [[" "] * columns for _ in range(rows)]
    left_out = 0
    for token, (x, y) in zip(found.tokens, found.points / extent, strict=True):
        text = label(token)
        width = cell_len(text)
        place = _free(grid, round((1 - y) / 2 * (rows - 1)), round((1 + x) / 2 * (columns - width)), width)
        if place is None:
            left_out += 1
            continue
        row, column = place
        grid[row][column : column + width] = [text, *[""] * (width - 1)]
    for cells in grid:
        line = Line.assemble(*((cell, _style(cell)) for cell in cells))
        line.rstrip()
        console.print(line, soft_wrap=True)
    across, up = found.explained
    more = f" {left_out} found no room." if left_out else ""
    shares = f"across {across:.1%} of how they differ, up {up:.1%}"
    console.print(f"{name}: {len(found.tokens)} embeddings; {shares}.{more}", soft_wrap=True)


def _free(grid: list[list[str]], row: int, column: int, width: int) -> tuple[int, int] | None:
    """The nearest place, none far, where so many cells and one on each side are free; a row counts as two columns."""
    near = ((r, c) for r in range(max(0, row - 4), row + 5) for c in range(max(0, column - 12), column + 13))
    for r, c in sorted(near, key=lambda place: 4 * (place[0] - row) ** 2 + (place[1] - column) ** 2):
        if r < len(grid) and c + width <= len(grid[r]) and set(grid[r][max(0, c - 1) : c + width + 1]) == {" "}:
            return r, c
    return None


def _style(text: str) -> str:
    """Letters and the rest in colours of their own."""
    return "cyan" if text.isupper() else "green" if text.islower() else "yellow" if text.isdigit() else "magenta"


@command.command("predict", cls=GroupedCommand)
@common(
    text_option(None),
    option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many are shown."),
)
def predictions(run: Path | None, text: str, top: int, device: str, as_json: bool) -> None:
    """What RUN expects after a text, likeliest first."""
    of = loaded(run, device)
    found = predict(of.model, of.tokenizer, text_of(of, text).read(), top=top)
    data = {"run": str(of.path), "text": text, "predictions": [prediction._asdict() for prediction in found]}
    show(data, as_json, lambda console: _draw_predictions(console, found))


def _draw_predictions(console: Console, found: tuple[Prediction, ...]) -> None:
    labels = [label(prediction.text) for prediction in found]
    largest = max((prediction.probability for prediction in found), default=1.0)
    cells = _bar_cells(console, max(map(cell_len, [*labels, "others"])) + len("100.0%"))
    rows: list[list[Cell]] = []
    for name, prediction in zip(labels, found, strict=True):
        share = prediction.probability
        percent = f"{share:.1%}" if share >= 5e-4 else "<0.1%"
        rows.append([name, percent, Line(bar(share / largest, cells), "cyan")])
    rest = max(0.0, 1 - sum(prediction.probability for prediction in found))
    print_table([Column("", number=True), Column("", number=True), Column("")], [*rows, ["others", f"{rest:.1%}", ""]])


def _bar_cells(console: Console, taken: int) -> int:
    """The longest bar, in cells, beside two columns that have `taken` so many."""
    return min(BAR, max(1, console.width - taken - 2 * GAP)) if console.is_terminal else BAR
