"""The record of a build that found all in the cache: small, whole, and not without end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder import cachedrecord, events, records
from builder.cachedrecord import CachedRecord
from builder.digest import Digest, of_bytes
from builder.events import AnyEvent, BuildFinished, BuildStarted, Cached, Planned, VertexInfo
from builder.record import recorded
from builder.records import all_ids, event_lines, path_of, request_of
from builder.request import BuildRequest
from builder.store.root import Store, open_store

KEY = of_bytes(b"key")
EVENTS: list[AnyEvent] = [
    BuildStarted(time=1, name="app", dockerfile="Dockerfile", context="."),
    Planned(time=2, vertices=(VertexInfo(digest="v", label="COPY \udcff", stage="", line=2),), target="v"),
    Cached(time=2, vertex="v"),
    BuildFinished(time=3, names=("app",), image="sha256:a", size=1, seconds=2, steps=1, cached=1),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "root")


def keep(store: Store, *told: AnyEvent, keys: tuple[Digest | None, ...] = (KEY,)) -> str:
    record = CachedRecord(lambda _event: None)
    for event in told or EVENTS:
        record(event)
    return record.keep(store, BuildRequest(root=store.folder, context=".", tags=("app",)), keys, {})


def test_it_holds_the_request_the_keys_and_the_events(store: Store) -> None:
    said: list[AnyEvent] = []
    record = CachedRecord(said.append)
    for event in EVENTS:
        record(event)

    name = record.keep(store, BuildRequest(root=store.folder, context=".", tags=("app",)), (KEY, None), {})

    path = path_of(store, name)
    assert said == EVENTS
    assert [events.decode(line) for line in event_lines(path)] == EVENTS
    assert request_of(path)["tags"] == ["app"]
    assert request_of(path)["folder"] == os.getcwd()
    assert request_of(path)["keys"] == [KEY, None]


def test_the_last_ones_are_kept_and_push_no_other_record_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cachedrecord, "KEPT_BUILDS", 3)
    with recorded(store, BuildRequest(root=store.folder, context="."), lambda _event: None) as say:
        say(EVENTS[0])

    names = [keep(store) for _ in range(5)]

    assert all_ids(store) == [*names[:1:-1], os.path.basename(say.folder)]


def test_large_ones_are_kept_as_far_as_there_is_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(Path(path_of(store, keep(store))).read_bytes())
    monkeypatch.setattr(cachedrecord, "KEPT_BYTES", 2 * size + 1)

    names = [keep(store) for _ in range(3)]
    assert all_ids(store) == names[:0:-1]
    monkeypatch.setattr(cachedrecord, "KEPT_BYTES", 1)
    assert all_ids(store) != [last := keep(store)]
    assert all_ids(store) == [last]


def test_nothing_is_said_where_it_cannot_be_written(store: Store) -> None:
    (store.root / "builds" / "cached").write_text("in the way")

    assert keep(store) == ""


def test_what_is_damaged_holds_nothing(store: Store) -> None:
    path = path_of(store, keep(store))
    Path(path).write_bytes(b"")

    assert request_of(path) == {}
    assert list(event_lines(path)) == []


def test_a_record_that_is_gone_holds_nothing(store: Store) -> None:
    assert request_of(path_of(store, "20250101T000000-00000000")) == {}
    assert records.whole_ids(store) == []
