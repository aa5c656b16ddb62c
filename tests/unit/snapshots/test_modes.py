"""--chmod."""

from __future__ import annotations

import pytest

from builder.errors import BuildError
from builder.snapshots.modes import parse


@pytest.mark.parametrize(
    ("text", "mode", "new"),
    [
        ("640", 0o755, 0o640),
        ("4755", 0o644, 0o4755),
        ("0", 0o644, 0),
        ("+x", 0o644, 0o755),
        ("u+x,g=u,o-r", 0o640, 0o770),
        ("u=g", 0o4755, 0o4555),
        ("g=u", 0o2750, 0o2770),
        ("a=u", 0o4755, 0o4777),
        ("=rwxst", 0o4755, 0o5755),
        ("a=rX", 0o640, 0o444),
        ("a=rX", 0o740, 0o555),
        ("go-w", 0o666, 0o644),
        ("u=rwx,go=u-w", 0o600, 0o755),
        ("go=", 0o777, 0o700),
        ("+t", 0o755, 0o1755),
        ("o+t", 0o755, 0o755),
        ("u+s", 0o755, 0o4755),
        ("ug+s,o+s", 0o755, 0o6755),
        ("=", 0o4755, 0),
        ("g=o", 0o604, 0o644),
        ("u-X", 0o755, 0o655),
        ("+", 0o600, 0o600),
        ("a+w-x", 0o755, 0o666),
    ],
)
def test_a_mode_is_what_chmod_makes_of_it(text: str, mode: int, new: int) -> None:
    assert parse(text).apply(mode, folder=False) == new


def test_search_is_given_to_folders_whatever_they_had() -> None:
    assert parse("+X").apply(0o640, folder=True) == 0o751
    assert parse("+X").apply(0o640, folder=False) == 0o640


def test_folders_made_on_the_way_get_the_last_three_digits_and_no_symbols() -> None:
    assert parse("1777").made_folders == 0o777
    assert parse("604").made_folders == 0o604
    assert parse("u+s").made_folders == 0o755


@pytest.mark.parametrize(
    "text", ["1999", "17777", "8", "u+q", "x", "u", "u+x,", ",u+x", "07778", "²", "u+x g"]
)
def test_what_is_no_mode_is_named(text: str) -> None:
    with pytest.raises(BuildError, match="--chmod"):
        parse(text)
