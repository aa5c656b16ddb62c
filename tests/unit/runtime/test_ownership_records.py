"""Owners that are kept in memory: whose they are where numbers of files are used again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder import libc
from builder.fs.ownership import Record
from builder.runtime.ownership.records import Records


class SlowClock(libc.Exchange):
    """Files are born at ticks of a clock, as before Linux 6.13, which has one of at most 10 ms."""

    TICK = 10_000_000  # ns

    def statx(self, path: bytes, flags: int, mask: int) -> bytes:
        raw = super().statx(path, flags, mask)
        born = int.from_bytes(raw[88:92], "little") // self.TICK * self.TICK
        return raw[:88] + born.to_bytes(4, "little") + raw[92:]


MADE: list[Records] = []


@pytest.fixture
def in_proc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where the supervisor stands, whose files go with its process."""
    monkeypatch.chdir("/proc")
    yield
    for records in MADE:
        for _, file in records._young._open:
            os.close(file)
    MADE.clear()


def records_at(folder: Path, exchange: libc.Exchange) -> Records:
    """Those of a step whose root lies on the mount of this folder."""
    records = Records(exchange, {})
    MADE.append(records)
    records._young._mount = records._young._mount_of(os.fsencode(folder))
    return records


def put(records: Records, path: Path, record: Record) -> None:
    file = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        records.put(file, record)
    finally:
        os.close(file)


@pytest.mark.usefixtures("in_proc")
def test_a_file_with_the_number_of_one_that_was_removed_at_once_has_not_its_owner(tmp_path: Path) -> None:
    records, link = records_at(tmp_path, SlowClock()), tmp_path / "link"
    for _ in range(50):
        link.symlink_to("a")
        put(records, link, Record(7, 7))
        assert records.of(os.fsencode(link), follow=False) == Record(7, 7)
        link.unlink()
        link.symlink_to("b")
        assert records.of(os.fsencode(link), follow=False) is None
        link.unlink()


@pytest.mark.usefixtures("in_proc")
def test_not_all_files_are_kept_open(tmp_path: Path) -> None:
    records = records_at(tmp_path, libc.Exchange())
    before = len(os.listdir("self/fd"))
    for number in range(600):
        link = tmp_path / str(number)
        link.symlink_to("a")
        put(records, link, Record(7, 7))
    assert len(os.listdir("self/fd")) - before <= 257
    assert len(records.final()) == 600
