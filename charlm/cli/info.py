"""`charlm info`: what a run is, which runs there are, what this machine can do."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from charlm import checkpoint
from charlm.cli.formats import formats, print_formats
from charlm.cli.glyphs import harmless, shown
from charlm.cli.options import GroupedCommand, option
from charlm.cli.runs import RUN
from charlm.cli.tables import Cell, Column, print_facts, print_line, print_table
from charlm.comparison import duration, short
from charlm.corpus import STANDARD_INPUT, encode, reopen
from charlm.errors import CharlmError, UsageError
from charlm.inference import backend_of
from charlm.models.ngram import NGram
from charlm.models.ngram.summary import summary
from charlm.names import shell_quoted
from charlm.training import with_units

LOOKED_UP = 1_000_000  # tokens of the text held out, at most, to see which n-grams match
PROGRESS = {  # of the counters, those that are not only for resuming, and what to call them
    "finished": "finished",
    "step": "step",
    "steps": "of steps",
    "seconds": "seconds",
    "tokens": "tokens",
    "joined": "slice joined at step",
}


@click.command("info", cls=GroupedCommand)
@click.argument("run", required=False, type=RUN)
@option("--device", "devices_wanted", is_flag=True, help="Show which devices this machine has, and their precision.")
@option("--formats", "formats_wanted", is_flag=True, help="Show what RUN can be exported as, and what that leaves out.")
@option("--json", "json_wanted", is_flag=True, help="Print JSON.")
def command(run: Path | None, devices_wanted: bool, formats_wanted: bool, json_wanted: bool) -> None:
    """Show what RUN is; without one list the runs in checkpoints/, the newest first."""
    if run and devices_wanted:
        raise UsageError("--device is about this machine, not about a run: give one of them")
    if formats_wanted and devices_wanted:
        raise UsageError("--formats and --device: give one of them")
    if formats_wanted:
        listed = formats(run)
        click.echo(json.dumps(listed)) if json_wanted else print_formats(listed)
    elif devices_wanted:
        found = _devices()
        click.echo(json.dumps(found)) if json_wanted else _print_devices(found)
    elif run:
        content = _content(run)
        click.echo(json.dumps(content)) if json_wanted else _print_run(content)
    else:
        listed = [_summary(path) for path in checkpoint.runs()]
        if json_wanted:
            click.echo(json.dumps(listed))
        elif listed:
            _print_runs(listed)
        else:
            click.echo(f"No run in {checkpoint.RUNS}/ yet; make one:  charlm train builtin:python-reference", err=True)


def _summary(path: Path) -> dict[str, Any]:
    """What the list says of a run: the facts that are known, else None."""
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
    """The run's one figure, and on what it was measured."""
    result = checkpoint.result_of(path, card)
    return {
        "bits_per_character": result and result.bits_per_character,
        "measured_on": result and result.measured_on,
    }


def _content(path: Path) -> dict[str, Any]:
    """All that a run's card says, after every file was checked; and of an n-gram, what it is made of."""
    run = checkpoint.load(path)
    card = checkpoint.read_card(path)
    known = {"run": str(path), **_result(path, card)}
    content = card.to_json()
    content.pop("result", None)
    chosen = {"chosen": dict(run.model.chosen), "vocabulary": run.tokenizer.ids_in_words(run.tokenizer.vocab_size)}
    progress = {"progress": with_units(card.history.progress or {})}
    ngrams = _ngrams(run) if isinstance(run.model, NGram) else {}
    return {**known, **content, **chosen, "backend": backend_of(run.model), **progress, **ngrams}


def _ngrams(run: checkpoint.Run) -> dict[str, Any]:
    """Length by length, how many n-grams there are, and how often they are the longest to match the held-out text."""
    assert isinstance(run.model, NGram)
    try:
        ids = encode(reopen(run.history.corpus).held_out, run.tokenizer)[:LOOKED_UP]
        what = f"of {len(ids):,} tokens held out, the share whose longest known n-gram has this length"
    except CharlmError:
        ids, what = None, "unknown: the text that the run held out cannot be read again"
    lengths = summary(run.model, run.history.extra.get("discounts") or (), ids)
    return {"ngrams": [asdict(length) for length in lengths], "matched": what}


