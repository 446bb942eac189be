"""Command-line options: those that commands share, help that groups them, and what refuses those without effect."""

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from typing_extensions import override

from charlm.cli.spelling import Refused, spelled
from charlm.config import ADAPTATIONS
from charlm.errors import CharlmError, UsageError
from charlm.threads import fix_threads

MAX_THREADS = 1024
MAX_SEED = 2**63 - 1
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

HELP_ALL = "help_all"
CONTEXT_HELP = "Let the model see only the last so many characters.  [default: all that it can use]"


class GroupedOption(click.Option):
    """An option with the heading under which help lists it. A `rare` one is listed by --help-all only."""

    def __init__(self, *args: Any, heading: str = "Options", rare: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading, self.rare = heading, rare


class GroupedCommand(click.Command):
    """A command whose help lists its options under headings: the common ones, or with --help-all every one."""

    @override
    def invoke(self, ctx: click.Context) -> Any:
        # an error names settings as options of this command
        try:
            return super().invoke(ctx)
        except CharlmError as problem:
            raise Refused(spelled(str(problem), self), problem.exit_code) from problem

    @override
    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        # adds --help-all where it lists more than --help
        parameters = super().get_params(ctx)
        if any(_is_rare(parameter) for parameter in parameters):
            parameters.append(HELP_ALL_OPTION)
        return parameters

    @override
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # one section a heading, in the order of first appearance
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


def _show_all(ctx: click.Context, _parameter: click.Parameter, given: bool) -> None:
    if given and not ctx.resilient_parsing:
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


def integer_option(
    *names: str, help: str, low: int, high: int | None = None, default: int | None = None, **kwargs: Any
) -> Decorator:
    """An option that takes an integer from `low` to `high`. Where the default is None, `help` says what it means."""
    kind = click.IntRange(low, high)
    return option(*names, type=kind, default=default, show_default=default is not None, help=help, **kwargs)


def seconds_option(name: str, *, low: float, default: float, help: str, rare: bool = False) -> Decorator:
    """An option that takes a number of seconds, `low` at least."""
    return option(name, type=click.FloatRange(low), default=default, show_default=True, help=help, rare=rare)


def output_option(help: str) -> Decorator:
    """--output, for a file or a folder."""
    return option("--output", "-o", type=click.Path(path_type=Path), help=help)


def force_option(help: str = "Replace the run of that name, or in --output.") -> Decorator:
    """--force, for a command that otherwise overwrites nothing."""
    return option("--force", is_flag=True, help=help)


def json_option(help: str = "Print the outcome as JSON.") -> Decorator:
    """--json, as the parameter `as_json`."""
    return option("--json", "as_json", is_flag=True, help=help)


def adapt_option(*, rare: bool = False) -> Decorator:
    """--adapt, as the parameter `adaptation`, for a command that reads a text with models."""
    help = (
        "What goes on learning from the text as it is read: nothing (none), what models count (counts), or the weights "
        "of networks as well, by gradient steps (all).  [default: counts, where a model has them]"
    )
    return option("--adapt", "adaptation", type=click.Choice(ADAPTATIONS), default=None, help=help, rare=rare)


def device_option(*, rare: bool = False) -> Decorator:
    """--device, for a command that computes."""
    help = "Compute on this device: auto, cpu, cuda or mps."
    return option("--device", default="auto", show_default=True, help=help, rare=rare)


def refuse(names: Iterable[str], why: str) -> None:
    """Raises UsageError if one of these parameters of the running command was given, because it has no effect."""
    context, names = click.get_current_context(), set(names)
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is ParameterSource.COMMANDLINE:
            raise UsageError(f"{parameter.opts[0]} {why}; leave it out")


def refuse_all_but(names: Iterable[str], why: str) -> None:
    """Raises UsageError if any parameter of the running command was given that is not one of these."""
    refuse({parameter.name or "" for parameter in click.get_current_context().command.params} - set(names), why)


def check_name(value: str, known: Iterable[str], flag: str) -> str:
    """`value` if it is one of `known`. Raises click.BadParameter that suggests the closest."""
    known = list(known)
    if value not in known:
        closest = difflib.get_close_matches(value, known, 1)
        hint = f"did you mean {closest[0]}?" if closest else f"there are {', '.join(known)}"
        raise click.BadParameter(f"{value!r} is unknown; {hint}", param_hint=flag)
    return value


def _set_threads(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Fix the number of threads of the process; `auto` leaves it to the code that computes, which measures."""
    if value != "auto":
        if not value.isdecimal() or not 0 < int(value) <= MAX_THREADS:
            raise click.BadParameter(f"{value!r} is not auto or a number from 1 to {MAX_THREADS}")
        fix_threads(int(value))
    return value


def threads_option(*, expose_value: bool = False, rare: bool = False) -> Decorator:
    """--threads, for a command that computes."""
    return option(
        "--threads",
        default="auto",
        show_default=True,
        callback=_set_threads,
        expose_value=expose_value,
        help="Number of threads; auto measures how many are fastest, and again when the machine becomes busy.",
        rare=rare,
    )


def apply(decorators: Iterable[Decorator]) -> Decorator:
    """Several decorators as one; the options appear in help in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(list(decorators)):
            function = decorator(function)
        return function

    return decorate
