"""A reason, and how differing texts are told. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

LONGEST = 100  # characters of a value that is told whole
AROUND = 24  # characters told before the first difference of two long values
LISTED = 5  # names of a list before it is cut


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a step runs. kind: a word for programs; text: for people; data: the same as plain data."""

    kind: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)


def listed(names: Sequence[str], most: int = LISTED) -> str:
    """`a, b, c and 7 more`."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def contrast(was: str, now: str) -> tuple[str, str]:
    """Two different texts, each in one line, long ones cut to where they begin to differ."""
    was, now = " ".join(was.split()), " ".join(now.split())
    if len(was) <= LONGEST and len(now) <= LONGEST:
        return was or "empty", now or "empty"
    same = 0
    while same < min(len(was), len(now)) and was[same] == now[same]:
        same += 1
    start = max(0, same - AROUND)
    return _cut(was, start), _cut(now, start)


def _cut(text: str, start: int) -> str:
    if start >= len(text):
        return "…" + text[-AROUND:] if text else "empty"
    end = start + LONGEST
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
