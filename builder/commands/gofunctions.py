"""The functions of docker's templates, over plain data: what `{{json .X}}` and its like mean.

Those of docker (json, join, split, lower, upper, title, pad, truncate, println) and those of Go's own (len,
index, slice, print, printf, html, js, urlquery, eq, ne, lt, le, gt, ge, not). `and` and `or`, which need not
look at all that they are given, are the template's. Values are plain data, written by `govalues`. Pure.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from builder.commands.goprintf import MAX_WIDTH, printf
from builder.commands.govalues import Misuse, Nil, exactly, json_of, text_of

Function = Callable[..., Any]
# What JavaScript could read as something else.
_JS = {
    "\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"
}  # fmt: skip


def _join(parts: object, separator: object = "") -> str:
    return text_of(separator).join(map(text_of, _list(parts, "join")))


def _split(text: object, separator: object) -> list[str]:
    separator = text_of(separator)
    return text_of(text).split(separator) if separator else list(text_of(text))


def _title(text: object) -> str:
    return re.sub(r"\b\w", lambda found: found[0].upper(), text_of(text))


def _pad(text: object, before: object, after: object) -> str:
    if max(_number(before), _number(after)) > MAX_WIDTH:
        raise Misuse(f"pad: {MAX_WIDTH} blanks are the most")
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
    """Values behind each other, with a blank between two that are no texts."""
    written, before = "", True
    for value in values:
        is_text = isinstance(value, str)
        written += ("" if before or is_text else " ") + text_of(value)
        before = is_text
    return written


def _slice(value: object, *bounds: object) -> object:
    if not isinstance(value, str | list | tuple):
        raise Misuse(f"slice of {text_of(value)}: it is neither a text nor a list")
    if len(bounds) > (2 if isinstance(value, str) else 3):
        raise Misuse("slice takes two bounds")
    whole = value.encode(errors="surrogateescape") if isinstance(value, str) else value
    start, end, *_ = [*map(_number, bounds), *([0, len(whole)][len(bounds) :])]
    if not 0 <= start <= end <= len(whole):
        raise Misuse(f"slice {start} to {end} is out of range: there are {len(whole)}")
    part = whole[start:end]
    return part.decode(errors="surrogateescape") if isinstance(part, bytes) else part


def _html(*values: object) -> str:
    return html.escape(_print(*values)).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")


def _js(*values: object) -> str:
    return "".join(
        _JS.get(letter, letter if letter >= " " else f"\\u{ord(letter):04X}") for letter in _print(*values)
    )


def _urlquery(*values: object) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_print(*values).encode(errors="surrogateescape"))


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


def _list(value: object, name: str) -> Sequence[object]:
    if isinstance(value, Nil):
        return ()
    if isinstance(value, list | tuple):
        return value
    raise Misuse(f"{name} of {text_of(value)}: it is no list")


def _number(value: object) -> int:
    return exactly(int, value, "a number is wanted")


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
    "printf": printf,
    "html": _html,
    "js": _js,
    "urlquery": _urlquery,
    "slice": _slice,
    "eq": _equal,
    "ne": lambda one, other: one != other,
    "lt": _compare(lambda one, other: one < other),
    "le": _compare(lambda one, other: one <= other),
    "gt": _compare(lambda one, other: one > other),
    "ge": _compare(lambda one, other: one >= other),
    "not": lambda value: not value,
}


def _heading(text: object, *_: object) -> str:
    return text_of(text)


# In the heading of a table what is done to a value is not done to its name.
HEADING_FUNCTIONS: Mapping[str, Function] = {
    **FUNCTIONS,
    **dict.fromkeys(("json", "split", "join", "title", "lower", "upper", "pad", "truncate"), _heading),
}
