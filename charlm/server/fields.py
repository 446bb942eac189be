"""A JSON object from a stranger, field by field: each is taken once, checked, and what nobody took is refused."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from charlm.server.errors import ApiError

MAX_QUOTED = 60  # characters of a value that an error repeats


def parse_json(body: bytes) -> object:
    """A request's body. Raises ApiError for what is not JSON; NaN and the infinities are not."""
    try:
        return json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise ApiError("the body is nested too deeply to be a request", code="invalid_json") from None
    except ValueError as problem:
        raise ApiError(f"the body is not JSON: {str(problem)[:MAX_QUOTED]}", code="invalid_json") from None


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def quoted(value: object) -> str:
    """A value as an error repeats it; what a stranger has written may be long."""
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 3]}..."


class Fields:
    """The fields of a request. `null` stands for a field that is not given."""

    def __init__(self, data: object) -> None:
        if not isinstance(data, Mapping):
            raise ApiError(f"the body must be a JSON object, not {type(data).__name__}", code="invalid_json")
        self.left = {str(name): value for name, value in data.items() if value is not None}

    def take(self, name: str) -> Any:
        """Any value, or None."""
        return self.left.pop(name, None)

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
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
        """A string; without a default it must be given."""
        value = self.take(name)
        if value is None:
            if default is None:
                raise ApiError(f"{name} is missing", param=name, code="missing_field")
            return default
        if type(value) is not str:
            raise ApiError(f"{name} must be a string, not {quoted(value)}", param=name)
        return value

    def members(self, name: str) -> "Fields":
        """An object of its own, empty where it is not given."""
        value = self.take(name)
        if value is not None and type(value) is not dict:
            raise ApiError(f"{name} must be an object, not {quoted(value)}", param=name)
        return Fields(value or {})

    def must_be(self, name: str, accepted: Iterable[object]) -> None:
        """A field that may be given, but only with a value that changes nothing."""
        value = self.take(name)
        if value is not None and not any(type(value) is type(one) and value == one for one in accepted):
            raise ApiError(f"{name} is not supported: leave it out", param=name, code="unsupported_field")

    def end(self, within: str = "") -> None:
        """Nothing may be left over."""
        for name in self.left:
            where = f"{within}.{name}" if within else name
            raise ApiError(
                f"{quoted(where)} is not a field of this request: leave it out", param=where[:99], code="unknown_field"
            )
