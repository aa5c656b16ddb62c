"""The record of a build that found all in the cache: small, whole, and not without end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder import cachedrecord, events, records
from builder.cachedrecord import CachedRecord
from builder.digest import of_bytes
from builder.events import AnyEvent, BuildFinished, BuildStarted, Cached, Planned, VertexInfo
from builder.record import recorded
from builder.records import all_ids, event_lines, path_of, request_of
from builder.request import BuildRequest
from builder.store.root import Store, open_store
from builder.verify.recorded import find_request

KEY = of_bytes(b"key")
BEGUN = 1_700_000_000.25
EVENTS: list[AnyEvent] = [
    BuildStarted(time=BEGUN, name="app", dockerfile="Dockerfile", context="."),
    Planned(time=2, vertices=(VertexInfo(digest="v", label="COPY \udcff", stage="", line=2),), target="v"),
    Cached(time=2, vertex="v"),
    BuildFinished(time=3, names=("app",), image="sha256:a", size=1, seconds=2, steps=1, cached=1),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "root")


def keep(store: Store, later: int = 0) -> str:
    """A record of a build that began so many seconds later."""
    record = CachedRecord(lambda _event: None)
    for event in EVENTS:
        record(event.but(time=event.time + later))
    return record.keep(store, BuildRequest(root=store.folder, context=".", tags=("app",)), (KEY,), {})


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

    names = [keep(store, later) for later in range(5)]

    assert all_ids(store) == [os.path.basename(say.folder), *names[:1:-1]]


def test_large_ones_are_kept_as_far_as_there_is_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(Path(path_of(store, keep(store))).read_bytes())
    monkeypatch.setattr(cachedrecord, "KEPT_BYTES", 2 * size + 1)

    names = [keep(store, later) for later in (1, 2, 3)]
    assert all_ids(store) == names[:0:-1]
    monkeypatch.setattr(cachedrecord, "KEPT_BYTES", 1)
    last = keep(store, 4)
    assert all_ids(store) == [last]


def test_its_id_tells_when_the_build_began(store: Store) -> None:
    assert keep(store).startswith("20231114T221320-3d0")


def test_an_image_is_built_again_by_it(store: Store) -> None:
    name = keep(store)

    asked = find_request(store, "sha256:a", "app", BuildRequest(root=store.folder, context="."))

    assert asked.context == os.getcwd()
    assert records.request_of(path_of(store, name))["again"]["context"] == os.getcwd()


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
