"""`charlm score`: each character of a text, what it cost, and what was expected instead."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text as Line

from charlm import checkpoint
from charlm.analysis import Character, lens
from charlm.cli.glyphs import escaped, shown
from charlm.cli.options import (
    GroupedCommand,
    apply,
    decoding_options,
    device_option,
    option,
    refuse,
    threads_option,
)
from charlm.cli.runs import offered
from charlm.cli.tables import output
from charlm.cli.texts import as_utf8, note_line_ends, typed_or_piped
from charlm.corpus import Text
from charlm.errors import UsageError
from charlm.names import shell_quoted
from charlm.training import choose_device

ROWS = 256  # of the table, printed together
HEAT = (  # bits from which on, and how that looks
    (8, "white on #b01515"),
    (6, "black on #e8502a"),
    (4, "black on #ff8c3a"),
    (3, "black on #ffb347"),
    (2, "black on #ffd876"),
    (1, "black on #fff0bf"),
    (0, ""),
)
HEIGHTS = " ▁▂▃▄▅▆▇█"  # a bit each, where there is no colour


@click.command("score", cls=GroupedCommand)
@click.argument("arguments", nargs=-1, required=True, callback=as_utf8, metavar="[RUN] TEXT", shell_complete=offered)
@option("--top", type=click.IntRange(min=0), default=5, show_default=True, help="Predictions shown of each character.")
@apply(decoding_options("Encoding of standard input"))
@device_option()
@threads_option()
@option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(arguments: tuple[str, ...], top: int, encoding: str, wrong_bytes: str, device: str, as_json: bool) -> None:
    """Show each character of TEXT (- for standard input) with its bits under RUN, by default the newest.

    On a terminal the text is coloured by its bits. Elsewhere it becomes a table, columns separated by tabs: the
    character, its bits, its rank (1: it was the likeliest), and the likeliest at that place, each with its
    probability. There a backslash is \\\\, a tab \\t, a line feed \\n, and a byte of an unfinished character \\xHH.
    """
    path, text = _named(arguments, encoding, wrong_bytes)
    console = output()
    if console.is_terminal and not as_json:
        refuse({"top"}, "is for --json and for tables, which pipes get")
    run = checkpoint.load(path or checkpoint.newest())
    note_line_ends(text, run.history, run.tokenizer)
    characters = lens(run.model.to(choose_device(device)), run.tokenizer, text, top=top)
    if as_json:
        click.echo(json.dumps(_as_json(run.path, text, list(characters))))
    elif console.is_terminal:
        _print_heat(console, characters)
    else:
        rows = _rows(characters, top)
        while lines := list(islice(rows, ROWS)):
            click.echo("\n".join(lines))


def _named(arguments: tuple[str, ...], encoding: str, wrong_bytes: str) -> tuple[Path | None, Text]:
    """The run, if one is named, and the text."""
    if len(arguments) > 2:
        raise UsageError('more than RUN and TEXT: put the text into quotation marks: charlm score "To be, or not"')
    *run, text = arguments
    if not run and checkpoint.is_run(checkpoint.find_run(text)):
        raise UsageError(f"{text} is a run, and there is no text; give one after it, or - for standard input")
    command = " ".join(["charlm score", *map(shell_quoted, run)])
    read = typed_or_piped(text, "TEXT", command, encoding, wrong_bytes)
    return (checkpoint.find_run(run[0]) if run else None), read


def _rows(characters: Iterable[Character], top: int) -> Iterator[str]:
    names = (name for number in range(1, top + 1) for name in (f"prediction_{number}", f"probability_{number}"))
    yield "\t".join(["character", "bits", "rank", *names])
    for character in characters:
        fields = [escaped(character.text), f"{character.bits:.4f}", str(character.rank)]
        for prediction in character.predictions:
            text = escaped(prediction.text) if prediction.complete else prediction.text
            fields += [text, f"{prediction.probability:.4g}"]
        yield "\t".join(fields)


def _as_json(path: Path, text: Text, characters: list[Character]) -> dict[str, Any]:
    bits = sum(character.bits for character in characters)
    return {
        "run": str(path),
        "bits": bits,
        "bits_per_character": bits / text.characters,
        "characters": [
            {**character._asdict(), "predictions": [prediction._asdict() for prediction in character.predictions]}
            for character in characters
        ],
    }


def _print_heat(console: Console, characters: Iterable[Character]) -> None:
    """The text, as wide as the terminal, coloured by its bits; where there is no colour, with a bar under each one."""
    plain = console.no_color or console.color_system is None
    line, bars, count, total = Line(), "", 0, 0.0

    def print_line() -> None:
        console.print(line, soft_wrap=True)
        if plain:
            console.print(bars.rstrip(), soft_wrap=True, style="dim")

    for character in characters:
        glyph = shown(character.text)
        if line.cell_len + cell_len(glyph) > console.width:
            print_line()
            line, bars = Line(), ""
        line.append(glyph, "" if plain else next(style for bits, style in HEAT if character.bits >= bits))
        bars += HEIGHTS[min(round(character.bits), len(HEIGHTS) - 1)] * cell_len(glyph)
        count, total = count + 1, total + character.bits
        if character.text == "\n":
            print_line()
            line, bars = Line(), ""
    if line:
        print_line()
    legend = Line.assemble(*((f" {bits}+ ", style) for bits, style in reversed(HEAT) if style))
    if not plain:
        console.print(Line("bits ") + legend, soft_wrap=True)
    console.print(f"{count:,} characters, {total:,.1f} bits: {total / count:.3f} bits per character", soft_wrap=True)
