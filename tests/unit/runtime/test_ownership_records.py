"""Owners that are kept in memory: whose they are where numbers of files are used again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder import libc
from builder.fs.ownership import Record
from builder.runtime.ownership import records
from builder.runtime.ownership.records import Records

Make = Callable[[libc.Exchange], Records]


class SlowClock(libc.Exchange):
    """Files are born at ticks of a clock, as before Linux 6.13, which has one of at most 10 ms."""

    TICK = 10_000_000  # ns

    def statx(self, path: bytes, flags: int, mask: int) -> bytes:
        raw = super().statx(path, flags, mask)
        born = int.from_bytes(raw[88:92], "little") // self.TICK * self.TICK
        return raw[:88] + born.to_bytes(4, "little") + raw[92:]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[libc.Exchange], Records]]:
    """Makes the records of a step whose root lies on the mount of a folder, where the supervisor stands,
    whose files go with its process."""
    monkeypatch.chdir("/proc")
    all_: list[Records] = []

    def make(exchange: libc.Exchange) -> Records:
        all_.append(Records(exchange, {}))
        young = all_[-1]._young
        young._mount = young._mount_of(os.fsencode(tmp_path))
        return all_[-1]

    yield make
    for each in all_:
        for _, file in each._young._open:
            os.close(file)


def put(kept: Records, path: Path, record: Record) -> None:
    file = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        kept.put(file, record)
    finally:
        os.close(file)


def test_a_file_with_the_number_of_one_that_was_removed_at_once_has_not_its_owner(
    made: Make, tmp_path: Path
) -> None:
    kept, link = made(SlowClock()), tmp_path / "link"
    for _ in range(50):
        link.symlink_to("a")
        put(kept, link, Record(7, 7))
        assert kept.of(os.fsencode(link), follow=False) == Record(7, 7)
        link.unlink()
        link.symlink_to("b")
        assert kept.of(os.fsencode(link), follow=False) is None
        link.unlink()


def test_not_all_files_are_kept_open(made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_TICK", 0.5)
    monkeypatch.setattr(records, "_YOUNG_AT_MOST", 8)
    kept = made(libc.Exchange())
    before = len(os.listdir("self/fd"))
    for number in range(20):
        link = tmp_path / str(number)
        link.symlink_to("a")
        put(kept, link, Record(7, 7))
        assert len(os.listdir("self/fd")) - before <= 8
    assert len(kept.final()) == 20
