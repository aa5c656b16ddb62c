"""A blob read while it grows: its end is told once it is verified, and not before."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builder.store.growing import CutShort, Growing


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "blob", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@pytest.fixture
def growing() -> Iterator[Growing]:
    blob = Growing(lambda: None)
    yield blob
    blob.close()


def grow(growing: Growing, fd: int, data: bytes) -> None:
    os.write(fd, data)
    growing.note(os.fstat(fd).st_size)


def read_all(growing: Growing) -> bytes:
    pieces = []
    while data := growing.read(3):
        pieces.append(data)
    return b"".join(pieces)


def test_what_is_there_is_read_before_the_rest_has_come(growing: Growing, fd: int) -> None:
    growing.begin(fd)
    grow(growing, fd, b"hello ")

    assert growing.read(5) == b"hello"
    assert growing.read(100) == b" "


def test_the_end_is_told_only_when_it_is_verified(growing: Growing, fd: int) -> None:
    growing.begin(fd)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_all, growing)
        grow(growing, fd, b"hello ")
        grow(growing, fd, b"world")
        assert not reading.done()
        growing.end()
        assert reading.result(60) == b"hello world"


def test_who_waits_is_told_of_a_bad_end(growing: Growing, fd: int) -> None:
    growing.begin(fd)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_all, growing)
        grow(growing, fd, b"hello ")
        growing.fail()
        with pytest.raises(CutShort):
            reading.result(60)


def test_a_transfer_that_begins_anew_makes_void_what_was_read(growing: Growing, fd: int) -> None:
    growing.begin(fd)
    grow(growing, fd, b"hello")

    growing.begin(fd)

    with pytest.raises(CutShort):
        growing.read(1)


def test_a_good_end_stays_one(growing: Growing, fd: int) -> None:
    growing.begin(fd)
    growing.end()
    growing.fail()

    assert growing.read() == b""


def test_who_follows_is_called_once(fd: int) -> None:
    calls: list[int] = []
    growing = Growing(lambda: calls.append(threading.get_ident()))
    growing.begin(fd)
    growing.begin(fd)
    growing.close()

    assert calls == [threading.get_ident()]
