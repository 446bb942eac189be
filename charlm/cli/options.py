"""Command-line options made from settings: one per field, its default, help and bounds read from the field itself."""

import dataclasses
import difflib
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click
from click.core import ParameterSource

from charlm.cli.spelling import Refused, option_name, spelled
from charlm.config import Settings, value_types
from charlm.corpus import ERRORS, PREFIX
from charlm.errors import CharlmError, UsageError
from charlm.threads import fix_threads

MAX_THREADS = 1024
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


HELP_ALL = "help_all"
CONTEXT = "Let the model see only the last so many characters.  [default: all that it can use]"


class GroupedOption(click.Option):
    """An option that knows under which heading help lists it, and whether only `--help-all` does."""

    def __init__(self, *args: Any, heading: str = "Options", rare: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading, self.rare = heading, rare


class GroupedCommand(click.Command):
    """A command whose help lists its options under their headings: those that people use, or with --help-all all."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; an error names settings as options of this command."""
        try:
            return super().invoke(ctx)
        except CharlmError as problem:
            raise Refused(spelled(str(problem), self), problem.exit_code) from problem

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """With --help-all, where that tells more than --help."""
        parameters = super().get_params(ctx)
        if any(_is_rare(parameter) for parameter in parameters):
            parameters.append(HELP_ALL_OPTION)
        return parameters

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One section a heading, in the order of first appearance."""
        sections: dict[str, list[tuple[str, str]]] = {}
        left_out = 0
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is None:
                continue
            if _is_rare(parameter) and HELP_ALL not in ctx.meta:
                left_out += 1
                continue
            heading = parameter.heading if isinstance(parameter, GroupedOption) else "Options"
            sections.setdefault(heading, []).append(record)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)
        if left_out:
            formatter.write_paragraph()
            formatter.write_text(f"There are {left_out} options more:  {ctx.command_path} --help-all")


def _is_rare(parameter: click.Parameter) -> bool:
    return isinstance(parameter, GroupedOption) and parameter.rare


def _show_all(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        ctx.meta[HELP_ALL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


HELP_ALL_OPTION = GroupedOption(
    ["--help-all"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_all,
    help="Show every option and exit.",
)


def option(*names: str, heading: str = "Options", rare: bool = False, **kwargs: Any) -> Decorator:
    """`click.option` with a heading; a `rare` one is listed by --help-all only."""
    return click.option(*names, cls=GroupedOption, heading=heading, rare=rare, **kwargs)


def device_option(heading: str = "Options", *, rare: bool = False) -> Decorator:
    """--device, for whatever computes."""
    words = "Compute on this device: auto, cpu, cuda or mps."
    return option("--device", default="auto", show_default=True, help=words, heading=heading, rare=rare)


def settings_options(
    heading: str,
    kinds: Mapping[str, type[Settings]],
    *,
    skip: Iterable[str] = (),
    short: Mapping[str, str] | None = None,
    common: Iterable[str] | None = None,
    defaults: Mapping[str, str] | None = None,
) -> Decorator:
    """An option for each field of these settings classes; one that several share says whose it is.

    An option that is not given is None, so the caller knows what was: see `given`. Only those in `common` are listed by
    --help, where not all are. `defaults` says in words what stands in for a field where that is not its own default.
    """
    owners: dict[str, list[str]] = {}
    for owner, kind in kinds.items():
        for f in dataclasses.fields(kind):
            if f.metadata and f.name not in skip:
                owners.setdefault(f.name, []).append(owner)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(owners):
            words = _help(name, {owner: kinds[owner] for owner in owners[name]}, (defaults or {}).get(name))
            if len(kinds) > 1:
                words += f"  [{', '.join(owners[name])}]"
            rare = common is not None and name not in common
            first = kinds[owners[name][0]]
            function = _option(heading, first, name, words, (short or {}).get(name), rare=rare)(function)
        return function

    return decorate


def given(values: Mapping[str, Any], *kinds: type[Settings]) -> dict[str, Any]:
    """Of a command's parameters those that belong to these settings and were given."""
    names = {name for kind in kinds for name in kind.names()}
    return {name: value for name, value in values.items() if name in names and value is not None}


def _help(name: str, kinds: Mapping[str, type[Settings]], default: str | None) -> str:
    """A setting's help as a sentence, what it may be, and its default; the first of its classes describes it."""
    fields = {owner: next(f for f in dataclasses.fields(kind) if f.name == name) for owner, kind in kinds.items()}
    metadata = next(iter(fields.values())).metadata
    choices = dict.fromkeys(choice for f in fields.values() for choice in f.metadata.get("choices", ()))
    words = metadata["help"] + (f": {', '.join(choices)}" if choices else "")
    return f"{words[0].upper()}{words[1:]}.  [default: {default or _default(name, fields)}]"


def _default(name: str, fields: Mapping[str, "dataclasses.Field[Any]"]) -> str:
    """What a setting is if it is not given; where that differs, for whom."""
    shown = {}
    for owner, f in fields.items():
        value = f.metadata.get("unset", "none") if f.default is None else f.default
        shown[owner] = ("" if value else "no-") + name.replace("_", "-") if isinstance(value, bool) else value
    return by_value(shown)


def by_value(values: Mapping[str, object]) -> str:
    """In words, what each has: "3" where all have the same, "3 for a, b; 4 for c" where not."""
    owners: dict[str, list[str]] = {}
    for owner, value in values.items():
        owners.setdefault(str(value), []).append(owner)
    if len(owners) == 1:
        return next(iter(owners))
    return "; ".join(f"{value} for {', '.join(names)}" for value, names in owners.items())


def _option(heading: str, kind: type[Settings], name: str, words: str, short: str | None, *, rare: bool) -> Decorator:
    admitted = [t for t in value_types(typing.get_type_hints(kind)[name]) if t is not type(None)]
    flag = option_name(name)
    if admitted == [bool]:
        return option(f"{flag}/--no-{flag[2:]}", name, default=None, help=words, heading=heading, rare=rare)
    flags = [*filter(None, (short, flag)), name]
    kinds = TYPES[frozenset(admitted)]
    return option(*flags, type=kinds, default=None, help=words, heading=heading, rare=rare)


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


def threads_option(heading: str = "Options", *, expose_value: bool = False, rare: bool = False) -> Decorator:
    """--threads, for a command that computes; `auto` unless it is given."""
    return option(
        "--threads",
        default="auto",
        show_default=True,
        callback=_set_threads,
        expose_value=expose_value,
        help="Threads, a number; auto measures, again when other programs take their share.",
        heading=heading,
        rare=rare,
    )


def decoding_options(what: str, heading: str = "Options", *, rare: bool = False) -> list[Decorator]:
    """--encoding and --errors, of the files that the text says; see DECODING."""
    return [
        option(
            "--encoding",
            default="utf-8",
            show_default=True,
            help=f"{what}; auto finds it out.",
            heading=heading,
            rare=rare,
        ),
        option(
            "--errors",
            "wrong_bytes",
            type=click.Choice(ERRORS),
            default="strict",
            show_default=True,
            help="What becomes of bytes that the encoding cannot read: refused, replaced by U+FFFD, left out.",
            heading=heading,
            rare=rare,
        ),
    ]


DECODING = frozenset({"encoding", "wrong_bytes"})
"""The parameters of `decoding_options`."""

corpus_options: list[Decorator] = [
    option(
        "--held-out",
        type=click.Path(),
        help="Evaluate on this file (- for standard input); train on all of the corpus.  "
        "[default: the last tenth of the corpus]",
    ),
    *decoding_options("Encoding of the files", "Text", rare=True),
]
moved_options: list[Decorator] = [
    option(
        "--corpus",
        "corpus_moved",
        multiple=True,
        rare=True,
        help="Where the runs' corpus is now, if it has moved.  [default: where it was]",
    ),
    option(
        "--held-out",
        "held_out_moved",
        help="Where their held-out file is now, if it has moved.  [default: where it was]",
        rare=True,
    ),
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
            *decoding_options("Encoding of --text"),
        ]
    )


def apply(decorators: Iterable[Decorator]) -> Decorator:
    """Several decorators as one, the first outermost."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(list(decorators)):
            function = decorator(function)
        return function

    return decorate
