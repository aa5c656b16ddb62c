"""The texts of history entries, in the style that other builders use, so that tools read them alike. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from builder.oci.spec import Healthcheck

NOT_UTF8 = re.compile("[\ud800-\udfff]")
SUFFIX = " # buildkit"
ESCAPES = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
    "\\": "\\\\", '"': '\\"',
}  # fmt: skip


def valid(text: str) -> str:
    """A text as JSON can have it: bytes that were no UTF-8 become U+FFFD."""
    return text if text.isascii() else NOT_UTF8.sub("\ufffd", text)


def quoted(text: str) -> str:
    """A text in double quotes, as Go's %q has it."""
    return '"' + "".join(_quote(char) for char in text) + '"'


def _quote(char: str) -> str:
    if char in ESCAPES:
        return ESCAPES[char]
    if char.isprintable():
        return char
    point = ord(char)
    if 0xDC80 <= point <= 0xDCFF:  # a byte that was no UTF-8 (surrogateescape)
        return f"\\x{point - 0xDC00:02x}"
    if point < 0x80:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def quoted_list(values: Iterable[str]) -> str:
    """`["a" "b"]`."""
    return "[" + " ".join(quoted(value) for value in values) + "]"


def plain_list(values: Iterable[str]) -> str:
    """`[a b]`."""
    return "[" + " ".join(values) + "]"


def run_text(argv: Iterable[str], args: Iterable[str], variables: Mapping[str, str]) -> str:
    """RUN with the ARGs in force before it: `RUN |1 A=1 /bin/sh -c make # buildkit`."""
    declared = [f"{name}={variables.get(name, '')}" for name in dict.fromkeys(args)]
    count = [f"|{len(declared)}"] if declared else []
    return "RUN " + " ".join([*count, *declared, *argv]) + SUFFIX


def healthcheck_text(check: Healthcheck) -> str:
    """HEALTHCHECK with all its settings."""
    return (
        f"HEALTHCHECK {{Test:{plain_list(check.test)} Interval:{duration_text(check.interval)}"
        f" Timeout:{duration_text(check.timeout)} StartPeriod:{duration_text(check.start_period)}"
        f" StartInterval:{duration_text(check.start_interval)} Retries:{check.retries}}}"
    )


def duration_text(nanoseconds: int) -> str:
    """A duration as Go writes it: `1m30s`, `500ms`, `0s`."""
    if nanoseconds < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if nanoseconds >= size:
                return _decimal(nanoseconds, size) + unit
        return "0s"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    seconds = _decimal(rest, 1_000_000_000) + "s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def _decimal(value: int, size: int) -> str:
    whole, rest = divmod(value, size)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(size)) - 1}d}".rstrip("0")
