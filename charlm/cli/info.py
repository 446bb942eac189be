"""`charlm info`: what a run is, the list of runs, the devices of this machine."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.text import Text

from charlm import checkpoint
from charlm.cli.formats import formats, print_formats
from charlm.cli.glyphs import printable, sanitized
from charlm.cli.options import GroupedCommand, json_option, option
from charlm.cli.runs import RUN
from charlm.cli.tables import Cell, Column, print_facts, print_line, print_table
from charlm.cli.terminal import print_message
from charlm.comparison import short
from charlm.corpus import STANDARD_INPUT, encode, reopen
from charlm.errors import CharlmError, UsageError
from charlm.inference import backend_of
from charlm.models.ngram import NGram
from charlm.models.ngram.summary import summary
from charlm.names import shell_quoted
from charlm.progress import duration
from charlm.training import with_units

T = TypeVar("T")

MAX_MATCHED_TOKENS = 1_000_000  # of the held-out text, in which the lengths of matching n-grams are counted
PROGRESS_LABELS = {
    "finished": "finished",
    "step": "step",
    "steps": "of steps",
    "seconds": "seconds",
    "tokens": "tokens",
    "joined": "slice joined at step",
}
"""The counters of training that are shown, with their labels; the others are for resuming."""


@click.command("info", cls=GroupedCommand)
@click.argument("run", required=False, type=RUN)
@option("--device", "show_devices", is_flag=True, help="Show which devices this machine has, and their precision.")
@option("--formats", "show_formats", is_flag=True, help="Show what RUN can be exported as, and what that leaves out.")
@json_option("Print JSON.")
def command(run: Path | None, show_devices: bool, show_formats: bool, as_json: bool) -> None:
    """Show what RUN is; without RUN list the runs in checkpoints/, the newest first."""
    if run and show_devices:
        raise UsageError("--device is about this machine, not about a run: give one of them")
    if show_formats and show_devices:
        raise UsageError("--formats and --device: give one of them")
    if show_formats:
        _show(formats(run), print_formats, as_json)
    elif show_devices:
        _show(_devices(), _print_devices, as_json)
    elif run:
        _show(_content(run), _print_run, as_json)
    else:
        _show([_summary(path) for path in checkpoint.runs()], _print_runs, as_json)


def _show(data: T, print_data: Callable[[T], None], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(data))
    else:
        print_data(data)


def _summary(path: Path) -> dict[str, Any]:
    """A run's line in the list; None where something is unknown."""
    age = time.time() - (path / checkpoint.CARD).stat().st_mtime
    try:
        card = checkpoint.read_card(path)
        return {
            "run": path.name,
            **_result(path, card),
            "corpus": (card.history.corpus or {}).get("name"),
            "architecture": card.architecture,
            "parameters": card.parameters,
            "finished": (card.history.progress or {}).get("finished"),
            "age_seconds": age,
        }
    except CharlmError as problem:
        return {"run": path.name, "problem": str(problem), "age_seconds": age}


def _result(path: Path, card: checkpoint.Card) -> dict[str, Any]:
    """The run's latest figure, and the text that it was measured on."""
    result = checkpoint.result_of(path, card)
    return {
        "bits_per_character": result and result.bits_per_character,
        "measured_on": result and result.measured_on,
    }


def _content(path: Path) -> dict[str, Any]:
    """The content of a run's card, after every file has been verified; of an n-gram, also its counts by length."""
    run = checkpoint.load(path)
    card = checkpoint.read_card(path)
    result = {"run": str(path), **_result(path, card)}
    content = card.to_json()
    content.pop("result", None)
    chosen = {"chosen": dict(run.model.chosen), "vocabulary": run.tokenizer.ids_in_words(run.tokenizer.vocab_size)}
    progress = {"progress": with_units(card.history.progress or {})}
    engine = {"backend": backend_of(run.model)}
    ngrams = _ngrams(run) if isinstance(run.model, NGram) else {}
    return {**result, **content, **chosen, **engine, **progress, **ngrams}


def _ngrams(run: checkpoint.Run) -> dict[str, Any]:
    """For each length: the number of n-grams, and how often they are the longest to match the held-out text."""
    assert isinstance(run.model, NGram)
    try:
        ids = encode(reopen(run.history.corpus).held_out, run.tokenizer)[:MAX_MATCHED_TOKENS]
        matched = f"of {len(ids):,} tokens held out, the share whose longest known n-gram has this length"
    except CharlmError:
        ids, matched = None, "unknown: the text that the run held out cannot be read again"
    lengths = summary(run.model, run.history.extra.get("discounts") or (), ids)
    return {"ngrams": [asdict(length) for length in lengths], "matched": matched}


def _devices() -> list[dict[str, Any]]:
    """The devices of this machine: whether `auto` chooses it, the data type it computes in, the speed that `--size
    auto` assumes (two cores with AMX are 1), and why.
    """
    import torch

    from charlm.machine import numba_version
    from charlm.training import choose_device, speed
    from charlm.training.computing import bfloat16_reason, compute_type

    reasons: dict[str, Callable[[], str]] = {
        "cpu": lambda: f"{torch.get_num_threads()} threads; {bfloat16_reason()[1]}; numba: {numba_version()}",
        "cuda": lambda: str(torch.cuda.get_device_name()),
        "mps": lambda: "Apple's GPU",
    }
    devices = []
    for name, reason in reasons.items():
        try:
            device = choose_device(name)
        except UsageError:
            continue
        devices.append(
            {
                "device": name,
                "auto": choose_device("auto") == device,
                "precision": str(compute_type("auto", device)).removeprefix("torch."),
                "speed": round(speed("auto", device), 2),
                "why": reason(),
            }
        )
    return devices


