"""Ids of user namespaces: /etc/subuid's lines, and what is written to a map."""

from __future__ import annotations

import pytest

from builder.isolation import idmaps


def test_ranges_are_found_by_name_and_by_number_in_the_files_order() -> None:
    text = "alice:100000:65536\nbob:200000:10\n1000:300000:5\nalice:400000:7\n"

    found = idmaps.subordinate_ranges(text, {"alice", "1000"})

    assert found == [(100000, 65536), (300000, 5), (400000, 7)]


@pytest.mark.parametrize(
    "line",
    ["alice:100000", "alice:x:1", "alice:1:", "alice:1:0", "alice:4294967290:65536", "", "alice:-1:5", ":"],
)
def test_a_line_that_gives_no_usable_range_gives_none(line: str) -> None:
    assert idmaps.subordinate_ranges(line + "\n", {"alice"}) == []


def test_the_user_is_root_and_the_ranges_follow_one_another() -> None:
    rows = idmaps.rows_of(1000, [(100000, 65536), (300000, 5)])

    assert rows == [(0, 1000, 1), (1, 100000, 65536), (65537, 300000, 5)]
    assert idmaps.as_arguments(rows[:2]) == ["0", "1000", "1", "1", "100000", "65536"]
    assert idmaps.as_text(rows[1:]) == "1 100000 65536\n65537 300000 5\n"
    assert idmaps.count_of(rows) == 65542


def test_a_namespace_inside_another_has_its_ids_and_no_more() -> None:
    outer = [(0, 1000, 1), (1, 100000, 65536)]

    assert idmaps.identity_rows(outer) == [(0, 0, 1), (1, 1, 65536)]
