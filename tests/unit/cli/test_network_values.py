"""--network: a mode, or a program that connects steps of the default mode."""

from __future__ import annotations

import pytest

from builder.commands import values
from builder.errors import UsageError


@pytest.mark.parametrize(
    ("text", "mode", "helper"),
    [
        ("", "default", ""),
        ("none", "none", ""),
        ("host", "host", ""),
        ("pasta", "default", "pasta"),
        ("slirp4netns", "default", "slirp4netns"),
    ],
)
def test_helpers_leave_the_mode_as_it_is(text: str, mode: str, helper: str) -> None:
    """So what was made with one is taken from the cache without it."""
    assert values.network(text) == (mode, helper)


def test_what_is_neither_is_refused_with_all_that_there_are() -> None:
    with pytest.raises(UsageError, match="--network bridge: no such mode") as caught:
        values.network("bridge")

    assert caught.value.hint == "the modes are default, host, none, pasta, slirp4netns"
