"""`charlm inspect`: a look inside one run, drawn in the terminal."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
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
from charlm.cli.glyphs import block_bar, visible
from charlm.cli.options import (
    Decorator,
    GroupedCommand,
    apply,
    device_option,
    integer_option,
    json_option,
    option,
    refuse,
    threads_option,
)
from charlm.cli.runs import RUN
from charlm.cli.tables import GAP_CELLS, Cell, Column, output, print_line, print_table
from charlm.cli.text_options import MOVED, moved_options
from charlm.cli.texts import as_utf8, note_line_ends, own_text, show_notes, typed_or_piped
from charlm.corpus import ReadingLog, Text
from charlm.names import shell_quoted
from charlm.training import choose_device

MAX_BAR_CELLS = 48
MAX_DECADES = 8  # powers of ten that the bars of gradients span
SHADES = " ░▒▓█"
SHADE_THRESHOLDS = (0.02, 0.1, 0.25, 0.5)  # attention weights from which on each shade after the first is used
MAX_MAP_COLUMNS, MAP_ROWS = 96, 26  # of the map of embeddings
MAX_SHIFT_COLUMNS, MAX_SHIFT_ROWS = 12, 4  # by which a label of the map moves where its place is taken
ATTENTION_CHARACTERS = 60  # of the held-out text, whose attention is shown where no text is given


@click.group("inspect")
def command() -> None:
    """Look inside one run: what the page of a comparison draws, in the terminal."""


def common_options(*more: Decorator) -> Decorator:
    """The parameters of every command here: a run, `more`, a device and --json."""
    return apply(
        [
            click.argument("run", required=False, type=RUN),
            *more,
            device_option(),
            threads_option(),
            json_option("Print JSON."),
        ]
    )


def text_option(default: str | None) -> Decorator:
    """--text; required where it has no default."""
    note = "" if default is None else f"  [default: {default}]"
    return option(
        "--text", required=default is None, callback=as_utf8, help=f"The text to read, - for standard input.{note}"
    )


def load_run(values: Mapping[str, Any]) -> checkpoint.Run:
    """The run that was named, by default the newest, with its model on the device."""
    run = checkpoint.load(values["run"] or checkpoint.newest())
    run.model.to(choose_device(values["device"]))
    return run


def text_of(run: checkpoint.Run, values: Mapping[str, Any]) -> Text:
    """The text of --text, by default the held-out text of the run."""
    if values["text"] is None:
        log = ReadingLog()
        moved = (values["corpus_moved"], values["held_out_moved"])
        held_out = own_text(run, moved, log, "give another text with --text").held_out
        show_notes(log)
        return held_out
    refuse(MOVED, "says where the run's own text is, and --text takes its place")
    command = f"{click.get_current_context().command_path} {shell_quoted(run.path)} --text"
    text = typed_or_piped(values["text"], "--text", command)
    note_line_ends(text, run.history, run.tokenizer)
    return text


def show(run: checkpoint.Run, data: dict[str, Any], as_json: bool, draw: Callable[[Console], None]) -> None:
    """Print the data of a run as JSON, or draw it."""
    if as_json:
        click.echo(json.dumps({"run": str(run.path), **data}))
    else:
        draw(output())


@command.command("gradients", cls=GroupedCommand)
@common_options(
    text_option("what the run held out"),
    *moved_options,
    integer_option("--reach", low=1, default=128, help="How many tokens to look back."),
)
def gradients(reach: int, as_json: bool, **values: Any) -> None:
    """How far back RUN can learn from: the gradient of the loss by an input k tokens ago, for each k."""
    run = load_run(values)
    through_time = gradients_through_time(run.model, run.tokenizer, text_of(run, values), reach=reach)
    data = {"positions": through_time.positions, "norms": through_time.norms.tolist()}
    show(run, data, as_json, lambda console: _draw_gradients(console, run.name, through_time))


def _draw_gradients(console: Console, name: str, gradients: Gradients) -> None:
    norms = gradients.norms
    largest = norms.max() or 1.0
    top = math.ceil(math.log10(largest))
    bottom = max(math.floor(math.log10(norms[norms > 0].min(initial=largest))), top - MAX_DECADES)
    columns = [
        Column("k", number=True),
        Column("norm", number=True),
        Column(f"from 1e{bottom} to 1e{top}, logarithmic"),
    ]
    cells = _bar_cells(console, len(str(len(norms))) + len("1.0e-12"))
    rows: list[list[Cell]] = []
    for k in _spread(len(norms)):
        height = (math.log10(norms[k]) - bottom) / max(1, top - bottom) if norms[k] else 0.0
        rows.append([str(k), f"{norms[k]:.1e}" if norms[k] else "0", Line(block_bar(height, cells), "cyan")])
    print_line(f"{name}: gradient of the loss by the input k tokens ago")
    print_table(columns, rows)
    strong = int(np.flatnonzero(norms >= norms.max() / 100)[-1])
    reach = f"at least {strong}" if strong == len(norms) - 1 else str(strong)
    print_line(f"Above a hundredth of the largest for {reach} tokens; mean over {gradients.positions} positions.")


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
@common_options(
    text_option(f"the first {ATTENTION_CHARACTERS} characters that the run held out"),
    *moved_options,
    integer_option("--layer", low=1, help="Show this layer only.  [default: all]"),
    integer_option("--head", low=1, help="Show this head only.  [default: their mean]"),
)
def attention(layer: int | None, head: int | None, as_json: bool, **values: Any) -> None:
    """Where a Transformer looks: how much each token (a row) takes of each before it (a column)."""
    run = load_run(values)
    text = text_of(run, values).slice(0, ATTENTION_CHARACTERS if values["text"] is None else None).read()
    maps = attention_maps(run.model, run.tokenizer, text)
    for name, number, count in (("layer", layer, len(maps.weights)), ("head", head, maps.weights.shape[1])):
        if number and number > count:
            raise click.BadParameter(f"{run.name} has {count}", param_hint=f"--{name}")
    chosen = maps.weights[layer and layer - 1 : layer, head and head - 1 : head]
    data = {"tokens": maps.tokens, "weights": chosen.tolist()}
    show(run, data, as_json, lambda console: _draw_attention(console, maps, layer, head))


def _draw_attention(console: Console, attention: AttentionMaps, layer: int | None, head: int | None) -> None:
    labels = [visible(token) or "⊢" for token in attention.tokens]
    margin = max(map(cell_len, labels)) + 1
    last = slice(max(0, len(labels) - max(1, console.width - margin)), None)  # as many as there is room for
    for number, maps in enumerate(attention.weights, 1):
        if layer in (None, number):
            weights = (maps.mean(0) if head is None else maps[head - 1])[last, last]
            console.print(Line(f"layer {number}, {'mean of the heads' if head is None else f'head {head}'}", "bold"))
            console.print(" " * margin + "".join(_cell(name) for name in labels[last]), soft_wrap=True)
            for name, row in zip(labels[last], weights, strict=True):
                cells = "".join(SHADES[level] for level in np.searchsorted(SHADE_THRESHOLDS, row, side="right"))
                console.print(Line(" " * (margin - 1 - cell_len(name)) + name + " ") + Line(cells.rstrip(), "cyan"),
                              soft_wrap=True)  # fmt: skip
    left_out = f" The last {len(labels[last])} of {len(labels)} tokens." if last.start else ""
    legend = ", ".join(f"{shade} {weight:.0%}" for shade, weight in zip(SHADES[1:], SHADE_THRESHOLDS, strict=True))
    console.print(f"From {legend} of what a token takes; ⊢ is the beginning.{left_out}", soft_wrap=True)


def _cell(name: str) -> str:
    """A token's first character if that fills one cell."""
    return name[0] if cell_len(name[0]) == 1 else "·"


