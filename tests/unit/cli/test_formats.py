"""Tables, sizes and times in docker's words."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from builder.commands import formats
from builder.errors import UsageError

HEADINGS = {"ID": "IMAGE ID", "Name": "NAME", "Size": "SIZE"}
ROWS = [
    {"ID": "abc", "Name": "a-rather-long-name", "Size": "1kB"},
    {"ID": "d", "Name": "\x1b[31mx", "Size": "0B"},
]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"), (999, "999B"), (1000, "1kB"), (7_377_000, "7.38MB"), (72_800_000, "72.8MB"),
        (133_300_000, "133MB"), (999_900, "1MB"), (1_120_000_000, "1.12GB"), (5 * 10**15, "5PB"),
    ],
)  # fmt: skip
def test_sizes_are_written_as_docker_writes_them(count: int, text: str) -> None:
    assert formats.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "Less than a second ago"), (1, "1 second ago"), (59, "59 seconds ago"),
        (61, "About a minute ago"), (150, "2 minutes ago"), (3600, "About an hour ago"),
        (47 * 3600, "47 hours ago"), (49 * 3600, "2 days ago"), (15 * 86400, "2 weeks ago"),
        (61 * 86400, "2 months ago"), (800 * 86400, "2 years ago"),
    ],
)  # fmt: skip
def test_times_are_told_as_docker_tells_them(seconds: float, text: str) -> None:
    assert formats.since((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == text


def test_what_has_no_time_says_so() -> None:
    assert formats.since("") == formats.local_time("never") == "N/A"


def test_columns_are_as_wide_as_docker_makes_them() -> None:
    assert formats.align(["REPOSITORY\tTAG\tSIZE", "a\tb\tc"]) == [
        "REPOSITORY   TAG       SIZE",
        "a            b         c",
    ]


def test_a_table_has_headings_and_harmless_cells(capsys: pytest.CaptureFixture[str]) -> None:
    formats.show(ROWS, "", "{{.ID}}\t{{.Name}}", HEADINGS)

    assert capsys.readouterr().out == "IMAGE ID   NAME\nabc        a-rather-long-name\nd          x\n"


def test_a_table_can_have_columns_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    formats.show(ROWS, r"table {{.Size}}\t{{upper .ID}}", "{{.ID}}", HEADINGS)

    assert capsys.readouterr().out.splitlines() == ["SIZE      IMAGE ID", "1kB       ABC", "0B        D"]


def test_a_template_gives_a_line_per_row_and_json_all_fields(capsys: pytest.CaptureFixture[str]) -> None:
    formats.show(ROWS, "{{.ID}}={{.Size}}", "", HEADINGS)
    formats.show([{"Size": "1kB", "Name": "n", "ID": "abc"}], "{{json .}}", "", HEADINGS)
    formats.show(ROWS[:1], "json", "", HEADINGS)

    assert capsys.readouterr().out.splitlines() == [
        "abc=1kB",
        "d=0B",
        '{"ID":"abc","Name":"n","Size":"1kB"}',
        '{"ID":"abc","Name":"a-rather-long-name","Size":"1kB"}',
    ]


def test_a_format_that_is_none_is_refused_though_there_are_no_rows() -> None:
    with pytest.raises(UsageError, match="no such format"):
        formats.show([], "yaml", "", HEADINGS)
    with pytest.raises(UsageError, match=r"there is no field \.Nope"):
        formats.show([], "{{.Nope}}", "", HEADINGS)


def test_a_template_gives_texts_as_they_are_but_for_terminals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    formats.show(ROWS[1:], "{{.Name}}", "", HEADINGS)
    assert capsys.readouterr().out == "\x1b[31mx\n"

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    formats.show(ROWS[1:], "{{.Name}}", "", HEADINGS)
    assert capsys.readouterr().out == "x\n"


@pytest.mark.parametrize("zone", ["UTC", "EST5", "JST-9", "Odd+24", "Odd-24"])
@pytest.mark.parametrize(
    "created",
    [
        "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00-14:00",
        "9999-12-31T23:59:59Z", "9999-12-31T23:59:59+14:00", "9999-12-31T23:59:59-14:00",
    ],
)  # fmt: skip
def test_the_ends_of_the_calendar_are_times_in_every_zone(
    monkeypatch: pytest.MonkeyPatch, zone: str, created: str
) -> None:
    """docker's zero time is that of many images, and is before the year 1 in the Americas."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        told, moment = formats.local_time(created), formats.local_moment(created)
        assert moment == datetime.fromisoformat(created)
        assert told.startswith(moment.strftime("%m-%d %H:%M:%S %z"), len("2026-"))
        assert told[:5] == f"{moment.year:04}-"
        assert formats.since(created, NOW)
    finally:
        monkeypatch.undo()
        time.tzset()