def _devices() -> list[dict[str, Any]]:
    """Each device there is, whether `auto` takes it, the type it computes in, why, and how fast `--size auto` takes it
    to be, two cores with AMX being 1.
    """
    import torch

    from charlm.machine import numba_version
    from charlm.training import choose_device, speed
    from charlm.training.computing import bfloat16_reason, compute_type

    whys: dict[str, Callable[[], str]] = {
        "cpu": lambda: f"{torch.get_num_threads()} threads; {bfloat16_reason()[1]}; numba: {numba_version()}",
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
    """What a person wants to know of a run; `--json` has the rest."""
    lengths, matched, chosen = content.pop("ngrams", []), content.pop("matched", ""), content.pop("chosen")
    bits, measured_on = content.pop("bits_per_character"), content.pop("measured_on")
    measure = f"charlm evaluate {shell_quoted(content['run'])}"
    figure = f"– (not measured: {measure})" if bits is None else f"{bits:.4f} ({measured_on})"
    progress = content["progress"]
    facts: list[tuple[str, Cell]] = [("run", content.pop("run")), ("bits per character", figure)]
    content["vocab_size"] = content.pop("vocabulary")
    content["config"] = _settings(content["config"], chosen)
    content["progress"] = {words: progress[name] for name, words in PROGRESS.items() if name in progress}
    content.pop("discounts", None)
    parents = [_parent(entry) for entry in content.pop("parents", [])]
    if parents:
        content["trained on from"] = parents
    for name, value in content.items():
        if isinstance(value, dict):
            facts += [("", ""), (_words(name), "")]
            facts += [(f"  {_words(inner)}", _plain(inner, entry)) for inner, entry in value.items()]
        else:
            facts.append((_words(name), _plain(name, value)))
    print_facts(facts)
    if lengths:
        _print_ngrams(lengths, matched)


def _parent(entry: dict[str, Any]) -> str:
    """A run that this one was trained on from: its folder, its weights, and the text that it had learned from."""
    corpus = entry.get("corpus")
    sources = _plain("sources", corpus.get("sources") if isinstance(corpus, Mapping) else None)
    return f"{entry.get('run')} (weights {str(entry.get('weights'))[:12]}…), which learned from {sources}"


def _settings(config: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """The settings of a model, those that were left open as they were chosen."""
    members = zip(config.get("members", ()), chosen.get("members", ()), strict=False)
    named = {
        f"{m['architecture']} {name}": value for m, c in members for name, value in _settings(m["config"], c).items()
    }
    own = {name: value for name, value in config.items() if name != "members"}
    open_ones = {name: f"{_plain(name, value)} (chosen)" for name, value in chosen.items() if own.get(name, 0) is None}
    return {**own, **open_ones, **named}


def _print_ngrams(lengths: list[dict[str, Any]], matched: str) -> None:
    names = ("length", "n-grams", "D1", "D2", "D3+", "MB", "matched*")
    ranks = {"MB": 1, "D1": 2, "D2": 3, "D3+": 4}
    rows = []
    for entry in lengths:
        discounts = [f"{d:.4f}" for d in entry["discounts"] or ()] or ["–"] * 3
        share = "–" if entry["matched"] is None else f"{entry['matched']:.1%}"
        rows.append([str(entry["length"]), f"{entry['ngrams']:,}", *discounts, f"{entry['megabytes']:.1f}", share])
    print_line()
    print_table([Column(name, number=True, dispensable=ranks.get(name, 0)) for name in names], rows)
    print_line(f"* {matched}")


def _print_runs(listed: list[dict[str, Any]]) -> None:
    """A line a run; a damaged one says what is wrong with it."""
    columns = [
        Column("run"),
        Column("bits/char", number=True),
        Column("measured on"),
        Column("corpus", dispensable=2),
        Column("architecture", dispensable=1),
        Column("params", number=True, dispensable=4),
        Column("age", number=True, dispensable=3),
    ]
    damaged = any("problem" in entry for entry in listed)
    rows = []
    for entry in listed:
        bits, parameters = entry.get("bits_per_character"), entry.get("parameters")
        name = entry["run"] + (" (unfinished)" if entry.get("finished") is False else "")
        rows.append(
            [
                name,
                "–" if bits is None else f"{bits:.3f}",
                _plain("measured_on", entry.get("measured_on")),
                _plain("corpus", entry.get("corpus")),
                _plain("architecture", entry.get("architecture")),
                short(parameters) if isinstance(parameters, int) else "–",
                _age(entry["age_seconds"]),
                *([Text(harmless(entry.get("problem", "")))] if damaged else []),
            ]
        )
    print_table(columns + [Column("problem")] * damaged, rows)


def _print_devices(devices: list[dict[str, Any]]) -> None:
    columns = [Column(name, number=name == "speed") for name in devices[0]]
    print_table(columns, [[_plain(name, value) for name, value in device.items()] for device in devices])


def _words(name: str) -> str:
    return shown(name.replace("_", " "))


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
    return f"{value:,}" if isinstance(value, int) and name != "seed" else shown(str(value))


def _age(seconds: float) -> str:
    """How long ago: in the largest unit that it fills."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "just now"
