"""`--call=METHOD,format=…` and `--check`: which methods there are, and what was typed.

On the path of a fully cached build: what the methods do is in `calls`.
"""

from __future__ import annotations

from builder.commands import values
from builder.commands.flags import Parsed, nearest
from builder.errors import UsageError
from builder.value import Value


class Method(Value):
    """A method: what it tells, in which formats, the default one first."""

    name: str
    about: str
    formats: tuple[str, ...]


METHODS = {
    method.name: method
    for method in (
        Method(name="check", about="what checks find in the Dockerfile", formats=("text", "json", "sarif")),
        Method(name="outline", about="what the target can be given", formats=("text", "json")),
        Method(name="targets", about="the stages of the Dockerfile", formats=("text", "json")),
        Method(name="ast", about="the syntax tree of the Dockerfile", formats=("json",)),
        Method(name="graph", about="the steps of the build", formats=("text", "dot", "json")),
        Method(name="subrequests.describe", about="these methods", formats=("text", "json")),
    )
}
ALIASES = {"lint": "check"}


class Call(Value):
    """`--call` of something other than a build; ignore_status: findings are no reason to fail."""

    name: str
    format: str
    ignore_status: bool = False


def call_of(parsed: Parsed) -> Call | None:
    """The method of `--call`; None is a build. Raises UsageError."""
    text = "check" if parsed.switch("check") else parsed.text("call") or parsed.text("print")
    if not text:
        return None
    name, form, ignore_status = _fields(text)
    if name in ("", "build"):
        return None
    method = METHODS.get(ALIASES.get(name, name))
    if method is None:
        hint = nearest(name, METHODS) or f"the methods are build, {', '.join(METHODS)}"
        raise UsageError(f"--call={name}: no such method", hint=hint)
    if form and form not in method.formats:
        hint = f"the formats of {name} are {', '.join(method.formats)}"
        raise UsageError(f"--call={text}: no such format", hint=hint)
    return Call(name=method.name, format=form or method.formats[0], ignore_status=ignore_status)


def _fields(text: str) -> tuple[str, str, bool]:
    """Name, format and whether the status is to be ignored."""
    name, form, ignore_status = "", "", False
    for field in values.split_csv(text, "--call"):
        key, has_value, value = field.partition("=")
        if has_value and key == "format":
            form = value
        elif key == "ignorestatus" and value.lower() in ("", "true", "false", "1", "0"):
            ignore_status = value.lower() not in ("false", "0")
        elif has_value or name:
            raise UsageError(f"--call {text}: {field!r} does not belong there")
        else:
            name = field
    return name, form, ignore_status
