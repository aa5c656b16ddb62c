"""The record of a build: what came, as it came, but not without end."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder import events, record
from builder.events import AnyEvent, Finished, Log
from builder.record import recorded
from builder.records import new_id, request_of
from builder.request import BuildRequest
from builder.store.root import Store, open_store

LINE = "x" * 100


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "root")


def recorded_of(store: Store) -> list[AnyEvent]:
    (file,) = Path(store.folder, "builds").glob("*/events.jsonl")
    return [events.decode(line) for line in file.read_bytes().splitlines()]


def test_all_that_is_said_is_recorded_and_handed_on(store: Store) -> None:
    said: list[AnyEvent] = []
    log, end = Log(time=1, vertex="v", stream=1, line=LINE), Finished(time=2, vertex="v", seconds=1)

    with recorded(store, BuildRequest(root=store.folder, context="."), said.append) as say:
        say(log)
        say(end)

    assert recorded_of(store) == said == [log, end]


def test_output_without_end_does_not_fill_the_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "KEPT_OUTPUT", 1000)
    said: list[AnyEvent] = []
    end = Finished(time=2, vertex="v", seconds=1)

    with recorded(store, BuildRequest(root=store.folder, context="."), said.append) as say:
        for _ in range(100):
            say(Log(time=1, vertex="v", stream=1, line=LINE))
        say(end)

    *lines, clipped, last = recorded_of(store)
    assert len(said) == 101
    assert 4 <= len(lines) <= 10
    assert isinstance(clipped, Log)
    assert "not recorded" in clipped.line
    assert last == end


def test_ids_sort_as_builds_began() -> None:
    second = 1_700_000_000_000_000_000
    times = [second, second + 1_000, second + 2_000_000, second + 999_999_000, second + 1_000_000_000]

    ids = [new_id(time) for time in times]

    assert ids == sorted(ids)
    assert ids[0].startswith("20231114T221320-00000")
    assert len(ids[-1]) == len("20231114T221320-00000abc")


def test_a_request_that_is_damaged_holds_nothing(tmp_path: Path) -> None:
    for data in (b"", b"\xff", b"[]", b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"):
        (tmp_path / "request.json").write_bytes(data)
        assert request_of(str(tmp_path)) == {}
