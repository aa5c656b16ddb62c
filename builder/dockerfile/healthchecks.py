"""What HEALTHCHECK's flags hold: durations as Go writes them, retries as a number. Pure."""

from __future__ import annotations

import re

UNITS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": 1_000_000_000,
    "m": 60_000_000_000, "h": 3_600_000_000_000,
}  # fmt: skip
PART = re.compile(r"([0-9]{0,19})(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
LONGEST = 2**63 - 1
SHORTEST = 1_000_000  # a millisecond, as docker has it
RETRIES = re.compile(r"[+-]?[0-9]{1,10}")


def parse_interval(text: str) -> int:
    """Nanoseconds from the value of a flag, "" being none. Raises ValueError."""
    nanoseconds = parse_duration(text) if text else 0
    if nanoseconds and nanoseconds < SHORTEST:
        raise ValueError(f"{text!r} is less than a millisecond")
    return nanoseconds


def parse_retries(text: str) -> int:
    """The number that a flag's value is, "" being none. Raises ValueError."""
    if not text:
        return 0
    if not RETRIES.fullmatch(text) or not -(2**31) <= int(text) < 2**31:
        raise ValueError(f"{text!r} is not a number")
    if int(text) < 0:
        raise ValueError(f"{text!r} is negative")
    return int(text)


def parse_duration(text: str) -> int:
    """Nanoseconds from `1m30s`, `1.5h`, `0`. Raises ValueError."""
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    total, position = 0, 0
    while position < len(rest):
        part = PART.match(rest, position)
        if part is None or not (part[1] or part[2]):
            break
        size = UNITS[part[3]]
        total += int(part[1] or 0) * size
        if part[2]:
            total += int(part[2][:18]) * size // 10 ** len(part[2][:18])
        position = part.end()
    if not rest or position < len(rest) or total > LONGEST:
        raise ValueError(f"{text!r} is not a duration, such as 30s or 1m30s")
    return sign * total
