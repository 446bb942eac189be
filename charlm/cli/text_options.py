"""The options that name texts: a corpus, the text to measure on, and where the texts of a run are now."""

from collections.abc import Iterable, Sequence

import click

from charlm.cli.options import Decorator, apply, option, refuse
from charlm.corpus import ERRORS, PREFIX

DECODING = frozenset({"encoding", "wrong_bytes"})
"""The parameters of `decoding_options`."""

MOVED = frozenset({"corpus_moved", "held_out_moved"})
"""The parameters of `moved_options`."""

Moved = tuple[Sequence[str], str | None]
"""The values of `moved_options`: where the files of a run's corpus are now, and its held-out file."""


def decoding_options(what: str, *, heading: str = "Options", rare: bool = False) -> list[Decorator]:
    """--encoding and --errors; `what` names the files that they are about."""
    return [
        option(
            "--encoding",
            default="utf-8",
            show_default=True,
            help=f"Encoding of {what}; auto detects it.",
            heading=heading,
            rare=rare,
        ),
        option(
            "--errors",
            "wrong_bytes",
            type=click.Choice(ERRORS),
            default="strict",
            show_default=True,
            help="What to do with bytes that the encoding cannot read: refuse them, replace them by U+FFFD, skip them.",
            heading=heading,
            rare=rare,
        ),
    ]


corpus_options: list[Decorator] = [
    option(
        "--held-out",
        type=click.Path(),
        help="Evaluate on this file (- for standard input); train on all of the corpus.  "
        "[default: the last tenth of the corpus]",
    ),
    *decoding_options("the files", heading="Text", rare=True),
]

corpus_moved_option = option(
    "--corpus",
    "corpus_moved",
    multiple=True,
    rare=True,
    help="Where the runs' corpus is now, if it has moved.  [default: where it was]",
)
held_out_moved_option = option(
    "--held-out",
    "held_out_moved",
    rare=True,
    help="Where their held-out file is now, if it has moved.  [default: where it was]",
)
moved_options: list[Decorator] = [corpus_moved_option, held_out_moved_option]


def text_options(what: str) -> Decorator:
    """--text, --encoding and --errors, for a file that replaces the default text: see `texts.named_text`."""
    return apply([option("--text", type=click.Path(), help=what), *decoding_options("--text")])


def check_encoding(corpus: Iterable[str], held_out: object) -> None:
    """Raises UsageError for an --encoding or --errors where no file is read."""
    if not held_out and all(name.startswith(PREFIX) for name in corpus):
        refuse(DECODING, "is about files, and builtin: texts are none")
