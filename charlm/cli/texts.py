"""The texts that a command is given, typed, named or piped in, and warnings about what makes figures on them unfair."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from charlm.checkpoint import History, Run, read_history
from charlm.cli.live import progress_bar
from charlm.cli.options import refuse
from charlm.cli.spelling import spelled
from charlm.cli.terminal import print_message
from charlm.cli.text_options import DECODING, MOVED, Moved
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

MIN_NOTED_SHARE = 0.1
"""The share of a text known from training from which on a warning is printed. builtin:python-reference, which repeats
whole passages, has 0.084 of its held-out tenth."""


def as_utf8(_: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """A callback for options and arguments that are texts: decode them as UTF-8 whatever the locale is.

    Raises DataError, with the option's name, for bytes that are not UTF-8.
    """
    if isinstance(value, tuple):
        return tuple(as_utf8(_, parameter, text) for text in value)
    try:
        return None if value is None else os.fsencode(value).decode("utf-8")
    except UnicodeEncodeError:  # a default, not typed: the locale cannot encode it
        return value
    except UnicodeDecodeError as problem:
        name = parameter.opts[0] if isinstance(parameter, click.Option) else "TEXT"
        raise DataError(f"{name}: not UTF-8 at byte {problem.start}; convert it first") from None


def show_notes(*logs: ReadingLog) -> None:
    """Print which files were left out or read in an unexpected way, each note once."""
    for note in dict.fromkeys(note for log in logs for note in log.notes()):
        print_message(spelled(note), "yellow")


def read_split(corpus: Sequence[str], values: Mapping[str, Any]) -> tuple[Split, History]:
    """The corpus that was named with `corpus_options`, split, and the history of a run that is trained on it."""
    origin = Origin(tuple(corpus), values["encoding"], values["held_out"], values["wrong_bytes"])
    log = ReadingLog()
    split = origin.open(log)
    show_notes(log)
    return split, History(corpus=origin.describe(split, log))


def named_text(values: Mapping[str, Any]) -> Text | None:
    """The text that was named with `text_options`, which can be all that a corpus can be; None if none was.

    Raises UsageError for an --encoding or --errors without --text, and for the run's own text moved with it.
    """
    text = values["text"]
    if text is None:
        refuse(DECODING, "is about --text, which is not given")
        return None
    refuse(MOVED, "says where the run's own text is, and --text takes its place")
    return read_text(text, values["encoding"], values["wrong_bytes"])


def read_text(source: str, encoding: str = "utf-8", wrong_bytes: str = "strict") -> Text:
    """Read a text by name, and print the notes about it."""
    log = ReadingLog()
    text = open_corpus([source], encoding, errors=wrong_bytes, log=log)
    show_notes(log)
    return text


def own_text(run: Run, moved: Moved, log: ReadingLog, way_out: str = "name another text with --text") -> Reopened:
    """The text that a run was trained on, read again from where `moved_options` say that it is now."""
    return reopen(relocated(run.history.corpus, *moved), way_out, given=any(moved), log=log)


def typed_or_piped(text: str, name: str, instead: str, encoding: str = "utf-8", wrong_bytes: str = "strict") -> Text:
    """The text that was typed, or standard input for `-`.

    If it is the name of a file, a note says how to read the file's content: `instead` is the command without its text.
    """
    if text == STANDARD_INPUT:
        return read_text(STANDARD_INPUT, encoding, wrong_bytes)
    refuse(DECODING, "is about standard input, and the text is typed: name - for it")
    note_file(text, f"{instead} - < ")
    return Text.from_string(text, name)


def note_file(text: str, command: str) -> None:
    """If a typed text is the name of a file, print how to read the file's content: `command`, and then the name."""
    try:
        is_file = Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        is_file = False
    if is_file:
        _note(f"{shell_quoted(text)} is read as a text here, and there is a file of this name; for its content:")
        print_message(f"  {command}{shell_quoted(text)}")


def note_line_ends(text: Text, history: History, tokenizer: Tokenizer) -> None:
    """Warn about line ends that the run's training text does not have."""
    feeds, returns = (ord(character) in tokenizer.seen for character in "\n\r")
    known = known_line_ends(history.corpus, feeds=feeds, returns=returns)
    if known is not None and (message := unknown_line_ends(text, known)):
        _note(message)


def note_learned(
    text: Text,
    learned: LearnedShare,
    training_text: str = "the training text",
    consequence: str = "figures on that part measure memory, not prediction",
) -> None:
    """Warn if much of the text to measure on occurs in a training text."""
    if learned.share >= MIN_NOTED_SHARE:
        _note(f"{text.name}: {learned_words(learned)} occurs word for word in {training_text}; {consequence}")


def learned_by(runs: Sequence[Path], text: Text, history: History, own: Reopened | None = None) -> LearnedShare:
    """How much of a text occurs in the training text of these runs, as `learned_share` has it; warns if it is much."""
    names = listed([str(path) for path in runs])
    with progress_bar(names) as progress:
        learned = learned_share(text, history, own, progress)
    note_learned(text, learned, f"the training text of {names}")
    return learned


def note_learned_by(runs: Sequence[Path], text: Text, moved: Moved) -> None:
    """Warn if much of the held-out text of the runs occurs in their training texts, once for each training text."""
    by_training_text: dict[str, tuple[list[Path], History]] = {}
    for path in dict.fromkeys(runs):
        history = read_history(path)
        training_text = json.dumps([(history.corpus or {}).get("sha256"), history.parents, history.weighed_on])
        moved_history = replace(history, corpus=relocated(history.corpus, *moved))
        by_training_text.setdefault(training_text, ([], moved_history))[0].append(path)
    for paths, history in by_training_text.values():
        learned_by(paths, text, history)


def note_held_out(split: Split, history: History, tokenizer: Tokenizer) -> None:
    """Warn before training about what makes figures on the held-out text misleading."""
    note_line_ends(split.held_out, history, tokenizer)
    note_learned(split.held_out, LearnedShare(share_in(split.held_out, [split.training]), True))


def learned_words(learned: LearnedShare) -> str:
    """How much of a text occurs in the training text, in words."""
    if learned.known is None:
        return "unknown: the training text cannot be read again"
    if not learned.share:
        return "none of it"
    if learned.share < 0.0005:
        return "less than 0.1% of it"
    return f"{'' if learned.complete else 'at least '}{learned.share:.1%} of it"


def _note(message: str) -> None:
    print_message(message, "yellow")
