"""The wildcards of substitutions, compared with a matcher that tries everything."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dockerfile.patterns import PatternError, cut_prefix, cut_suffix, part

PATTERNS = st.text(st.sampled_from("ab*?"), max_size=5)
VALUES = st.text(st.sampled_from("ab\n"), max_size=8)


def matches(pattern: str, text: str) -> bool:
    regex = "".join({"*": ".*", "?": "."}.get(char, char) for char in pattern)
    return re.fullmatch(regex, text) is not None


@given(PATTERNS, VALUES, st.booleans())
def test_a_prefix_is_the_shortest_or_longest_that_matches(pattern: str, value: str, longest: bool) -> None:
    ends = [end for end in range(len(value) + 1) if matches(pattern, value[:end])]
    expected = value[(max if longest else min)(ends, default=0) :]

    assert cut_prefix(value, pattern, longest=longest) == expected


@given(PATTERNS, VALUES, st.booleans())
def test_a_suffix_is_the_shortest_or_longest_that_matches(pattern: str, value: str, longest: bool) -> None:
    starts = [start for start in range(len(value) + 1) if matches(pattern, value[start:])]
    expected = value[: (min if longest else max)(starts, default=len(value))]

    assert cut_suffix(value, pattern, longest=longest) == expected


@given(PATTERNS, VALUES)
def test_what_is_replaced_is_leftmost_and_longest(pattern: str, value: str) -> None:
    spans = (
        (start, end)
        for start in range(len(value) + 1)
        for end in range(len(value), start - 1, -1)
        if matches(pattern, value[start:end])
    )
    first = next(spans, None)
    expected = [value] if first is None else [value[: first[0]], value[first[1] :]]

    assert part(value, pattern, every=False) == expected


@pytest.mark.parametrize(
    ("value", "pattern", "pieces"),
    [
        ("abcabc", "b", ["a", "ca", "c"]),
        ("abc", "", ["", "a", "b", "c", ""]),
        ("abc", "*", ["", ""]),
        ("a\nb", "*", ["", "\n", ""]),
        ("aXbXc", "X*X", ["a", "c"]),
    ],
)
def test_every_match_parts_the_value(value: str, pattern: str, pieces: list[str]) -> None:
    assert part(value, pattern, every=True) == pieces


def test_escaped_wildcards_are_plain() -> None:
    assert cut_prefix("*?\\x", "\\*\\?\\\\", longest=False) == "x"


@pytest.mark.parametrize("pattern", ["\\a", "a\\"])
def test_other_escapes_are_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        cut_prefix("a", pattern, longest=False)


def test_many_stars_do_not_blow_up() -> None:
    assert cut_prefix("a" * 2000, "*a" * 200 + "b", longest=True) == "a" * 2000
