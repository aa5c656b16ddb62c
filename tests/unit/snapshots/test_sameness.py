"""When two snapshots are the same to a step on them, and times that are the same whenever a step is run."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from builder.digest import Digest
from builder.snapshots.clamp import Clamp
from builder.snapshots.layers import LayerStore
from builder.snapshots.sameness import digest
from builder.snapshots.snapshot import CHAR, FIFO, FILE, FOLDER, SYMLINK, WHITEOUT, Entry
from builder.solver.cache import Cache
from tests.support.layers import bytes_of, open_layers

SECOND = 10**9
FILES = {"d/file": b"bytes", "d/other": b"bytes"}
ROWS = [
    Entry("d", FOLDER, 0o755, mtime=SECOND),
    Entry("d/file", FILE, 0o644, size=5, mtime=SECOND),
    Entry("d/gone", WHITEOUT),
    Entry("d/link", SYMLINK, 0o777, mtime=SECOND, link="file"),
    Entry("d/null", CHAR, 0o666, mtime=SECOND, device=(1, 3)),
    Entry("d/other", FILE, 0o644, size=5, mtime=SECOND),
    Entry("d/pipe", FIFO, 0o644, mtime=SECOND),
]
CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "a mode": ("d/file", {"mode": 0o600}),
    "a folder's mode": ("d", {"mode": 0o700}),
    "an owner": ("d/file", {"uid": 1}),
    "a group": ("d/link", {"gid": 1}),
    "a time": ("d/file", {"mtime": SECOND + 1}),
    "a folder's time": ("d", {"mtime": 2 * SECOND}),
    "a link's target": ("d/link", {"link": "other"}),
    "a device": ("d/null", {"device": (1, 5)}),
    "a kind": ("d/pipe", {"kind": FILE}),
    "a capability": ("d/file", {"xattrs": (("security.capability", b"\1\0\0\2" + b"\1" * 16),)}),
    "a hard link": ("d/other", {"hardlink": "d/file"}),
    "a name": ("d/gone", {"path": "d/gone-too"}),
}


@pytest.fixture
def layers(tmp_path: Path) -> LayerStore:
    return open_layers(tmp_path)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "cache"), exists=lambda snapshot: True)


def digest_of(
    layers: LayerStore,
    cache: Cache,
    rows: list[Entry],
    files: dict[str, bytes] = FILES,
    *,
    unpacked: bool = False,
) -> Digest:
    content = bytes_of({"d/pipe": b"", **files})
    return digest(layers, cache, (layers.create(rows, content, unpacked=unpacked),))


def test_what_has_the_same_entries_and_bytes_is_the_same_however_it_is_kept(
    layers: LayerStore, cache: Cache
) -> None:
    as_blob = digest_of(layers, cache, ROWS)

    assert digest_of(layers, cache, ROWS) == as_blob
    if os.geteuid() == 0:  # devices are made
        assert digest_of(layers, cache, ROWS, unpacked=True) == as_blob


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_an_image_would_tell_makes_a_difference(
    layers: LayerStore, cache: Cache, change: str
) -> None:
    path, fields = CHANGES[change]
    rows = [row.replace(**fields) if row.path == path else row.replace() for row in ROWS]

    assert digest_of(layers, cache, rows) != digest_of(layers, cache, ROWS)


def test_one_byte_makes_a_difference(layers: LayerStore, cache: Cache) -> None:
    other = digest_of(layers, cache, ROWS, {**FILES, "d/file": b"Bytes"})

    assert other != digest_of(layers, cache, ROWS)


def test_the_order_and_the_number_of_layers_count(layers: LayerStore, cache: Cache) -> None:
    one, two = (
        layers.create([Entry(name, FOLDER, 0o755)], bytes_of({}), unpacked=False) for name in ("one", "two")
    )
    both = layers.create(
        [Entry("one", FOLDER, 0o755), Entry("two", FOLDER, 0o755)], bytes_of({}), unpacked=False
    )

    found = {digest(layers, cache, snapshot) for snapshot in ((one, two), (two, one), (both,), (), (one,))}

    assert len(found) == 5


def test_a_digest_that_was_found_is_remembered(layers: LayerStore, cache: Cache) -> None:
    layer = layers.create(ROWS, bytes_of({"d/pipe": b"", **FILES}), unpacked=False)
    found = digest(layers, cache, (layer,))
    layers.delete(layer)

    assert digest(layers, cache, (layer,)) == found


# ── times ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_newer_gets_the_time_and_what_is_older_keeps_its_own() -> None:
    clamp = Clamp.since_now(1000)
    assert clamp is not None
    rows = [Entry(name, FILE, mtime=t) for name, t in (("new", time.time_ns()), ("old", 999), ("at", 10**12))]

    clamp.apply(rows)

    assert [row.mtime for row in rows] == [10**12, 999, 10**12]


def test_a_time_yet_to_come_is_that_of_what_was_written_just_now() -> None:
    later = int(time.time()) + 10**6
    clamp = Clamp.since_now(later)
    assert clamp is not None
    rows = [Entry("new", FILE, mtime=time.time_ns()), Entry("old", FILE, mtime=10**12)]

    clamp.apply(rows)

    assert [row.mtime for row in rows] == [later * SECOND, 10**12]


def test_without_a_time_there_is_no_clamp() -> None:
    assert Clamp.since_now(None) is None


def test_the_disk_has_the_times_too_and_no_link_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("")
    folder = tmp_path / "folder"
    (folder / "d").mkdir(parents=True)
    (folder / "d/file").write_text("")
    (folder / "d/link").symlink_to(outside)
    clamp = Clamp.since_now(1000)
    assert clamp is not None
    now = time.time_ns()
    rows = [Entry("d", FOLDER, mtime=now), Entry("d/file", FILE, mtime=now),
            Entry("d/link", SYMLINK, mtime=now), Entry("d/gone", WHITEOUT, mtime=now)]  # fmt: skip
    clamp.apply(rows)
    fd = os.open(folder, os.O_RDONLY)

    clamp.settle(fd, rows)

    os.close(fd)
    assert [os.lstat(folder / name).st_mtime_ns for name in ("d", "d/file", "d/link")] == [10**12] * 3
    assert outside.stat().st_mtime_ns > 10**12
