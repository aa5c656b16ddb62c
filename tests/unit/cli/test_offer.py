"""What may go is offered where a disk is full, as far as it is worth a word."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from builder.commands import offer
from builder.commands.offer import add_offer, prunable
from builder.errors import BuildError, StoreError
from builder.store.failure import is_full_disk
from builder.store.root import Store, open_store


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offer, "PATIENCE", 60.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(tmp_path / "root")
    store.blobs.put(b"x" * 20_000)
    return store


def full() -> StoreError:
    return StoreError("writing failed", code="disk-full", hint="free some space")


def test_what_prune_would_free_is_added_to_the_hint(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offer, "WORTH_TELLING", 1)
    error, by_flag = full(), full()

    add_offer(error, store.folder, "")
    add_offer(by_flag, store.folder, "/my store")

    assert prunable(store) >= 20_000
    assert error.hint == "free some space; `pybuild prune` would free at least 20.5 kB"
    assert "`pybuild prune --root '/my store'` would free" in (by_flag.hint or "")


def test_little_is_not_worth_a_word_and_a_store_that_cannot_be_read_is_none(store: Store) -> None:
    for root in (store.folder, "/proc/no/store"):
        error = full()
        add_offer(error, root, "")
        assert error.hint == "free some space"


def test_a_store_that_takes_long_is_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(offer, "PATIENCE", 0.01)
    monkeypatch.setattr(offer, "prunable", lambda _store: int(go_on.wait()))
    error = full()

    add_offer(error, store.folder, "")
    go_on.set()

    assert error.hint == "free some space; `pybuild prune` may free some"


@pytest.mark.parametrize(("error", "is_one"), [
    (full(), True),
    (BuildError("exit code: 1", hint="the disk of /store is full: free some space"), True),
    (BuildError("exit code: 1", hint="look around"), False),
    (BuildError("/out.tar: no space left on device", code="system", hint="free some space there"), False),
])  # fmt: skip
def test_the_store_s_disk_is_told_from_others(error: BuildError, is_one: bool) -> None:
    assert is_full_disk(error) == is_one
