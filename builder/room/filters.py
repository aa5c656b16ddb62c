"""`--filter`: which items are meant, by docker buildx's keys and operators. Pure.

A filter is KEY=VALUE, KEY!=VALUE, KEY~=EXPRESSION, or a KEY alone for what is or is not so; several must all
match. `id` matches a part of an id, `description` a part of the text, `parents` any of several (a;b), and
`until` (also called `unused-for`) what was not used for so long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from builder.errors import UsageError
from builder.room.items import TYPES, Item
from builder.settings import parse_age

Test = Callable[[Item], bool]
TEXTS: dict[str, Callable[[Item], str]] = {
    "id": lambda item: item.id,
    "type": lambda item: item.type,
    "description": lambda item: item.description,
    "parents": lambda item: ";".join(item.parents),
}
FLAGS: dict[str, Test] = {
    "inuse": lambda item: item.in_use,
    "mutable": lambda item: item.mutable,
    "immutable": lambda item: not item.mutable,
    "shared": lambda item: item.shared,
    "private": lambda item: not item.shared,
}
AGES = ("until", "unused-for")
KEYS = (*TEXTS, *FLAGS, *AGES)
_FORM = re.compile(r"([^=!~]*)(?:(==|!=|~=|=)(.*))?", re.DOTALL)
MAX_EXPRESSION = 1000


@dataclass(frozen=True, slots=True)
class Filter:
    """What a command's filters come to. unused: seconds, 0 for any; empty: nothing was asked for."""

    tests: tuple[Test, ...] = ()
    unused: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether it matches everything."""
        return not self.tests and not self.unused

    def matches(self, item: Item, now: float) -> bool:
        """Whether an item is meant; `now` in seconds."""
        if self.unused and item.used > now - self.unused:
            return False
        return all(test(item) for test in self.tests)


def parse(texts: Sequence[str]) -> Filter:
    """Read filters as they were typed. Raises UsageError that names the one at fault."""
    tests: list[Test] = []
    unused: list[int] = []
    for text in texts:
        found = _FORM.fullmatch(text)
        key, operator, value = found.groups(default="") if found else (text, "", "")
        if key not in KEYS:
            raise UsageError(f"--filter {text}: no key {key!r}", hint=f"the keys are {', '.join(KEYS)}")
        if key in AGES:
            if operator not in ("=", "=="):
                raise UsageError(f"--filter {text}: {key} takes a duration", hint=f"for example {key}=48h")
            unused.append(parse_age(value, f"--filter {key}"))
        elif key in FLAGS:
            tests.append(_flag(text, key, operator, value))
        else:
            tests.append(_text(text, key, operator, value))
    if len(unused) > 1:
        raise UsageError("--filter until: one duration is taken")
    return Filter(tuple(tests), unused[0] if unused else 0)


def _flag(text: str, key: str, operator: str, value: str) -> Test:
    wanted = {"": True, "true": True, "1": True, "false": False, "0": False}.get(value.lower())
    if wanted is None or operator == "~=":
        raise UsageError(f"--filter {text}: {key} is true or false")
    if operator == "!=":
        wanted = not wanted
    test = FLAGS[key]
    return lambda item: test(item) is wanted


def _text(text: str, key: str, operator: str, value: str) -> Test:
    if not operator:
        raise UsageError(f"--filter {text}: a value is missing", hint=f"for example {key}=...")
    if key == "type" and operator != "~=" and value not in TYPES.values():
        known = ", ".join(sorted({*TYPES.values()}))
        raise UsageError(f"--filter {text}: no type {value!r}", hint=f"the types are {known}")
    told = TEXTS[key]
    if operator == "~=":
        if len(value) > MAX_EXPRESSION:
            raise UsageError("--filter: an expression of more than 1,000 characters")
        try:
            expression = re.compile(value)
        except re.error as error:
            raise UsageError(f"--filter {text}: {error}") from error
        return lambda item: expression.search(told(item)) is not None
    wanted = [part for part in value.split(";") if part] if key == "parents" else [value]
    if key == "type":
        test: Test = lambda item: told(item) == value  # noqa: E731 - one line says it
    elif key == "parents":
        test = lambda item: any(part in item.parents for part in wanted)  # noqa: E731
    else:
        test = lambda item: value in told(item)  # noqa: E731
    return (lambda item: not test(item)) if operator == "!=" else test
