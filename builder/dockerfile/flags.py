"""The flags of an instruction: which it has, and what they hold. Pure.

A flag nobody knows is an error also in a stage that nothing needs. ARG and STOPSIGNAL have none and pass
over any; so does HEALTHCHECK NONE.
"""

from __future__ import annotations

from collections.abc import Callable

from builder.dockerfile.ast import Flag
from builder.dockerfile.devices import DeviceError, parse_device
from builder.dockerfile.healthchecks import parse_interval, parse_retries
from builder.dockerfile.mounts import MountError, source_name
from builder.errors import DockerfileError
from builder.text import Location, Span

BOOLEAN, TEXT, TEXTS, DURATION, NUMBER = "boolean", "text", "texts", "duration", "number"
KNOWN: dict[str, dict[str, str]] = {
    "FROM": {"platform": TEXT},
    "RUN": {"mount": TEXTS, "network": TEXT, "security": TEXT, "device": TEXTS},
    "COPY": {
        "from": TEXT, "chown": TEXT, "chmod": TEXT, "link": BOOLEAN, "parents": BOOLEAN, "exclude": TEXTS,
    },
    "ADD": {
        "chown": TEXT, "chmod": TEXT, "checksum": TEXT, "link": BOOLEAN, "keep-git-dir": BOOLEAN,
        "unpack": BOOLEAN, "exclude": TEXTS,
    },
    "HEALTHCHECK": {
        "interval": DURATION, "timeout": DURATION, "start-period": DURATION, "start-interval": DURATION,
        "retries": NUMBER,
    },
}  # fmt: skip
UNCHECKED = frozenset({"ARG", "STOPSIGNAL"})
VALUES: dict[str, Callable[[str], int]] = {DURATION: parse_interval, NUMBER: parse_retries}
CHOICES = {"network": ("default", "none", "host"), "security": ("sandbox", "insecure")}


def read_flag(text: str, span: Span, escape: str) -> Flag:
    """`--name=value` as written to a flag; quotes and escapes go, in the name as well."""
    out: list[str] = []
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == escape:
            out.append(text[at : at + 1])
            at += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            out.append(char)
    name, equals, value = "".join(out)[2:].partition("=")
    return Flag(name, value if equals else None, span)


def check_flags(keyword: str, flags: tuple[Flag, ...], locate: Callable[[Span], Location]) -> None:
    """Raise DockerfileError, placed, where an instruction has a flag that it cannot have."""
    if keyword in UNCHECKED:
        return
    known = KNOWN.get(keyword, {})
    seen: set[str] = set()
    for flag in flags:
        kind = known.get(flag.name)
        if kind is None:
            raise DockerfileError(
                f"{keyword} has no flag --{flag.name}",
                code="unknown-flag",
                location=locate(flag.span),
                hint=meant(flag.name, known, "--"),
            )
        problem = "is given twice" if flag.name in seen and kind != TEXTS else _problem(flag, kind)
        if problem:
            raise DockerfileError(
                f"--{flag.name} {problem}",
                code="bad-flag",
                location=locate(flag.span),
                hint=meant(flag.value or "", CHOICES.get(flag.name, ())),
            )
        seen.add(flag.name)


def _problem(flag: Flag, kind: str) -> str | None:
    if kind == BOOLEAN:
        if flag.value == "":
            return "has an empty value"
        if flag.value is not None and flag.value.lower() not in ("true", "false"):
            return f"is true or false, not {flag.value!r}"
        return None
    if flag.value is None:
        return "needs a value"
    if flag.name == "mount":
        return _mount_problem(flag.value)
    if flag.name == "device":
        return _device_problem(flag.value)
    if kind in VALUES:
        return _value_problem(flag.value, VALUES[kind])
    choices = CHOICES.get(flag.name)
    if choices and flag.value not in choices:
        return f"is one of {', '.join(choices)}, not {flag.value!r}"
    return None


def _mount_problem(value: str) -> str | None:
    """What can be said of a mount before variables have values."""
    try:
        source_name(value)
    except MountError as error:
        return f"is wrong: {error}"
    return None


def _device_problem(value: str) -> str | None:
    try:
        parse_device(value)
    except DeviceError as error:
        return str(error)
    return None


def _value_problem(value: str, read: Callable[[str], int]) -> str | None:
    try:
        read(value)
    except ValueError as error:
        return f"is wrong: {error}"
    return None


def meant(word: str, known: dict[str, str] | tuple[str, ...], prefix: str = "") -> str | None:
    """A hint with the known word that is nearest, None if none is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    return f"did you mean {prefix}{near[0]}?" if near else None
