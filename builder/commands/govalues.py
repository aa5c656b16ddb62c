"""Values of docker's templates, and how Go writes them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

NO_VALUE = "<no value>"
T = TypeVar("T")


class Nil:
    """A list, a map or a value that is not there: empty as text ("[]", "map[]", "<nil>"), null as JSON."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


class Struct(dict[str, Any]):
    """What docker has as a structure: with all its fields, of which some are not written. absent: those."""

    def __init__(self, written: Mapping[str, Any], absent: Mapping[str, Any]) -> None:
        super().__init__(written)
        self.absent = absent


class Misuse(Exception):
    """A function was given what it does not take; the text says what."""


def text_of(value: object) -> str:
    """A value as Go prints it (%v)."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case None:
            return "<nil>"
        case Nil():
            return value.text
        case Mapping():
            return "map[" + " ".join(f"{key}:{_inner(value[key])}" for key in sorted(value)) + "]"
        case list() | tuple():
            return "[" + " ".join(map(text_of, value)) + "]"
        case float():
            return _fraction(value)
    return str(value)


def _fraction(value: float) -> str:
    """The shortest text that means the number: with an exponent below 0.0001, and from a million on."""
    if 1e-4 <= abs(value) < 1e6 or not value:
        return repr(value).removesuffix(".0")
    texts = (f"{value:.{digits}e}" for digits in range(17))
    return next((text for text in texts if float(text) == value), repr(value))


def _inner(value: object) -> str:
    """What a map holds: `{}` says that a key is there (ports, volumes), and is no map to Go."""
    return "{}" if value == {} else text_of(value)


def json_of(value: object) -> str:
    """A value as JSON on one line."""
    return json.dumps(value, default=_plain, separators=(",", ":"))


def _plain(value: object) -> object:
    if isinstance(value, Nil):
        return None
    raise Misuse("this has no form as JSON")


def exactly(kind: type[T], value: object, what: str) -> T:
    """The value, if it is of that kind: no bool is an int. Raises Misuse."""
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise Misuse(f"{what}, and not {text_of(value)!r}")
