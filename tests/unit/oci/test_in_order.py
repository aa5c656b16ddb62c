"""Blocks worked on side by side: written in order, bounded, and errors are told once."""

from __future__ import annotations

import threading
import time

import pytest

from builder.oci.inorder import WAITING, InOrder


def say(number: int, seconds: float = 0.0) -> bytes:
    time.sleep(seconds)
    return b"%d;" % number


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_what_comes_out_is_in_order_whoever_is_done_first(threads: int) -> None:
    out = bytearray()
    blocks = InOrder(out.extend, threads)

    for number in range(50):
        blocks.put(lambda number=number: say(number, 0.002 if number % 3 else 0.0))  # type: ignore[misc]
    blocks.close()

    assert out == b"".join(b"%d;" % number for number in range(50))


def test_no_more_blocks_are_under_way_than_have_a_slot() -> None:
    under_way, most = 0, 0
    guard = threading.Lock()

    def work() -> bytes:
        return b"x"

    def write(data: bytes) -> None:
        nonlocal under_way
        time.sleep(0.001)
        with guard:
            under_way -= 1

    blocks = InOrder(write, 4)
    for _ in range(40):
        with guard:
            under_way += 1
            most = max(most, under_way)
        blocks.put(work)
    blocks.close()

    assert most <= 4 + WAITING + 1


@pytest.mark.parametrize("where", ["work", "write"])
def test_an_error_is_raised_where_work_is_put_and_nobody_waits_for_ever(where: str) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(28, "no space left")

    blocks = InOrder(fail if where == "write" else bytearray().extend, 2)

    def put_many() -> None:
        for number in range(100):
            blocks.put(fail if where == "work" and number == 3 else lambda: b"x")
        blocks.close()

    with pytest.raises(OSError, match="no space"):
        put_many()
    blocks.abort()


def test_an_aborted_one_ends_its_threads() -> None:
    before = set(threading.enumerate())
    blocks = InOrder(bytearray().extend, 3)
    for number in range(20):
        blocks.put(lambda number=number: say(number, 0.001))  # type: ignore[misc]

    blocks.abort()

    assert set(threading.enumerate()) <= before  # what an earlier test has left may end now
