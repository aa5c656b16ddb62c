"""The array form of an instruction: a JSON list of strings, decoded as the reference builder's JSON is. Pure.

What cannot be half of a pair of surrogates, and what is not UTF-8, becomes U+FFFD.
"""

from __future__ import annotations

import json
import re

LONE = re.compile("[\ud800-\udfff]")


def decode(text: str) -> tuple[str, ...]:
    """The strings of a text that is an array of strings."""
    words: list[str] = json.loads(text)
    return tuple(LONE.sub("\ufffd", word) for word in words)


def holds_others(text: str) -> bool:
    """Whether the text is a whole JSON array that holds something other than strings."""
    if not text.startswith("["):
        return False
    try:
        # Numbers are not converted: Python refuses some that JSON has.
        value = json.loads(text, parse_constant=_refuse, parse_int=len, parse_float=len)
    except (ValueError, RecursionError):  # nested too deep is no JSON for the reference builder either
        return False
    return not all(isinstance(item, str) for item in value)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
