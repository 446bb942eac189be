"""`charlm score`: each character of a text, its bits, and the predictions in its place."""

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
from charlm.cli.glyphs import escaped, printable
from charlm.cli.options import (
    GroupedCommand,
    adapt_option,
    apply,
    device_option,
    integer_option,
    json_option,
    refuse,
    threads_option,
)
from charlm.cli.runs import complete_runs
from charlm.cli.tables import output
from charlm.cli.text_options import decoding_options
from charlm.cli.texts import as_utf8, note_line_ends, typed_or_piped
from charlm.corpus import Text
from charlm.errors import UsageError
from charlm.models import adapted
from charlm.names import shell_quoted
from charlm.training import choose_device

ROWS_PER_WRITE = 256
BIT_STYLES = (  # from how many bits on a character has each style
    (8, "white on #b01515"),
    (6, "black on #e8502a"),
    (4, "black on #ff8c3a"),
    (3, "black on #ffb347"),
    (2, "black on #ffd876"),
    (1, "black on #fff0bf"),
    (0, ""),
)
BIT_BLOCKS = " ▁▂▃▄▅▆▇█"  # one a bit, where there is no colour


@click.command("score", cls=GroupedCommand)
@click.argument(
    "arguments", nargs=-1, required=True, callback=as_utf8, metavar="[RUN] TEXT", shell_complete=complete_runs
)
@integer_option("--top", low=0, default=5, help="How many predictions to show for each character.")
@apply(decoding_options("standard input"))
@adapt_option()
@device_option()
@threads_option()
@json_option("Print JSON.")
def command(
    arguments: tuple[str, ...], top: int, encoding: str, wrong_bytes: str, as_json: bool, **values: Any
) -> None:
    """Show each character of TEXT (- for standard input) with its bits under RUN, by default the newest.

    On a terminal the text is coloured by its bits. In a pipe it is a table of tab-separated columns: the character, its
    bits, its rank (1: the likeliest), and the likeliest predictions in its place, each with its probability. A
    backslash is written \\\\, a tab \\t, a line feed \\n, and a byte of an unfinished character \\xHH.
    """
    path, text = _run_and_text(arguments, encoding, wrong_bytes)
    console = output()
    if console.is_terminal and not as_json:
        refuse({"top"}, "is for --json and for tables, which pipes get")
    run = checkpoint.load(path or checkpoint.newest())
    note_line_ends(text, run.history, run.tokenizer)
    model = adapted(run.model.to(choose_device(values["device"])), values["adaptation"])
    characters = lens(model, run.tokenizer, text, top=top)
    if as_json:
        click.echo(json.dumps(_as_json(run.path, text, list(characters))))
    elif console.is_terminal:
        _print_heat(console, characters)
    else:
        rows = _rows(characters, top)
        while lines := list(islice(rows, ROWS_PER_WRITE)):
            click.echo("\n".join(lines))


def _run_and_text(arguments: tuple[str, ...], encoding: str, wrong_bytes: str) -> tuple[Path | None, Text]:
    """The run, if one is named, and the text."""
    if len(arguments) > 2:
        raise UsageError('more than RUN and TEXT: put the text into quotation marks: charlm score "To be, or not"')
    *run, text = arguments
    if not run and checkpoint.is_run(checkpoint.find_run(text)):
        raise UsageError(f"{text} is a run, and there is no text; give one after it, or - for standard input")
    command = " ".join(["charlm score", *map(shell_quoted, run)])
    path = checkpoint.find_run(run[0]) if run else None
    return path, typed_or_piped(text, "TEXT", command, encoding, wrong_bytes)


def _rows(characters: Iterable[Character], top: int) -> Iterator[str]:
    """The lines of the table."""
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
    """Print the text as wide as the terminal, coloured by its bits; without colour, with a bar below each character."""
    plain = console.no_color or console.color_system is None
    line, bars, count, total_bits = Line(), "", 0, 0.0

    def print_line() -> None:
        console.print(line, soft_wrap=True)
        if plain:
            console.print(bars.rstrip(), soft_wrap=True, style="dim")

    for character in characters:
        glyph = printable(character.text)
        if line.cell_len + cell_len(glyph) > console.width:
            print_line()
            line, bars = Line(), ""
        line.append(glyph, "" if plain else next(style for bits, style in BIT_STYLES if character.bits >= bits))
        bars += BIT_BLOCKS[min(round(character.bits), len(BIT_BLOCKS) - 1)] * cell_len(glyph)
        count, total_bits = count + 1, total_bits + character.bits
        if character.text == "\n":
            print_line()
            line, bars = Line(), ""
    if line:
        print_line()
    legend = Line.assemble(*((f" {bits}+ ", style) for bits, style in reversed(BIT_STYLES) if style))
    if not plain:
        console.print(Line("bits ") + legend, soft_wrap=True)
    mean = total_bits / count
    console.print(f"{count:,} characters, {total_bits:,.1f} bits: {mean:.3f} bits per character", soft_wrap=True)
