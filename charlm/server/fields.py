"""The JSON object of a request, field by field: each is taken once and checked, and unknown fields are refused."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from charlm.server.errors import ApiError

MAX_QUOTED_CHARACTERS = 60  # of a value in an error message


def parse_json(body: bytes) -> object:
    """The body of a request. Raises ApiError if it is not JSON; NaN and Infinity are not."""
    try:
        return json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise ApiError("the body is nested too deeply to be a request", code="invalid_json") from None
    except ValueError as problem:
        raise ApiError(f"the body is not JSON: {str(problem)[:MAX_QUOTED_CHARACTERS]}", code="invalid_json") from None


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def quoted(value: object) -> str:
    """A value in an error message, shortened."""
    text = repr(value)
    return text if len(text) <= MAX_QUOTED_CHARACTERS else f"{text[: MAX_QUOTED_CHARACTERS - 3]}..."


class Fields:
    """The fields of a request. `null` is the same as a missing field."""

    def __init__(self, data: object) -> None:
        if not isinstance(data, Mapping):
            raise ApiError(f"the body must be a JSON object, not {type(data).__name__}", code="invalid_json")
        self.left = {str(name): value for name, value in data.items() if value is not None}

    def take(self, name: str) -> Any:
        """Any value, or None."""
        return self.left.pop(name, None)

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """An integer from `low` to `high`."""
        value = self.take(name)
        if value is None:
            return default
        if type(value) is not int or not low <= value <= high:
            raise ApiError(f"{name} must be an integer from {low} to {high}, not {quoted(value)}", param=name)
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        value = self.take(name)
        if value is None:
            return default
        if type(value) not in (int, float) or not low <= value <= high:
            raise ApiError(f"{name} must be a number from {low:g} to {high:g}, not {quoted(value)}", param=name)
        return float(value)

    def boolean(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.take(name)
        if value is None:
            return default
        if type(value) is not bool:
            raise ApiError(f"{name} must be true or false, not {quoted(value)}", param=name)
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string; required if it has no default."""
        value = self.take(name)
        if value is None:
            if default is None:
                raise ApiError(f"{name} is missing", param=name, code="missing_field")
            return default
        if type(value) is not str:
            raise ApiError(f"{name} must be a string, not {quoted(value)}", param=name)
        return value

    def members(self, name: str) -> "Fields":
        """A nested object, empty if it is missing."""
        value = self.take(name)
        if value is not None and type(value) is not dict:
            raise ApiError(f"{name} must be an object, not {quoted(value)}", param=name)
        return Fields(value or {})

    def must_be(self, name: str, accepted: Iterable[object]) -> None:
        """A field that is accepted only with a value that changes nothing."""
        value = self.take(name)
        if value is not None and not any(type(value) is type(other) and value == other for other in accepted):
            raise ApiError(f"{name} is not supported: leave it out", param=name, code="unsupported_field")

    def end(self, within: str = "") -> None:
        """Raises ApiError if a field has not been taken."""
        for name in self.left:
            where = f"{within}.{name}" if within else name
            raise ApiError(
                f"{quoted(where)} is not a field of this request: leave it out", param=where[:99], code="unknown_field"
            )
