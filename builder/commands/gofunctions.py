"""The functions of docker's templates, over plain data: what `{{json .X}}` and its like mean.

Those of docker (json, join, split, lower, upper, title, pad, truncate, println) and the few of Go's own that
templates for docker use (len, index, print, printf, eq, ne, lt, le, gt, ge, and, or, not). Values are plain
data; how they are written is `text_of`, as Go writes them. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

NO_VALUE = "<no value>"
Function = Callable[..., Any]


class Nil:
    """A list or a map that is not there: empty as text ("[]" or "map[]"), null as JSON."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


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
            return "map[" + " ".join(f"{key}:{text_of(value[key])}" for key in sorted(value)) + "]"
        case list() | tuple():
            return "[" + " ".join(map(text_of, value)) + "]"
        case float():
            return f"{value:g}"
    return str(value)


def json_of(value: object) -> str:
    """A value as JSON on one line."""
    return json.dumps(value, default=_plain, separators=(",", ":"))


def _plain(value: object) -> object:
    if isinstance(value, Nil):
        return None
    raise Misuse("this has no form as JSON")


def _join(parts: object, separator: object = "") -> str:
    return text_of(separator).join(map(text_of, _list(parts, "join")))


def _split(text: object, separator: object) -> list[str]:
    separator = text_of(separator)
    return text_of(text).split(separator) if separator else list(text_of(text))


def _title(text: object) -> str:
    return re.sub(r"\b\w", lambda found: found[0].upper(), text_of(text))


def _pad(text: object, before: object, after: object) -> str:
    return " " * _number(before) + text_of(text) + " " * _number(after)


def _truncate(text: object, length: object) -> str:
    return text_of(text)[: max(0, _number(length))]


def _len(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode(errors="surrogateescape"))
    if isinstance(value, Mapping | list | tuple | Nil):
        return len(value)
    raise Misuse(f"len of {text_of(value)}: it has no length")


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(text_of(key), "")
        elif isinstance(value, list | tuple | str):
            at = _number(key)
            if not 0 <= at < len(value):
                raise Misuse(f"index {at} is out of range: there are {len(value)}")
            value = value[at]
        else:
            raise Misuse(f"index of {text_of(value)}: it is neither a list nor a map")
    return value


def _println(*values: object) -> str:
    return " ".join(map(text_of, values)) + "\n"


def _print(*values: object) -> str:
    return "".join(map(text_of, values))


def _digits(value: object) -> str:
    return str(_number(value))


_VERBS: Mapping[str, Callable[[object], str]] = {"q": json_of, "s": text_of, "v": text_of, "d": _digits}


def _printf(form: object, *values: object) -> str:
    left = list(values)

    def written(found: re.Match[str]) -> str:
        if found[3] == "%":
            return "%"
        if not left:
            raise Misuse(f"printf has no value for {found[0]}")
        value = left.pop(0)
        if found[3] not in _VERBS:
            raise Misuse(f"printf knows no {found[0]}: it has %s, %v, %q and %d")
        shown = _VERBS[found[3]](value)
        width = int(found[2] or 0)
        return shown.ljust(width) if found[1] else shown.rjust(width)

    done = re.sub(r"%(-?)(\d{0,3})(.)", written, text_of(form))
    if left:
        raise Misuse("printf has more values than its format takes")
    return done


def _equal(one: object, *others: object) -> bool:
    if not others:
        raise Misuse("eq takes two values")
    return any(one == other for other in others)


def _compare(sign: Callable[[Any, Any], bool]) -> Function:
    def compare(one: object, other: object) -> bool:
        if isinstance(one, str) != isinstance(other, str) or not isinstance(one, str | int | float):
            raise Misuse(f"{text_of(one)} and {text_of(other)} cannot be compared")
        return sign(one, other)

    return compare


def _and(*values: object) -> object:
    return next((value for value in values if not value), values[-1] if values else "")


def _or(*values: object) -> object:
    return next((value for value in values if value), values[-1] if values else "")


def _list(value: object, name: str) -> Sequence[object]:
    if isinstance(value, Nil):
        return ()
    if isinstance(value, list | tuple):
        return value
    raise Misuse(f"{name} of {text_of(value)}: it is no list")


def _number(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Misuse(f"{text_of(value)!r} is no number")


FUNCTIONS: Mapping[str, Function] = {
    "json": json_of,
    "join": _join,
    "split": _split,
    "lower": lambda text: text_of(text).lower(),
    "upper": lambda text: text_of(text).upper(),
    "title": _title,
    "pad": _pad,
    "truncate": _truncate,
    "len": _len,
    "index": _index,
    "print": _print,
    "println": _println,
    "printf": _printf,
    "eq": _equal,
    "ne": lambda one, other: one != other,
    "lt": _compare(lambda one, other: one < other),
    "le": _compare(lambda one, other: one <= other),
    "gt": _compare(lambda one, other: one > other),
    "ge": _compare(lambda one, other: one >= other),
    "and": _and,
    "or": _or,
    "not": lambda value: not value,
}


def _heading(text: object, *_: object) -> str:
    return text_of(text)


# In the heading of a table what is done to a value is not done to its name.
HEADING_FUNCTIONS: Mapping[str, Function] = {
    **FUNCTIONS,
    **dict.fromkeys(("json", "split", "join", "title", "lower", "upper", "pad", "truncate"), _heading),
}
