"""Command-line options made from settings: one per field, its default, help and bounds read from the field itself."""

import dataclasses
import difflib
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click
from click.core import ParameterSource

from charlm.config import Settings, option_name, value_types
from charlm.corpus import ERRORS, PREFIX
from charlm.errors import UsageError
from charlm.threads import fix_threads

MAX_THREADS = 1024
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class GroupedOption(click.Option):
    """An option that knows under which heading `--help` lists it."""

    def __init__(self, *args: Any, heading: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading


class GroupedCommand(click.Command):
    """A command whose `--help` lists its options under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One section a heading, in the order of first appearance."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                heading = parameter.heading if isinstance(parameter, GroupedOption) else "Options"
                sections.setdefault(heading, []).append(record)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def option(*names: str, heading: str = "Options", **kwargs: Any) -> Decorator:
    """`click.option` with a heading."""
    return click.option(*names, cls=GroupedOption, heading=heading, **kwargs)


def settings_options(
    heading: str,
    kinds: Mapping[str, type[Settings]],
    *,
    skip: Iterable[str] = (),
    short: Mapping[str, str] | None = None,
) -> Decorator:
    """An option for each field of these settings classes; one that several share says whose it is.

    An option that is not given is None, so the caller knows what was: see `given`.
    """
    owners: dict[str, list[str]] = {}
    for owner, kind in kinds.items():
        for f in dataclasses.fields(kind):
            if f.metadata and f.name not in skip:
                owners.setdefault(f.name, []).append(owner)
    first = {name: kinds[names[0]] for name, names in owners.items()}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(owners):
            whose = "" if len(kinds) == 1 else f"[{', '.join(owners[name])}]"
            extra = (short or {}).get(name)
            function = _option(heading, first[name], name, whose, extra, shared=len(owners[name]) > 1)(function)
        return function

    return decorate


def given(values: Mapping[str, Any], *kinds: type[Settings]) -> dict[str, Any]:
    """Of a command's parameters those that belong to these settings and were given."""
    names = {name for kind in kinds for name in kind.names()}
    return {name: value for name, value in values.items() if name in names and value is not None}


def _option(heading: str, kind: type[Settings], name: str, whose: str, short: str | None, *, shared: bool) -> Decorator:
    f = next(f for f in dataclasses.fields(kind) if f.name == name)
    admitted = [t for t in value_types(typing.get_type_hints(kind)[name]) if t is not type(None)]
    words = f.metadata["help"]
    if "choices" in f.metadata and not shared:
        words += f": {', '.join(f.metadata['choices'])}"
    if whose:
        words += f"  {whose}"
    elif f.default is not None:
        words += f"  [default: {f.default}]"
    flag = option_name(name)
    if admitted == [bool]:
        return option(f"{flag}/--no-{flag[2:]}", name, default=None, help=words, heading=heading)
    return option(
        *filter(None, (flag, short)), name, type=TYPES[frozenset(admitted)], default=None, help=words, heading=heading
    )


def integer_or_text(value: str) -> int | str:
    """A number where it is one: for settings such as `auto` or 7."""
    try:
        return int(value)
    except ValueError:
        return value


TYPES: dict[Any, Any] = {
    frozenset({int}): click.INT,
    frozenset({float}): click.FLOAT,
    frozenset({str}): click.STRING,
    frozenset({int, str}): integer_or_text,
}


def refuse(names: Iterable[str], why: str) -> None:
    """Raises UsageError if one of these parameters of the running command was given, for it would have no effect."""
    context, names = click.get_current_context(), set(names)
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is ParameterSource.COMMANDLINE:
            raise UsageError(f"{parameter.opts[0]} {why}; leave it out")


def refuse_all_but(names: Iterable[str], why: str) -> None:
    """Raises UsageError if any parameter of the running command was given that is not one of these."""
    refuse({parameter.name or "" for parameter in click.get_current_context().command.params} - set(names), why)


def check_name(value: str, known: Iterable[str], flag: str) -> str:
    """`value` if it is one of `known`. Raises click.BadParameter with the nearest."""
    known = list(known)
    if value not in known:
        near = difflib.get_close_matches(value, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise click.BadParameter(f"{value!r} is unknown; {hint}", param_hint=flag)
    return value


def _set_threads(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Use so many threads from now on; `auto` leaves it to whoever computes, who measures."""
    if value != "auto":
        if not value.isdecimal() or not 0 < int(value) <= MAX_THREADS:
            raise click.BadParameter(f"{value!r} is not auto or a number from 1 to {MAX_THREADS}")
        fix_threads(int(value))
    return value


def threads_option(heading: str = "Options", *, expose_value: bool = False) -> Decorator:
    """--threads, for a command that computes; `auto` unless it is given."""
    return option(
        "--threads",
        default="auto",
        show_default=True,
        callback=_set_threads,
        expose_value=expose_value,
        help="Of the processor, a number; auto measures, again when other programs take their share.",
        heading=heading,
    )


def decoding_options(what: str, heading: str = "Options") -> list[Decorator]:
    """--encoding and --errors, of the files that the text says; see DECODING."""
    return [
        option("--encoding", default="utf-8", show_default=True, help=f"{what}; auto finds it out.", heading=heading),
        option(
            "--errors",
            "wrong_bytes",
            type=click.Choice(ERRORS),
            default="strict",
            show_default=True,
            help="What becomes of bytes that the encoding cannot read: refused, replaced by U+FFFD, left out.",
            heading=heading,
        ),
    ]


DECODING = frozenset({"encoding", "wrong_bytes"})
"""The parameters of `decoding_options`."""

corpus_options: list[Decorator] = [
    option(
        "--held-out",
        type=click.Path(),
        help="Evaluate on this file (- for standard input); train on all of the corpus.",
        heading="Text",
    ),
    *decoding_options("Of the corpus files", "Text"),
]
moved_options: list[Decorator] = [
    option("--corpus", "corpus_moved", multiple=True, help="Where the runs' corpus is now, if it has moved."),
    option("--held-out", "held_out_moved", help="Where their held-out file is now, if it has moved."),
]


def check_encoding(corpus: Iterable[str], held_out: object) -> None:
    """Raises UsageError for an --encoding or --errors where no file is read."""
    if not held_out and all(name.startswith(PREFIX) for name in corpus):
        refuse(DECODING, "is about files, and builtin: texts are none")


def text_options(what: str) -> Decorator:
    """--text and how to read it, for a file to take instead of what is taken otherwise: see `texts.named_text`."""
    return apply(
        [
            option("--text", type=click.Path(), help=what),
            *decoding_options("Of --text"),
        ]
    )


def apply(decorators: Iterable[Decorator]) -> Decorator:
    """Several decorators as one, the first outermost."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(list(decorators)):
            function = decorator(function)
        return function

    return decorate