def _print_run(content: dict[str, Any]) -> None:
    """Print the facts about a run that people read; `--json` has the rest."""
    lengths, matched, chosen = content.pop("ngrams", []), content.pop("matched", ""), content.pop("chosen")
    bits, measured_on = content.pop("bits_per_character"), content.pop("measured_on")
    measure = f"charlm evaluate {shell_quoted(content['run'])}"
    figure = f"– (not measured: {measure})" if bits is None else f"{bits:.4f} ({measured_on})"
    progress = content["progress"]
    facts: list[tuple[str, Cell]] = [("run", content.pop("run")), ("bits per character", figure)]
    content["vocab_size"] = content.pop("vocabulary")
    content["config"] = _settings(content["config"], chosen)
    content["progress"] = {label: progress[name] for name, label in PROGRESS_LABELS.items() if name in progress}
    content.pop("discounts", None)
    parents = [_parent(entry) for entry in content.pop("parents", [])]
    if parents:
        content["fine-tuned from"] = parents
    for name, value in content.items():
        if isinstance(value, dict):
            facts += [("", ""), (_label(name), "")]
            facts += [(f"  {_label(inner)}", _formatted(inner, entry)) for inner, entry in value.items()]
        else:
            facts.append((_label(name), _formatted(name, value)))
    print_facts(facts)
    if lengths:
        _print_ngrams(lengths, matched)


def _parent(entry: dict[str, Any]) -> str:
    """A run that this one was fine-tuned from: its folder, its weights and its training text."""
    corpus = entry.get("corpus")
    sources = _formatted("sources", corpus.get("sources") if isinstance(corpus, Mapping) else None)
    return f"{entry.get('run')} (weights {str(entry.get('weights'))[:12]}…), trained on {sources}"


def _settings(config: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """The settings of a model and of its members, with the values that were chosen for settings left open."""
    members = zip(config.get("members", ()), chosen.get("members", ()), strict=False)
    named = {
        f"{m['architecture']} {name}": value for m, c in members for name, value in _settings(m["config"], c).items()
    }
    own = {name: value for name, value in config.items() if name != "members"}
    left_open = {
        name: f"{_formatted(name, value)} (chosen)" for name, value in chosen.items() if own.get(name, 0) is None
    }
    return {**own, **left_open, **named}


def _print_ngrams(lengths: list[dict[str, Any]], matched: str) -> None:
    names = ("length", "n-grams", "D1", "D2", "D3+", "MB", "matched*")
    dispensable = {"MB": 1, "D1": 2, "D2": 3, "D3+": 4}
    rows = []
    for entry in lengths:
        discounts = [f"{d:.4f}" for d in entry["discounts"] or ()] or ["–"] * 3
        share = "–" if entry["matched"] is None else f"{entry['matched']:.1%}"
        rows.append([str(entry["length"]), f"{entry['ngrams']:,}", *discounts, f"{entry['megabytes']:.1f}", share])
    print_line()
    print_table([Column(name, number=True, dispensable=dispensable.get(name, 0)) for name in names], rows)
    print_line(f"* {matched}")


def _print_runs(runs: list[dict[str, Any]]) -> None:
    """Print a line a run; the line of a damaged run says what is wrong."""
    if not runs:
        print_message(f"No run in {checkpoint.RUNS}/ yet; make one:  charlm train builtin:python-reference")
        return
    columns = [
        Column("run"),
        Column("bits/char", number=True),
        Column("measured on"),
        Column("corpus", dispensable=2),
        Column("architecture", dispensable=1),
        Column("params", number=True, dispensable=4),
        Column("age", number=True, dispensable=3),
    ]
    damaged = any("problem" in entry for entry in runs)
    rows: list[list[Cell]] = [
        [*_run_row(entry), *([Text(sanitized(entry.get("problem", "")))] if damaged else [])] for entry in runs
    ]
    print_table(columns + [Column("problem")] * damaged, rows)


def _run_row(entry: dict[str, Any]) -> list[str]:
    bits, parameters = entry.get("bits_per_character"), entry.get("parameters")
    return [
        entry["run"] + (" (unfinished)" if entry.get("finished") is False else ""),
        "–" if bits is None else f"{bits:.3f}",
        _formatted("measured_on", entry.get("measured_on")),
        _formatted("corpus", entry.get("corpus")),
        _formatted("architecture", entry.get("architecture")),
        short(parameters) if isinstance(parameters, int) else "–",
        _age(entry["age_seconds"]),
    ]


def _print_devices(devices: list[dict[str, Any]]) -> None:
    columns = [Column(name, number=name == "speed") for name in devices[0]]
    print_table(columns, [[_formatted(name, value) for name, value in device.items()] for device in devices])


def _label(name: str) -> str:
    return printable(name.replace("_", " "))


def _formatted(name: str, value: Any) -> str:
    """The value of a fact as people read it."""
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
        return ", ".join(f"{_label(inner)} {_formatted(inner, entry)}" for inner, entry in value.items())
    if isinstance(value, list):
        separator = "\n" if any(isinstance(entry, dict) for entry in value) or name == "fine-tuned from" else ", "
        return separator.join(_formatted(name, entry) for entry in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and name != "seed" else printable(str(value))


def _age(seconds: float) -> str:
    """How long ago, in the largest unit that it fills."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "just now"
