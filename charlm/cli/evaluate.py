"""`charlm evaluate`: how well runs predict a text."""

import json
import math
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from charlm import checkpoint
from charlm.cli.live import bar
from charlm.cli.options import GroupedCommand, apply, moved_options, option, text_options, threads_option
from charlm.cli.runs import RUN
from charlm.cli.texts import learned_words, named_text, note_learned, note_line_ends, own_text, tell
from charlm.corpus import ReadingLog
from charlm.evaluation import Dynamic, Evaluation, LearnedShare, evaluate, learned_share
from charlm.training import choose_device


@click.command("evaluate", cls=GroupedCommand)
@click.argument("runs", nargs=-1, type=RUN)
@text_options("Evaluate on this file, - for standard input.  [default: the text each run held out]")
@apply(moved_options)
@option("--context", type=int, default=None, help="Let the model see only the last so many characters.")
@option("--dynamic", is_flag=True, help="A copy of the model goes on learning from what it has been asked.")
@option(
    "--dynamic-rate",
    type=click.FloatRange(min=0.0, min_open=True),
    default=None,
    help=f"How fast; implies --dynamic.  [default: {Dynamic.rate}]",
)
@option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@threads_option()
@option("--json", "as_json", is_flag=True, help="Print JSON: an object a run.")
def command(
    runs: tuple[Path, ...],
    text: str | None,
    encoding: str,
    wrong_bytes: str,
    corpus_moved: tuple[str, ...],
    held_out_moved: str | None,
    context: int | None,
    dynamic: bool,
    dynamic_rate: float | None,
    device: str,
    as_json: bool,
) -> None:
    """Measure how well RUNS (by default the newest) predict a text, in bits per character: lower is better.

    Every character is scored once, given all before it that the model can use. With --dynamic, it is learned from
    afterwards (the run stays as it is), so such figures compare with each other only.
    """
    learning = Dynamic(rate=dynamic_rate or Dynamic.rate) if dynamic or dynamic_rate else None
    target = choose_device(device)
    named = named_text(text, encoding, wrong_bytes)
    found: list[tuple[str, Evaluation, str, LearnedShare]] = []
    logs: list[ReadingLog] = []
    for path in runs or (checkpoint.newest(),):
        run = checkpoint.load(path)
        log = ReadingLog()
        corpus = None if named else own_text(run, (corpus_moved, held_out_moved), log)
        held_out = corpus.held_out if corpus else named
        assert held_out is not None
        note_line_ends(held_out, run.about, run.tokenizer)
        with bar(run.name) as progress:
            learned = learned_share(held_out, run.about, corpus, progress)
            logs.append(log)
            result = evaluate(
                run.model.to(target), run.tokenizer, held_out, context=context, dynamic=learning, progress=progress
            )
        note_learned(held_out, learned, f"the text that {path} learned from")
        found.append((str(path), result, run.tokenizer.kind, learned))
    tell(*logs)
    if as_json:
        rows = [
            {"run": name, "tokenizer": kind, **result.to_json(), "share_in_training": learned.known}
            for name, result, kind, learned in found
        ]
        click.echo(json.dumps(rows if len(rows) > 1 else rows[0]))
        return
    console = Console(highlight=False)
    for name, result, kind, learned in found:
        console.print(_table(name, result, kind, learned))


def _table(name: str, e: Evaluation, kind: str, learned: LearnedShare) -> Table:
    low, high = e.interval
    sure = f"95 % interval {low:.3f} to {high:.3f}" if math.isfinite(low) else "too short a text for an interval"
    seen = "all that the model can use" if e.context is None else f"the last {e.context:,} characters"
    rows: list[tuple[str, Any]] = [
        ("bits per character", f"[bold]{e.bits_per_character:.4f}[/]  ({sure})"),
        ("bits per byte", f"{e.bits_per_byte:.4f}"),
        ("nats per character", f"{e.nats_per_character:.4f}"),
        ("perplexity per character", f"{e.perplexity:.3f}"),
        ("perplexity per token", f"{e.perplexity_per_token:.3f}  (only for the same tokenizer)"),
        ("characters", f"{e.characters:,} in {e.tokens:,} tokens, each scored once"),
        ("context", seen),
        ("unseen in training", _unseen(e)),
        ("in the training text", learned_words(learned) + (", word for word" if learned.share else "")),
        ("speed", f"{e.characters / max(e.seconds, 1e-9):,.0f} characters/s"),
    ]
    if e.adapt == "counts":
        rows.append(("adapts", "it counts what it reads, too; `charlm compare` shows it frozen as well"))
    if e.dynamic is not None:
        rows.append(("dynamic evaluation", "it learned on the way: compares with such figures only"))
    if kind == "sentencepiece":
        rows.append(("note", "an upper bound: one segmentation of many is scored"))
    table = Table(title=Text(f"{name} on {e.text_name}"), title_justify="left", box=None, show_header=False)
    for row in rows:
        table.add_row(*row)
    return table


def _unseen(e: Evaluation) -> str:
    if not e.unseen_characters:
        return "no character"
    each = e.unseen_bits / e.unseen_characters
    return f"{e.unseen_characters:,} characters, {e.unseen_bits:,.1f} bits ({each:.1f} each)"
