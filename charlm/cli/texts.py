"""Texts that a command is given, typed, named or piped in, and what to say of one before its figures are believed."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from charlm.checkpoint import History, Run, read_history
from charlm.cli.live import bar, errors
from charlm.cli.options import DECODING, refuse
from charlm.cli.spelling import spelled
from charlm.comparison import listed
from charlm.corpus import (
    STANDARD_INPUT,
    Origin,
    ReadingLog,
    Reopened,
    Split,
    Text,
    known_line_ends,
    open_corpus,
    relocated,
    reopen,
    share_in,
    unknown_line_ends,
)
from charlm.errors import DataError
from charlm.evaluation import LearnedShare, learned_share
from charlm.names import shell_quoted
from charlm.tokenizers import Tokenizer

Moved = tuple[Sequence[str], str | None]
"""What `moved_options` say: where the sources of a run's corpus are now, and its held-out file."""

MOVED = frozenset({"corpus_moved", "held_out_moved"})
"""The parameters of `moved_options`."""

NOTED_SHARE = 0.1  # of a text; builtin:python-reference, which repeats whole passages, has 0.084 of its held-out tenth


def as_utf8(_: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """A callback for options and arguments that are texts: typed in UTF-8 whatever the locale says.

    Raises DataError, with the option's name, for bytes that are not UTF-8.
    """
    if isinstance(value, tuple):
        return tuple(as_utf8(_, parameter, one) for one in value)
    try:
        return None if value is None else os.fsencode(value).decode("utf-8")
    except UnicodeEncodeError:  # it was not typed: the locale has no such character
        return value
    except UnicodeDecodeError as problem:
        name = parameter.opts[0] if isinstance(parameter, click.Option) else "TEXT"
        raise DataError(f"{name}: not UTF-8 at byte {problem.start}; convert it first") from None


def tell(*logs: ReadingLog) -> None:
    """Say which files were left out or read otherwise than one would think, each thing once."""
    for note in dict.fromkeys(note for log in logs for note in log.notes()):
        _note(spelled(note))


def origin_of(corpus: Sequence[str], values: Mapping[str, Any]) -> Origin:
    """What was named with `corpus_options`."""
    return Origin(tuple(corpus), values["encoding"], values["held_out"], values["wrong_bytes"])


def named_text(text: str | None, encoding: str, wrong_bytes: str) -> Text | None:
    """What --text names, if anything: all that a corpus can be, standard input as well.

    Raises UsageError for an --encoding or --errors without it, or for where the run's own text is with it.
    """
    if text is None:
        refuse(DECODING, "is about --text, which is not given")
        return None
    refuse(MOVED, "says where the run's own text is, and --text takes its place")
    return read_text(text, encoding, wrong_bytes)


def read_text(source: str, encoding: str = "utf-8", wrong_bytes: str = "strict") -> Text:
    """A text that is named, read so; what there is to say of it is said."""
    log = ReadingLog()
    text = open_corpus([source], encoding, errors=wrong_bytes, log=log)
    tell(log)
    return text


def own_text(run: Run, moved: Moved, log: ReadingLog, way_out: str = "name another text with --text") -> Reopened:
    """The text that a run was made from, to be read again, from where `moved_options` say that it is now."""
    return reopen(relocated(run.history.corpus, *moved), way_out, given=any(moved), log=log)


def typed_or_piped(text: str, name: str, instead: str, encoding: str = "utf-8", wrong_bytes: str = "strict") -> Text:
    """The text that was typed, or standard input for `-`, read so.

    Where it is the name of a file, the user is told how to have its content: `instead` is the command without its text.
    """
    if text == STANDARD_INPUT:
        return read_text(STANDARD_INPUT, encoding, wrong_bytes)
    refuse(DECODING, "is about standard input, and the text is typed: name - for it")
    note_file(text, f"{instead} - < ")
    return Text.from_string(text, name)


def note_file(text: str, command: str) -> None:
    """Tell whoever has typed the name of a file as a text how to have its content: `command`, and then the name."""
    try:
        named = Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        named = False
    if named:
        _note(f"{shell_quoted(text)} is read as a text here, and there is a file of this name; for its content:")
        errors.print(f"  {command}{shell_quoted(text)}", soft_wrap=True)


def note_line_ends(text: Text, history: History, tokenizer: Tokenizer) -> None:
    """Say it if a text's lines end as none that the run has learned from."""
    feeds, returns = (ord(character) in tokenizer.seen for character in "\n\r")
    known = known_line_ends(history.corpus, feeds=feeds, returns=returns)
    if known is not None and (message := unknown_line_ends(text, known)):
        _note(message)


def note_learned(
    text: Text,
    found: LearnedShare,
    learned_from: str = "the training text",
    so: str = "and of that its figures show how well it is remembered, not predicted",
) -> None:
    """Say it if much of a text that is to be measured on was learned from."""
    if found.share >= NOTED_SHARE:
        _note(f"{text.name}: {learned_words(found)} stands word for word in {learned_from}, {so}")


def learned_by(runs: Sequence[Path], text: Text, history: History, own: Reopened | None = None) -> LearnedShare:
    """How much of a text was learned from by runs that are alike in this (see `learned_share`); much of it is said."""
    names = listed([str(path) for path in runs])
    with bar(names) as progress:
        found = learned_share(text, history, own, progress)
    note_learned(text, found, f"the text that {names} learned from")
    return found


def note_learned_by(runs: Sequence[Path], text: Text, moved: Moved) -> None:
    """Say it if much of the text that runs held out was learned from by some of them, once for each text."""
    alike: dict[str, tuple[list[Path], History]] = {}
    for path in dict.fromkeys(runs):
        history = read_history(path)
        learned = [(history.corpus or {}).get("sha256"), history.parents, history.weighed_on]
        moved_history = replace(history, corpus=relocated(history.corpus, *moved))
        alike.setdefault(json.dumps(learned), ([], moved_history))[0].append(path)
    for those, history in alike.values():
        learned_by(those, text, history)


def note_held_out(split: Split, history: History, tokenizer: Tokenizer) -> None:
    """Say before training what makes figures on the held-out text hard to understand."""
    note_line_ends(split.held_out, history, tokenizer)
    note_learned(split.held_out, LearnedShare(share_in(split.held_out, [split.training]), True))


def learned_words(found: LearnedShare) -> str:
    """How much of a text was learned from, in words."""
    if found.known is None:
        return "unknown: the training text cannot be read again"
    if not found.share:
        return "none of it"
    if found.share < 0.0005:
        return "less than 0.1% of it"
    return f"{'' if found.complete else 'at least '}{found.share:.1%} of it"


def _note(message: str) -> None:
    errors.print(message, style="yellow", soft_wrap=True)
