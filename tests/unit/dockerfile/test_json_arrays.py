"""The array form is decoded as Go's JSON decoder does."""

from __future__ import annotations

import pytest

from builder.dockerfile.arrays import decode, holds_others


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", ()),
        ('["a", "b c"]', ("a", "b c")),
        (r'["\u00e9\ud83d\udea2", "\\", "\/", "\t"]', ("é🚢", "\\", "/", "\t")),
        (r'["\ud83d", "\udea2\ud83d", "\ud83dx"]', ("\ufffd", "\ufffd\ufffd", "\ufffdx")),
        ('["\udcff"]', ("\ufffd",)),
    ],
)
def test_strings_are_decoded(text: str, words: tuple[str, ...]) -> None:
    assert decode(text) == words


@pytest.mark.parametrize(
    "text", ["[1]", '["a", null]', '[["a"]]', '[{"a": 1}]', f"[{'9' * 5000}]", "[1e999]"]
)
def test_arrays_of_others_are_known(text: str) -> None:
    assert holds_others(text)


@pytest.mark.parametrize(
    "text", ["", "a", '["a"]', "[]", "[1", "['a']", "[NaN]", "[1] x", '["a",]', "[" * 50_000, '{"a": 1}']
)
def test_what_is_no_array_of_others_is_left_alone(text: str) -> None:
    assert not holds_others(text)
