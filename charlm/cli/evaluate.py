"""`charlm evaluate`: how well runs predict a text."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.text import Text

from charlm import checkpoint
from charlm.cli.coding import coding_view
from charlm.cli.live import progress_bar
from charlm.cli.options import (
    CONTEXT_HELP,
    GroupedCommand,
    adapt_option,
    apply,
    device_option,
    json_option,
    option,
    refuse,
    threads_option,
)
from charlm.cli.runs import RUN
from charlm.cli.tables import Cell, Column, print_facts, print_line, print_table
from charlm.cli.text_options import moved_options, text_options
from charlm.cli.texts import learned_by, learned_words, named_text, note_line_ends, own_text, show_notes
from charlm.comparison import listed, short
from charlm.compression import Proof, prove
from charlm.corpus import ReadingLog
from charlm.corpus import Text as Corpus
from charlm.errors import UsageError
from charlm.evaluation import Evaluation, LearnedShare, evaluate, record
from charlm.models import Dynamic, nearest
from charlm.training import choose_device

ADAPTS = {
    "none": "no, although the model could: compares with others that stay as they were trained",
    "counts": "it counts what it reads, too; --adapt none shows it as it was trained",
    "all": "its weights went on learning from the text; compares with such figures only",
}
"""What a figure is, by the adaptation; a model that cannot count while it reads needs no words where it does not."""

STORED = "the bits that the compressed text took as a multiple of those claimed, without the header; decoded again"
UPPER_BOUND = "an upper bound: one segmentation of many is scored"


class Measured(NamedTuple):
    """The evaluation of one run; how much of the text it was trained on; and the proof, if one was asked for."""

    name: str
    evaluation: Evaluation
    tokenizer: str
    learned: LearnedShare
    proof: Proof | None
    adaptation: str  # of the model as it was trained

    @property
    def adapts(self) -> str | None:
        """What learned from the text, in words, where that is not nothing or is not as usual."""
        adapt = self.evaluation.adapt
        return None if adapt == self.adaptation == "none" else ADAPTS[adapt]

    def to_json(self) -> dict[str, Any]:
        """Every figure by its name."""
        figures = {"run": self.name, "tokenizer": self.tokenizer, **self.evaluation.to_json()}
        proof = {"proof": self.proof.to_json()} if self.proof else {}
        return {**figures, "share_in_training": self.learned.known, **proof}


@click.command("evaluate", cls=GroupedCommand)
@click.argument("runs", nargs=-1, type=RUN)
@text_options("Evaluate on this file, - for standard input.  [default: the text each run held out]")
@apply(moved_options)
@option("--context", type=int, default=None, help=CONTEXT_HELP)
@adapt_option()
@option(
    "--adapt-rate",
    type=click.FloatRange(min=0.0, min_open=True),
    default=None,
    help=f"Learning rate of the weights with --adapt all.  [default: {Dynamic.rate}]",
)
@option("--prove", "proving", is_flag=True, help="Store the text in the bits that are claimed, and decode it again.")
@device_option()
@threads_option()
@json_option("Print JSON: an object a run.")
def command(runs: tuple[Path, ...], proving: bool, as_json: bool, **values: Any) -> None:
    """Measure how well RUNS (by default the newest) predict a text, in bits per character: lower is better.

    Every character is scored once, given all before it that the model can use. What --adapt lets learn from it is a
    copy (the run stays as it is); only figures of the same kind compare.
    """
    if proving:
        refuse({"context", "adapt_rate"}, "goes with no --prove, which stores the text by the usual settings")
    if values["adaptation"] != "all":
        refuse({"adapt_rate"}, "is for --adapt all, where weights learn")
    text, adapt = named_text(values), values["adaptation"]
    logs = {path: ReadingLog() for path in runs or (checkpoint.newest(),)}
    measured = [_measured(path, text, values, proving, log, alone=len(logs) == 1) for path, log in logs.items()]
    show_notes(*logs.values())
    if adapt and all(adapt != one.evaluation.adapt for one in measured):
        raise UsageError(f"{adapt}: no model of these can; leave it out", "adapt")
    if as_json:
        rows = [one.to_json() for one in measured]
        click.echo(json.dumps(rows if len(rows) > 1 else rows[0]))
    elif len(measured) > 1:
        _print_several(measured)
    else:
        _print_one(measured[0])


def _measured(
    path: Path, text: Corpus | None, values: Mapping[str, Any], proving: bool, log: ReadingLog, *, alone: bool
) -> Measured:
    """Evaluate one run on the text, by default the one that it held out. One of several adapts as far as it can."""
    target, dynamic = choose_device(values["device"]), Dynamic(rate=values["adapt_rate"] or Dynamic.rate)
    run, weights = checkpoint.load(path), checkpoint.weights_digest(path)
    own = None if text else own_text(run, (values["corpus_moved"], values["held_out_moved"]), log)
    held_out = own.held_out if own else text
    assert held_out is not None
    note_line_ends(held_out, run.history, run.tokenizer)
    learned = learned_by([path], held_out, run.history, own)
    adapt = values["adaptation"] if alone else nearest(run.model, values["adaptation"])
    with progress_bar(run.name) as progress:
        evaluation = evaluate(
            run.model.to(target), run.tokenizer, held_out,
            context=values["context"], adapt=adapt, dynamic=dynamic, progress=progress,
        )  # fmt: skip
    if evaluation.adapt == run.model.adaptation:  # otherwise it is no figure of the run as it is
        record(path, weights, evaluation)
    proof = _proof(run, held_out, evaluation) if proving else None
    return Measured(str(path), evaluation, run.tokenizer.kind, learned, proof, run.model.adaptation)


def _proof(run: checkpoint.Run, text: Corpus, evaluation: Evaluation) -> Proof:
    with coding_view(run.name) as view:
        return prove(run.model.to("cpu"), run.tokenizer, text, evaluation, on_progress=view)


def _print_one(measured: Measured) -> None:
    name, e, tokenizer, learned, proof, _ = measured
    context = "all that the model can use" if e.context is None else f"the last {e.context:,} characters"
    facts: list[tuple[str, Cell]] = [
        ("bits per character", Text.assemble((f"{e.bits_per_character:.4f}", "bold"), f"  ({_interval(e)})")),
        ("bits per byte", f"{e.bits_per_byte:.4f}"),
        ("nats per character", f"{e.nats_per_character:.4f}"),
        ("perplexity per character", f"{e.perplexity:.3f}"),
        ("perplexity per token", f"{e.perplexity_per_token:.3f}  (only for the same tokenizer)"),
        ("characters", f"{e.characters:,} in {e.tokens:,} tokens, each scored once"),
        ("context", context),
        ("unseen in training", _unseen(e)),
        ("in the training text", learned_words(learned) + (", word for word" if learned.share else "")),
        ("speed", f"{e.characters / max(e.seconds, 1e-9):,.0f} characters/s"),
    ]
    if proof is not None:
        facts.append(("proof", _proof_words(proof)))
    if measured.adapts:
        facts.append(("adapts", measured.adapts))
    if tokenizer == "sentencepiece":
        facts.append(("note", UPPER_BOUND))
    print_facts(facts, f"{name} on {e.text_name}")


def _proof_words(proof: Proof) -> str:
    stored = f"{proof.stored_bits:,.0f} stored ({proof.ratio:.5f}) and decoded again"
    return f"{proof.claimed_bits:,.0f} bits claimed, {stored}; header {proof.header_bits:,.0f}"


def _print_several(measured: Sequence[Measured]) -> None:
    """Print a line a run, in the order of the command, and below the table what applies to some or all of them."""
    texts = {one.evaluation.text_sha256: one.evaluation for one in measured}
    columns = [
        Column("run"),
        Column("bits/char", number=True),
        Column("95 % interval", number=True, dispensable=1),
        Column("bits/byte", number=True, dispensable=3),
        Column("nats/char", number=True, dispensable=5),
        Column("perplexity", number=True, dispensable=2),
        Column("chars/s", number=True, dispensable=4),
        *([Column("stored", number=True)] if measured[0].proof else []),
        *([Column("text")] if len(texts) > 1 else []),
    ]
    print_table(columns, [_row(one)[: len(columns)] for one in measured])
    for e in texts.values():
        context = "" if e.context is None else f" given the last {e.context:,} before it"
        print_line(f"{e.text_name}: {e.characters:,} characters, each scored once{context}.", "dim")
    if len(texts) > 1:
        print_line("These are different texts: their figures do not compare.", "dim")
    for note in _notes(measured):
        print_line(note, "dim")


def _row(measured: Measured) -> list[str]:
    name, e, tokenizer, _, proof, _ = measured
    low, high = e.interval
    return [
        name,
        f"{'≤' if tokenizer == 'sentencepiece' else ''}{e.bits_per_character:.4f}",
        f"{low:.3f} to {high:.3f}" if math.isfinite(low) else "–",
        f"{e.bits_per_byte:.4f}",
        f"{e.nats_per_character:.4f}",
        f"{e.perplexity:.3f}",
        short(e.characters / max(e.seconds, 1e-9)),
        *([f"{proof.ratio:.5f}"] if proof else []),
        e.text_name,
    ]


def _notes(measured: Sequence[Measured]) -> list[str]:
    """What the figures of several runs mean, a sentence each."""
    notes = [f"{name}: unseen in training: {_unseen(e)}." for name, e, *_ in measured if e.unseen_characters]
    if measured[0].proof:
        notes.append(f"stored: {STORED}.")
    for words in dict.fromkeys(one.adapts for one in measured if one.adapts):
        notes.append(f"{listed([one.name for one in measured if one.adapts == words])}: {words}.")
    if any(one.tokenizer == "sentencepiece" for one in measured):
        notes.append(f"≤: {UPPER_BOUND}.")
    return notes


def _interval(e: Evaluation) -> str:
    low, high = e.interval
    return f"95 % interval {low:.3f} to {high:.3f}" if math.isfinite(low) else "too short a text for an interval"


def _unseen(e: Evaluation) -> str:
    if not e.unseen_characters:
        return "no character"
    each = e.unseen_bits / e.unseen_characters
    return f"{e.unseen_characters:,} characters, {e.unseen_bits:,.1f} bits ({each:.1f} each)"