@command.command("embeddings", cls=GroupedCommand)
@common_options()
def embeddings(as_json: bool, **values: Any) -> None:
    """Where a network has put its characters: the two directions in which its embeddings differ most."""
    run = load_run(values)
    points = embedding_map(run.model, run.tokenizer)
    data = {"tokens": points.tokens, "points": points.points.tolist(), "explained": points.explained}
    show(run, data, as_json, lambda console: _draw_embeddings(console, run.name, points))


def _draw_embeddings(console: Console, name: str, embeddings: EmbeddingMap) -> None:
    columns = min(console.width, MAX_MAP_COLUMNS)
    extent = np.abs(embeddings.points).max(0, initial=1e-9)
    grid = [[" "] * columns for _ in range(MAP_ROWS)]
    left_out = 0
    for token, (x, y) in zip(embeddings.tokens, embeddings.points / extent, strict=True):
        text = visible(token)
        width = cell_len(text)
        place = _free_place(grid, round((1 - y) / 2 * (MAP_ROWS - 1)), round((1 + x) / 2 * (columns - width)), width)
        if place is None:
            left_out += 1
            continue
        row, column = place
        grid[row][column : column + width] = [text, *[""] * (width - 1)]
    for cells in grid:
        line = Line.assemble(*((cell, _style(cell)) for cell in cells))
        line.rstrip()
        console.print(line, soft_wrap=True)
    across, up = embeddings.explained
    more = f" {left_out} found no room." if left_out else ""
    shares = f"across {across:.1%} of how they differ, up {up:.1%}"
    console.print(f"{name}: {len(embeddings.tokens)} embeddings; {shares}.{more}", soft_wrap=True)


