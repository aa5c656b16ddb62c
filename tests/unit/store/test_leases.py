"""What builds note of what they use, and what who removes sees of it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder.store import leases, locks
from builder.store.blobs import BlobStore
from builder.store.ingest import sweep_ingest
from builder.store.leases import Lease, held_by_builds, leased
from builder.store.root import Store, open_store
from tests.support.machine import CHECKOUT


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def test_what_is_held_is_told_until_the_build_ends(store: Store) -> None:
    with Lease(store.folder) as one, Lease(store.folder) as other:
        one.hold(["a", "b"])
        other.hold(["c"])
        one.hold(["b", "d"])

        assert held_by_builds(store.folder) == {"a", "b", "c", "d"}
        other.close()
        assert held_by_builds(store.folder) == {"a", "b", "d"}

    assert held_by_builds(store.folder) == set()
    assert os.listdir(os.path.join(store.folder, "ingest")) == []


def test_a_dead_build_holds_nothing_and_its_lease_is_swept(store: Store) -> None:
    program = (
        "import os, sys; from builder.store.leases import Lease; "
        f"Lease({store.folder!r}).hold(['a']); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, check=False)

    assert len(os.listdir(os.path.join(store.folder, "ingest"))) == 1
    assert held_by_builds(store.folder) == set()
    assert sweep_ingest(store.folder) == 1


def test_nothing_is_noted_while_somebody_removes(store: Store) -> None:
    with Lease(store.folder) as lease, leases.try_alone(store.folder) or pytest.fail("not alone"):
        assert locks.try_exclusive(store.folder, locks.USES) is None
        lease.hold([])  # asks for nothing, and waits for nothing


def test_a_build_that_cannot_write_keeps_everything(store: Store) -> None:
    with Lease(store.folder) as lease:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, lease._fd)
        os.close(full)
        lease.hold(["a"])

        assert locks.try_exclusive(store.folder, locks.USES) is None
    assert locks.try_exclusive(store.folder, locks.USES) is not None


def test_who_removes_gives_up_where_a_build_does_not_let_go(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_PATIENCE", 3)
    monkeypatch.setattr(leases, "_PAUSE", 0.001)
    with locks.shared(store.folder, locks.USES):
        assert leases.try_alone(store.folder) is None


def test_blobs_that_are_found_or_made_are_held(store: Store) -> None:
    there = store.blobs.put(b"there")
    with leased(store):
        made = store.blobs.put(b"made")
        absent = BlobStore(store.folder).put(b"absent")
        store.blobs.remove(absent)
        store.blobs.stat(there)
        store.blobs.stat(absent)

        assert held_by_builds(store.folder) == {there, made}
    assert store.blobs.lease is None
    assert store.blobs.grown == len(b"there") + len(b"made")


def test_a_build_may_begin_while_somebody_asks_what_is_held(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks takes the lock of each lease for a moment: also of one that is just being made."""
    flock, asked = fcntl.flock, []

    def ask_first(fd: int, operation: int) -> None:
        if not asked:
            (name,) = os.listdir(os.path.join(store.folder, "ingest"))
            asked.append(os.open(os.path.join(store.folder, "ingest", name), os.O_RDONLY))
            flock(asked[0], fcntl.LOCK_SH)
        flock(fd, operation)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", ask_first)
        lease = Lease(store.folder)
    os.close(asked[0])

    with lease:
        lease.hold(["a"])
        assert held_by_builds(store.folder) == {"a"}
    assert os.listdir(os.path.join(store.folder, "ingest")) == []
