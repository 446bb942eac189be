"""Settings: frozen dataclasses whose fields carry their own default, help and bounds, and their JSON form.

A default lives in its field and nowhere else; command line, documentation and checkpoint read it from there.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar

from charlm.errors import CharlmError, UsageError

S = TypeVar("S", bound="Settings")

BOUNDARY = 0
"""The id before the first token of a text: every tokenizer leaves it free, every model is started with it."""

ADAPTATIONS = ("none", "counts", "all")
"""What learns from a text as it is read: nothing; what counting models count; the weights of networks as well."""


def setting(
    default: Any,
    help: str,
    *,
    min: float | None = None,
    max: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] | None = None,
    unset: str | None = None,
) -> Any:
    """One field of a `Settings` class: its default, its help line, and what it may be.

    `min` and `max` are inclusive, `above` and `below` exclusive; `choices` lists the only strings allowed; `unset` says
    in words what happens where the default is None.
    """
    rules = {"min": min, "max": max, "above": above, "below": below, "choices": choices, "unset": unset}
    return field(default=default, metadata={"help": help, **{k: v for k, v in rules.items() if v is not None}})


def value_types(annotation: Any) -> tuple[type, ...]:
    """The plain types that a field's annotation admits: `int | None` -> (int, NoneType)."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


@dataclass(frozen=True)
class Settings:
    """Base of every settings class: checks types and bounds when built, converts to and from JSON strictly.

    A field that `setting` did not make is not the user's to set; its class checks and converts it itself.
    """

    def __post_init__(self) -> None:
        """Raises UsageError that names the setting, the bound and the value given."""
        hints = typing.get_type_hints(type(self))
        for f in fields(self):
            if f.metadata:
                _check(f, hints[f.name], getattr(self, f.name))

    @classmethod
    def names(cls) -> list[str]:
        """The settings that the user may choose."""
        return [f.name for f in fields(cls) if f.metadata]

    def unheeded(self) -> Mapping[str, str]:
        """The settings that have no effect beside the others, by name, each with the reason."""
        return {}

    def changed(self: S, options: Mapping[str, Any]) -> S:
        """The same with other values for some of `names`."""
        return dataclasses.replace(self, **options)

    def to_json(self) -> dict[str, Any]:
        """The settings as a JSON object, every field spelled out."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls: type[S], data: Any, where: str, error: type[CharlmError] = UsageError) -> S:
        """The settings from a JSON object; `where` names its source in the error raised for anything unexpected."""
        if not isinstance(data, Mapping):
            raise error(f"{where}: expected an object of settings, found {type(data).__name__}")
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(data) - set(known))
        if unknown:
            raise error(
                f"{where}: unknown setting {_quoted(unknown[0])}; a newer charlm may have written it: upgrade charlm"
            )
        missing = sorted(name for name, f in known.items() if name not in data and f.default is MISSING)
        if missing:
            raise error(f"{where}: setting {missing[0]!r} is missing; the file is damaged or incomplete")
        try:
            return cls(**data)
        except UsageError as problem:
            raise error(f"{where}: {problem}") from None


def _quoted(value: object) -> str:
    """A value as an error shows it: what a stranger has written may be long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check(f: "Field[Any]", annotation: Any, value: Any) -> None:
    name, rules = f.name, f.metadata
    admitted = value_types(annotation)
    exact = type(value) in admitted or (type(value) is int and float in admitted)
    if not exact:
        words = " or ".join("nothing" if t is type(None) else t.__name__ for t in admitted)
        raise UsageError(f"must be {words}, not {_quoted(value)}", name)
    if value is None:
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"must be a finite number, not {value}", name)
    if "choices" in rules and value not in rules["choices"]:
        raise UsageError(f"must be one of {', '.join(rules['choices'])}, not {_quoted(value)}", name)
    broken = (
        ("min" in rules and value < rules["min"] and f"at least {rules['min']}")
        or ("max" in rules and value > rules["max"] and f"at most {rules['max']}")
        or ("above" in rules and value <= rules["above"] and f"greater than {rules['above']}")
        or ("below" in rules and value >= rules["below"] and f"less than {rules['below']}")
    )
    if broken:
        raise UsageError(f"must be {broken}, not {value}", name)
