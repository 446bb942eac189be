"""`charlm evaluate`: how well runs predict a text."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.text import Text

from charlm import checkpoint
from charlm.cli.coding import coding_view
from charlm.cli.live import bar
from charlm.cli.options import (
    CONTEXT,
    GroupedCommand,
    apply,
    device_option,
    moved_options,
    option,
    refuse,
    text_options,
    threads_option,
)
from charlm.cli.runs import RUN
from charlm.cli.tables import Cell, Column, print_facts, print_line, print_table
from charlm.cli.texts import learned_by, learned_words, named_text, note_line_ends, own_text, tell
from charlm.comparison import listed, short
from charlm.compression import Proof, prove
from charlm.corpus import ReadingLog
from charlm.corpus import Text as Corpus
from charlm.evaluation import Dynamic, Evaluation, LearnedShare, evaluate, record
from charlm.training import choose_device

DYNAMIC = "it learned on the way: compares with such figures only"
ADAPTS = "it counts what it reads, too; `charlm compare` shows it frozen as well"
STORED = "the bits that the text took, compressed and decoded again, as a multiple of those claimed; without header"
UPPER_BOUND = "an upper bound: one segmentation of many is scored"


class Measured(NamedTuple):
    """What came of one run: its path, the figures, its tokenizer, how much of the text it had learned from."""

    name: str
    evaluation: Evaluation
    tokenizer: str
    learned: LearnedShare
    proof: Proof | None

    def to_json(self) -> dict[str, Any]:
        """Every figure by its name; the proof if there is one."""
        figures = {"run": self.name, "tokenizer": self.tokenizer, **self.evaluation.to_json()}
        proof = {"proof": self.proof.to_json()} if self.proof else {}
        return {**figures, "share_in_training": self.learned.known, **proof}


@click.command("evaluate", cls=GroupedCommand)
@click.argument("runs", nargs=-1, type=RUN)
@text_options("Evaluate on this file, - for standard input.  [default: the text each run held out]")
@apply(moved_options)
@option("--context", type=int, default=None, help=CONTEXT)
@option("--dynamic", is_flag=True, help="A copy of the model goes on learning from what it has been asked.")
@option(
    "--dynamic-rate",
    type=click.FloatRange(min=0.0, min_open=True),
    default=None,
    help=f"How fast; implies --dynamic.  [default: {Dynamic.rate}]",
)
@option("--prove", "proving", is_flag=True, help="Store the text in the bits that are claimed, and decode it again.")
@device_option()
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
    proving: bool,
    device: str,
    as_json: bool,
) -> None:
    """Measure how well RUNS (by default the newest) predict a text, in bits per character: lower is better.

    Every character is scored once, given all before it that the model can use. With --dynamic, it is learned from
    afterwards (the run stays as it is), so such figures compare with each other only.
    """
    if proving:
        refuse({"context", "dynamic", "dynamic_rate"}, "goes with no --prove, which is about the model as it is")
    learning = Dynamic(rate=dynamic_rate or Dynamic.rate) if dynamic or dynamic_rate else None
    target = choose_device(device)
    named = named_text(text, encoding, wrong_bytes)
    found: list[Measured] = []
    logs: list[ReadingLog] = []
    for path in runs or (checkpoint.newest(),):
        run, weights, log = checkpoint.load(path), checkpoint.weights_digest(path), ReadingLog()
        corpus = None if named else own_text(run, (corpus_moved, held_out_moved), log)
        held_out = corpus.held_out if corpus else named
        assert held_out is not None
        note_line_ends(held_out, run.history, run.tokenizer)
        learned = learned_by([path], held_out, run.history, corpus)
        logs.append(log)
        with bar(run.name) as progress:
            result = evaluate(
                run.model.to(target), run.tokenizer, held_out, context=context, dynamic=learning, progress=progress
            )
        record(path, weights, result)
        proof = _proof(run, held_out, result) if proving else None
        found.append(Measured(str(path), result, run.tokenizer.kind, learned, proof))
    tell(*logs)
    if as_json:
        rows = [one.to_json() for one in found]
        click.echo(json.dumps(rows if len(rows) > 1 else rows[0]))
        return
    if len(found) > 1:
        _print_several(found)
    else:
        _print_one(found[0])


def _proof(run: checkpoint.Run, text: Corpus, evaluation: Evaluation) -> Proof:
    with coding_view(run.name) as view:
        return prove(run.model.to("cpu"), run.tokenizer, text, evaluation, on_progress=view)


def _print_one(measured: Measured) -> None:
    name, e, kind, learned, proof = measured
    seen = "all that the model can use" if e.context is None else f"the last {e.context:,} characters"
    facts: list[tuple[str, Cell]] = [
        ("bits per character", Text.assemble((f"{e.bits_per_character:.4f}", "bold"), f"  ({_interval(e)})")),
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
    if proof is not None:
        facts.append(("proof", _proof_words(proof)))
    if e.adapt == "counts":
        facts.append(("adapts", ADAPTS))
    if e.dynamic is not None:
        facts.append(("dynamic evaluation", DYNAMIC))
    if kind == "sentencepiece":
        facts.append(("note", UPPER_BOUND))
    print_facts(facts, f"{name} on {e.text_name}")


def _proof_words(proof: Proof) -> str:
    stored = f"{proof.stored_bits:,.0f} stored ({proof.ratio:.5f}) and decoded again"
    return f"{proof.claimed_bits:,.0f} bits claimed, {stored}; header {proof.header_bits:,.0f}"


def _print_several(found: list[Measured]) -> None:
    """A line a run, in the order in which they were named; what holds for some or all of them is said below."""
    columns = [
        Column("run"),
        Column("bits/char", number=True),
        Column("95 % interval", number=True, dispensable=1),
        Column("bits/byte", number=True, dispensable=3),
        Column("nats/char", number=True, dispensable=5),
        Column("perplexity", number=True, dispensable=2),
        Column("chars/s", number=True, dispensable=4),
        *([Column("stored", number=True)] if found[0].proof else []),
        Column("text"),
    ]
    rows = []
    for name, e, kind, _, proof in found:
        low, high = e.interval
        bound = "≤" if kind == "sentencepiece" else ""
        interval = f"{low:.3f} to {high:.3f}" if math.isfinite(low) else "–"
        figures = (
            f"{bound}{e.bits_per_character:.4f}",
            interval,
            f"{e.bits_per_byte:.4f}",
            f"{e.nats_per_character:.4f}",
        )
        speed = short(e.characters / max(e.seconds, 1e-9))
        stored = [f"{proof.ratio:.5f}"] if proof else []
        rows.append([name, *figures, f"{e.perplexity:.3f}", speed, *stored, e.text_name])
    texts = {one.evaluation.text_sha256: one.evaluation for one in found}
    if len(texts) == 1:
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    print_table(columns, rows)
    for e in texts.values():
        print_line(f"{e.text_name}: {e.characters:,} characters, each scored once{_context(e)}.", "dim")
    for name, e, *_ in found:
        if e.unseen_characters:
            print_line(f"{name}: unseen in training: {_unseen(e)}.", "dim")
    if len(texts) > 1:
        print_line("These are different texts: their figures do not compare.", "dim")
    if found[0].proof:
        print_line(f"stored: {STORED}.", "dim")
    if found[0].evaluation.dynamic is not None:
        print_line(f"Dynamic evaluation: {DYNAMIC}.", "dim")
    if adapting := [name for name, e, *_ in found if e.adapt == "counts"]:
        print_line(f"{listed(adapting)}: {ADAPTS}.", "dim")
    if any(one.tokenizer == "sentencepiece" for one in found):
        print_line(f"≤: {UPPER_BOUND}.", "dim")


def _interval(e: Evaluation) -> str:
    low, high = e.interval
    return f"95 % interval {low:.3f} to {high:.3f}" if math.isfinite(low) else "too short a text for an interval"


def _context(e: Evaluation) -> str:
    return "" if e.context is None else f" given the last {e.context:,} before it"


def _unseen(e: Evaluation) -> str:
    if not e.unseen_characters:
        return "no character"
    each = e.unseen_bits / e.unseen_characters
    return f"{e.unseen_characters:,} characters, {e.unseen_bits:,.1f} bits ({each:.1f} each)"
