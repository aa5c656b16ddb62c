"""What differs among entries, told apart by kind."""

from __future__ import annotations

from typing import Any

import pytest

from builder.snapshots.snapshot import CHAR, FILE, FOLDER, OPAQUE, SYMLINK, WHITEOUT, Entry
from builder.verify.trees import compare, when

SECOND = 1_000_000_000


def entry(path: str = "a", kind: str = FILE, mode: int = 0o644, **fields: Any) -> Entry:
    return Entry(path, kind, mode, **{"digest": "sha256:1" if kind == FILE else None, **fields})


def kinds(*entries: Entry | None) -> dict[str, tuple[str, ...]]:
    """The kinds of differences by path, each image having one of the entries."""
    table = {str(number): [found] if found else [] for number, found in enumerate(entries)}
    return {found.path: found.kinds for found in compare(table)}


def test_equal_entries_do_not_differ() -> None:
    assert kinds(entry(), entry(), entry()) == {}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (entry(digest="sha256:2"), ("content",)),
        (entry(digest="sha256:2", size=2), ("content", "size")),
        (entry(mode=0o755), ("mode",)),
        (entry(uid=1), ("owner",)),
        (entry(gid=1), ("owner",)),
        (entry(mtime=SECOND), ("time",)),
        (entry(xattrs=(("security.capability", b"x"),)), ("xattr",)),
        (entry(hardlink="b"), ("hardlink",)),
        (entry(kind=FOLDER, mode=0o755), ("type",)),
        (None, ("missing",)),
        (entry(digest="sha256:2", mode=0o600, uid=5, mtime=1), ("content", "mode", "owner", "time")),
    ],
)
def test_what_differs_is_told_by_its_kind(other: Entry | None, expected: tuple[str, ...]) -> None:
    assert kinds(entry(), other) == {"a": expected}


def test_links_and_devices_differ_by_what_they_lead_to() -> None:
    assert kinds(entry(kind=SYMLINK, link="x"), entry(kind=SYMLINK, link="y")) == {"a": ("link",)}
    assert kinds(entry(kind=CHAR, device=(1, 3)), entry(kind=CHAR, device=(1, 5))) == {"a": ("device",)}


def test_the_mode_of_a_symlink_is_none() -> None:
    assert kinds(entry(kind=SYMLINK, mode=0o777), entry(kind=SYMLINK, mode=0o755)) == {}


def test_a_removal_beside_something_new_is_a_path_of_its_own() -> None:
    table = {"image": [entry(), entry(kind=WHITEOUT, mode=0)], "first": [entry()]}

    (found,) = compare(table)

    assert found.values == {"missing": {"image": "removal", "first": ""}}


def test_what_is_hidden_in_a_folder_is_told_as_its_content() -> None:
    folder = entry("d", FOLDER, 0o755)

    (found,) = compare({"image": [folder, Entry("d", OPAQUE)], "first": [folder]})

    assert found.path == "d/*"


def test_a_folder_that_is_only_implied_does_not_count() -> None:
    assert compare({"image": [entry("d", FOLDER, implied=True)], "first": []}) == []


def test_values_are_told_of_every_image() -> None:
    (found,) = compare(
        {"image": [entry(mtime=0)], "first": [entry(mtime=SECOND)], "second": [entry(mtime=1)]}
    )

    assert found.values["time"] == {
        "image": "1970-01-01T00:00:00Z",
        "first": "1970-01-01T00:00:01Z",
        "second": "1970-01-01T00:00:00.000000001Z",
    }


def test_a_time_that_no_calendar_has_is_a_number() -> None:
    assert when(10**18 * SECOND) == str(10**18)
    assert when(-1).startswith("1969-12-31T23:59:59.9")
