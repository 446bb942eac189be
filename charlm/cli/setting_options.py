"""Command-line options made from settings: one a field, its default, help and bounds read from the field itself."""

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

from charlm.cli.options import Decorator, option
from charlm.cli.spelling import option_name
from charlm.config import Settings, value_types


def integer_or_text(value: str) -> int | str:
    """An integer if the value is one: for settings such as `auto` or 7."""
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


def settings_options(
    heading: str,
    kinds: Mapping[str, type[Settings]],
    *,
    skip: Iterable[str] = (),
    short: Mapping[str, str] | None = None,
    common: Iterable[str] | None = None,
    defaults: Mapping[str, str] | None = None,
) -> Decorator:
    """An option for each field of these settings classes; help says which classes have it.

    An option that is not given is None, so the caller can tell which were: see `given`. --help lists only the options
    in `common`, if that is passed. `defaults` has in words the default of a field whose own default is replaced later.
    """
    owners: dict[str, list[str]] = {}
    for owner, kind in kinds.items():
        for f in dataclasses.fields(kind):
            if f.metadata and f.name not in skip:
                owners.setdefault(f.name, []).append(owner)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(owners):
            help = _help(name, {owner: kinds[owner] for owner in owners[name]}, (defaults or {}).get(name))
            if len(kinds) > 1:
                help += f"  [{', '.join(owners[name])}]"
            rare = common is not None and name not in common
            first = kinds[owners[name][0]]
            function = _option(heading, first, name, help, (short or {}).get(name), rare=rare)(function)
        return function

    return decorate


def given(values: Mapping[str, Any], *kinds: type[Settings]) -> dict[str, Any]:
    """The parameters of a command that are fields of these settings and were given."""
    names = {name for kind in kinds for name in kind.names()}
    return {name: value for name, value in values.items() if name in names and value is not None}


def _help(name: str, kinds: Mapping[str, type[Settings]], default: str | None) -> str:
    """A field's help as a sentence, its choices and its default. The first of the classes describes it."""
    fields = {owner: next(f for f in dataclasses.fields(kind) if f.name == name) for owner, kind in kinds.items()}
    metadata = next(iter(fields.values())).metadata
    choices = dict.fromkeys(choice for f in fields.values() for choice in f.metadata.get("choices", ()))
    sentence = metadata["help"] + (f": {', '.join(choices)}" if choices else "")
    return f"{sentence[0].upper()}{sentence[1:]}.  [default: {default or _default(name, fields)}]"


def _default(name: str, fields: Mapping[str, "dataclasses.Field[Any]"]) -> str:
    """The default of a field in words, by class where the classes differ."""
    defaults = {}
    for owner, f in fields.items():
        value = f.metadata.get("unset", "none") if f.default is None else f.default
        defaults[owner] = ("" if value else "no-") + name.replace("_", "-") if isinstance(value, bool) else value
    return by_value(defaults)


def by_value(values: Mapping[str, object]) -> str:
    """The values in words: "3" if all are equal, else "3 for a, b; 4 for c"."""
    owners: dict[str, list[str]] = {}
    for owner, value in values.items():
        owners.setdefault(str(value), []).append(owner)
    if len(owners) == 1:
        return next(iter(owners))
    return "; ".join(f"{value} for {', '.join(names)}" for value, names in owners.items())


def _option(heading: str, kind: type[Settings], name: str, help: str, short: str | None, *, rare: bool) -> Decorator:
    types = [t for t in value_types(typing.get_type_hints(kind)[name]) if t is not type(None)]
    flag = option_name(name)
    if types == [bool]:
        return option(f"{flag}/--no-{flag[2:]}", name, default=None, help=help, heading=heading, rare=rare)
    flags = [*filter(None, (short, flag)), name]
    return option(*flags, type=TYPES[frozenset(types)], default=None, help=help, heading=heading, rare=rare)
