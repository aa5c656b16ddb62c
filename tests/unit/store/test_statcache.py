"""Digests by stat, kept in a file that may be lost."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.digest import of_bytes
from builder.store.statcache import MAX_STALE, StatCache

ONE, TWO = of_bytes(b"1"), of_bytes(b"2")
LATER = time.time_ns() + 86400 * 10**9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def status(tmp_path: Path) -> os.stat_result:
    (tmp_path / "file").write_text("content")
    return os.stat(tmp_path / "file")


def saved(path: Path, status: os.stat_result, *names: str) -> StatCache:
    cache = StatCache(path)
    for name in names:
        cache.remember(name, status, ONE, LATER)
    cache.save()
    return cache


def changed(status: os.stat_result, at: int | None = None, **values: int) -> os.stat_result:
    """With one more in the row at `at` (stat's ten old rows), and other values of the newer ones by name."""
    rows = [value + (index == at) for index, value in enumerate(status)]
    named = ("st_atime", "st_mtime", "st_ctime", "st_atime_ns", "st_mtime_ns", "st_ctime_ns")
    return os.stat_result(rows, {name: getattr(status, name) for name in named} | values)


def test_what_is_remembered_is_found_again(path: Path, status: os.stat_result) -> None:
    saved(path, status, "a", "d/b", "\udcff")

    cache = StatCache(path)

    assert [cache.lookup(name, status) for name in ("a", "d/b", "\udcff", "c")] == [ONE, ONE, ONE, None]


def test_it_is_there_at_once_for_who_saved_it(path: Path, status: os.stat_result) -> None:
    assert saved(path, status, "a").lookup("a", status) == ONE


@pytest.mark.parametrize("field", ["st_mtime_ns", "st_ctime_ns"])
def test_another_time_is_another_file(path: Path, status: os.stat_result, field: str) -> None:
    saved(path, status, "a")

    assert StatCache(path).lookup("a", changed(status, **{field: getattr(status, field) + 1})) is None


@pytest.mark.parametrize("index", [1, 2, 6], ids=["inode", "device", "size"])
def test_another_size_or_inode_is_another_file(path: Path, status: os.stat_result, index: int) -> None:
    saved(path, status, "a")

    assert StatCache(path).lookup("a", changed(status, at=index)) is None


def test_what_changed_when_it_was_hashed_is_not_kept(path: Path, status: os.stat_result) -> None:
    cache = StatCache(path)
    cache.remember("a", status, ONE, status.st_ctime_ns + 1_000_000)
    cache.remember("future", changed(status, st_mtime_ns=LATER + 1), ONE, LATER)
    cache.save()

    assert not path.exists()


def test_whole_seconds_need_a_longer_rest(path: Path, status: os.stat_result) -> None:
    coarse = changed(status, st_mtime_ns=10**18, st_ctime_ns=10**18)
    cache = StatCache(path)
    cache.remember("soon", coarse, ONE, 10**18 + 10**9)
    cache.remember("later", coarse, ONE, 10**18 + 3 * 10**9)
    cache.save()

    assert [StatCache(path).lookup(name, coarse) for name in ("soon", "later")] == [None, ONE]


def test_nothing_is_written_if_nothing_is_new(path: Path, status: os.stat_result) -> None:
    saved(path, status, "a")
    before = path.stat().st_ino

    cache = StatCache(path)
    cache.lookup("a", status)
    cache.save()

    assert path.stat().st_ino == before
    assert os.listdir(path.parent) == [path.name, "file"] or len(os.listdir(path.parent)) == 2


def test_a_new_digest_replaces_the_old_one(path: Path, status: os.stat_result) -> None:
    saved(path, status, "a", "b")
    cache = StatCache(path)
    cache.remember("a", status, TWO, LATER)
    cache.save()

    assert [StatCache(path).lookup(name, status) for name in "ab"] == [TWO, ONE]


def test_rows_that_nobody_asks_for_do_not_pile_up(path: Path, status: os.stat_result) -> None:
    saved(path, status, *(f"{n:05}" for n in range(MAX_STALE + 500)))
    cache = StatCache(path)
    cache.lookup("10400", status)
    cache.remember("new", status, ONE, LATER)
    cache.save()

    kept = StatCache(path)

    assert [kept.lookup(name, status) for name in ("new", "10400", "00001", "10450")] == [ONE, ONE, ONE, None]


def test_what_no_row_can_hold_is_not_kept(path: Path, status: os.stat_result) -> None:
    strange = changed(status, st_mtime_ns=-(1 << 70))
    saved(path, strange, "a")

    assert StatCache(path).lookup("a", strange) is None


@pytest.mark.parametrize(
    "data", [b"", b"x" * 500, b"pybuild statcache 1\n", b"pybuild statcache 1\n" + b"\0" * 48]
)
def test_a_broken_cache_is_an_empty_one(path: Path, status: os.stat_result, data: bytes) -> None:
    path.write_bytes(data)

    assert StatCache(path).lookup("a", status) is None
    assert saved(path, status, "a").lookup("a", status) == ONE


def test_what_is_no_file_is_an_empty_cache(tmp_path: Path, status: os.stat_result) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")

    for name in ("pipe", "loop", ".", "no/such"):
        assert StatCache(tmp_path / name).lookup("a", status) is None


def test_where_it_cannot_be_saved_nothing_is_left(tmp_path: Path, status: os.stat_result) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/x").touch()

    with pytest.raises(OSError, match="directory"):
        saved(tmp_path / "folder", status, "a")

    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_anywhere_is_noticed(path: Path, status: os.stat_result, data: st.DataObject) -> None:
    path.unlink(missing_ok=True)
    saved(path, status, "a", "b")
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw[: data.draw(st.sampled_from([len(raw), at]))])

    assert StatCache(path).lookup("a", status) is None


def test_what_was_saved_is_still_known_and_saved_again_with_what_is_new(
    path: Path, status: os.stat_result
) -> None:
    cache = saved(path, status, "a")
    assert cache.lookup("a", status) == ONE
    assert cache.lookup("a", changed(status, st_mtime_ns=1)) is None

    cache.remember("b", status, TWO, LATER)
    cache.save()

    assert [StatCache(path).lookup(name, status) for name in "ab"] == [ONE, TWO]
