"""`charlm info`: what a run is, which runs there are, what this machine can do."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from charlm import checkpoint
from charlm.cli.options import GroupedCommand, option
from charlm.cli.runs import RUN
from charlm.comparison import duration
from charlm.corpus import STANDARD_INPUT, encode, reopen
from charlm.errors import CharlmError, UsageError
from charlm.models.ngram import NGram
from charlm.models.ngram.summary import summary

LOOKED_UP = 1_000_000  # tokens of the text held out, at most, to see which n-grams match
WIDE = 1000  # columns, where no terminal says how many there are
HEADINGS = {"validation_bits_per_character": "bits/char", "age_seconds": "age"}  # where the name is too long


@click.command("info", cls=GroupedCommand)
@click.argument("run", required=False, type=RUN)
@option("--device", "devices_wanted", is_flag=True, help="Show which devices this machine has, and their precision.")
@option("--json", "json_wanted", is_flag=True, help="Print JSON.")
def command(run: Path | None, devices_wanted: bool, json_wanted: bool) -> None:
    """Show what RUN is; without one list the runs in checkpoints/, the newest first."""
    if run and devices_wanted:
        raise UsageError("--device is about this machine, not about a run: give one of them")
    if devices_wanted:
        found = _devices()
        click.echo(json.dumps(found)) if json_wanted else _print_table(found)
    elif run:
        content = _content(run)
        click.echo(json.dumps(content)) if json_wanted else _print_run(content)
    else:
        listed = [_summary(path) for path in checkpoint.runs()]
        if json_wanted:
            click.echo(json.dumps(listed))
        elif listed:
            _print_table(listed)
        else:
            click.echo(f"No run in {checkpoint.RUNS}/ yet; make one:  charlm train builtin:python-reference", err=True)


def _summary(path: Path) -> dict[str, Any]:
    """What the list says of a run: the facts that are known, else None."""
    age = time.time() - (path / checkpoint.CARD).stat().st_mtime
    try:
        card = checkpoint.read_card(path)
        return {
            "run": path.name,
            "architecture": card.get("architecture"),
            "parameters": card.get("parameters"),
            "corpus": _part(card, "corpus").get("name"),
            "validation_bits_per_character": _validation(path),
            "finished": _part(card, "progress").get("finished"),
            "age_seconds": age,
        }
    except CharlmError as problem:
        return {"run": path.name, "problem": str(problem), "age_seconds": age}


def _part(card: dict[str, Any], name: str) -> dict[str, Any]:
    """An object within a card; an empty one where the card has something else there."""
    part = card.get(name)
    return part if isinstance(part, dict) else {}


def _content(path: Path) -> dict[str, Any]:
    """All that a run's card says, after every file was checked; and of an n-gram, what it is made of."""
    run = checkpoint.load(path)
    card = checkpoint.read_card(path)
    known = {"run": str(path), "validation_bits_per_character": _validation(path)}
    return {**known, **card, **(_ngrams(run) if isinstance(run.model, NGram) else {})}


def _ngrams(run: checkpoint.Run) -> dict[str, Any]:
    """Length by length, how many n-grams there are, and how often they are the longest to match the held-out text."""
    assert isinstance(run.model, NGram)
    try:
        ids = encode(reopen(run.about.get("corpus")).held_out, run.tokenizer)[:LOOKED_UP]
        what = f"of {len(ids):,} tokens held out, the share whose longest known n-gram has this length"
    except CharlmError:
        ids, what = None, "unknown: the text that the run held out cannot be read again"
    lengths = summary(run.model, run.about.get("discounts") or (), ids)
    return {"ngrams": [asdict(length) for length in lengths], "matched": what}


def _validation(path: Path) -> float | None:
    """The best bits per character on the validation slice, from the run's metrics; None where none were made."""
    found = [entry.get("best") for entry in checkpoint.read_metrics(path)]
    return next((best for best in reversed(found) if isinstance(best, float)), None)


def _devices() -> list[dict[str, Any]]:
    """Each device there is, whether `auto` takes it, the type it computes in, why, and how fast `--size auto` takes it
    to be, two cores with AMX being 1.
    """
    import torch

    from charlm.models.stepping import compiler
    from charlm.training import choose_device, speed
    from charlm.training.computing import bfloat16_reason, compute_type

    whys: dict[str, Callable[[], str]] = {
        "cpu": lambda: f"{torch.get_num_threads()} threads; {bfloat16_reason()[1]}; numba: {compiler()}",
        "cuda": lambda: str(torch.cuda.get_device_name()),
        "mps": lambda: "Apple's GPU",
    }
    found = []
    for name, why in whys.items():
        try:
            device = choose_device(name)
        except UsageError:
            continue
        precision = str(compute_type("auto", device)).removeprefix("torch.")
        taken = {
            "auto": choose_device("auto") == device,
            "precision": precision,
            "speed": round(speed("auto", device), 2),
        }
        found.append({"device": name, **taken, "why": why()})
    return found


def _print_run(content: dict[str, Any]) -> None:
    lengths = content.pop("ngrams", [])
    matched = content.pop("matched", "")
    content.pop("discounts", None)
    parents = [_parent(entry) for entry in checkpoint.parents(content)]
    content.pop(checkpoint.PARENTS, None)
    if parents:
        content["trained on from"] = parents
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in content.items():
        if isinstance(value, dict):
            table.add_row()
            table.add_row(Text(name))
            for inner, entry in value.items():
                table.add_row(Text(f"  {_words(inner)}"), Text(_plain(inner, entry)))
        else:
            table.add_row(Text(_words(name)), Text(_plain(name, value)))
    _console().print(table)
    if lengths:
        _print_ngrams(lengths, matched)


def _parent(entry: dict[str, Any]) -> str:
    """A run that this one was trained on from: its folder, its weights, and the text that it had learned from."""
    corpus = _part(entry, "corpus")
    sources = _plain("sources", corpus.get("sources"))
    return f"{entry.get('run')} (weights {str(entry.get('weights'))[:12]}…), which learned from {sources}"


def _print_ngrams(lengths: list[dict[str, Any]], matched: str) -> None:
    names = ("length", "n-grams", "D1", "D2", "D3+", "MB", "matched*")
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, justify="right")
    for entry in lengths:
        discounts = [f"{d:.4f}" for d in entry["discounts"] or ()] or ["–"] * 3
        share = "–" if entry["matched"] is None else f"{entry['matched']:.1%}"
        table.add_row(str(entry["length"]), f"{entry['ngrams']:,}", *discounts, f"{entry['megabytes']:.1f}", share)
    console = _console()
    console.print("", table, f"* {matched}", sep="\n", soft_wrap=True)


def _print_table(entries: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    table = Table(*(HEADINGS.get(name, name) for name in names), box=None, pad_edge=False)
    for entry in entries:
        table.add_row(*(Text(_plain(name, entry.get(name, ""))) for name in names))
    _console().print(table)


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    return console


def _words(name: str) -> str:
    return name.replace("_", " ")


def _plain(name: str, value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "–"
    if name in ("sources", "held_out_file") and value == STANDARD_INPUT:
        return "standard input"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "age_seconds":
        return _age(value)
    if name == "seconds":
        return duration(value)
    if isinstance(value, dict):
        return ", ".join(f"{_words(inner)} {_plain(inner, entry)}" for inner, entry in value.items())
    if isinstance(value, list):
        between = "\n" if any(isinstance(entry, dict) for entry in value) or name == "trained on from" else ", "
        return between.join(_plain(name, entry) for entry in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and name != "seed" else str(value)


def _age(seconds: float) -> str:
    """How long ago: in the largest unit that it fills."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "just now"