def _free_place(grid: list[list[str]], row: int, column: int, width: int) -> tuple[int, int] | None:
    """The nearest place with `width` free cells and one more on each side; a row counts as two columns."""
    rows = range(max(0, row - MAX_SHIFT_ROWS), row + MAX_SHIFT_ROWS + 1)
    columns = range(max(0, column - MAX_SHIFT_COLUMNS), column + MAX_SHIFT_COLUMNS + 1)
    places = ((r, c) for r in rows for c in columns)
    for r, c in sorted(places, key=lambda place: 4 * (place[0] - row) ** 2 + (place[1] - column) ** 2):
        if r < len(grid) and c + width <= len(grid[r]) and set(grid[r][max(0, c - 1) : c + width + 1]) == {" "}:
            return r, c
    return None


def _style(text: str) -> str:
    """Upper case, lower case, digits and the rest have a colour each."""
    return "cyan" if text.isupper() else "green" if text.islower() else "yellow" if text.isdigit() else "magenta"


@command.command("predict", cls=GroupedCommand)
@common_options(
    text_option(None),
    integer_option("--top", low=1, default=10, help="How many predictions to show."),
)
def predictions(top: int, as_json: bool, **values: Any) -> None:
    """What RUN expects after a text, likeliest first."""
    run = load_run(values)
    likeliest = predict(run.model, run.tokenizer, text_of(run, values).read(), top=top)
    data = {"text": values["text"], "predictions": [prediction._asdict() for prediction in likeliest]}
    show(run, data, as_json, lambda console: _draw_predictions(console, likeliest))


def _draw_predictions(console: Console, predictions: tuple[Prediction, ...]) -> None:
    labels = [visible(prediction.text) for prediction in predictions]
    largest = max((prediction.probability for prediction in predictions), default=1.0)
    cells = _bar_cells(console, max(map(cell_len, [*labels, "others"])) + len("100.0%"))
    rows: list[list[Cell]] = []
    for name, prediction in zip(labels, predictions, strict=True):
        share = prediction.probability
        percent = f"{share:.1%}" if share >= 5e-4 else "<0.1%"
        rows.append([name, percent, Line(block_bar(share / largest, cells), "cyan")])
    rest = max(0.0, 1 - sum(prediction.probability for prediction in predictions))
    print_table([Column("", number=True), Column("", number=True), Column("")], [*rows, ["others", f"{rest:.1%}", ""]])


def _bar_cells(console: Console, other_cells: int) -> int:
    """The length of the longest bar beside two columns of `other_cells` together."""
    room = max(1, console.width - other_cells - 2 * GAP_CELLS)
    return min(MAX_BAR_CELLS, room) if console.is_terminal else MAX_BAR_CELLS
