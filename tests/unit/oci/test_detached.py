"""Calls that nothing stops: who waits for them is stopped all the same."""

from __future__ import annotations

import asyncio
import threading
from io import BytesIO

import pytest

from builder import stop
from builder.oci import compression
from builder.oci.compressed import Compression
from builder.oci.detached import Detached


def test_calls_give_and_raise_what_the_work_does() -> None:
    calls = Detached()

    def fail() -> None:
        raise ValueError("bad")

    assert calls.call(lambda: 1) == 1
    with pytest.raises(ValueError, match="bad"):
        calls.call(fail)
    assert calls.call(threading.current_thread).daemon
    calls.close()


async def test_who_waits_is_stopped_and_what_was_made_is_put_away_later() -> None:
    begun, go_on, put_away = (threading.Event() for _ in range(3))

    def slow() -> None:
        begun.set()
        go_on.wait()

    def work() -> None:
        calls = Detached()
        try:
            calls.call(slow)
        finally:
            calls.leave(put_away.set)

    task = asyncio.create_task(stop.in_thread(None, work))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)

    assert not put_away.is_set()
    go_on.set()
    assert put_away.wait(60)


def test_who_leaves_before_anything_was_begun_begins_nothing() -> None:
    before = set(threading.enumerate())

    Detached().leave(lambda: pytest.fail("there is nothing to put away"))

    assert set(threading.enumerate()) <= before  # what an earlier test has left may end now


class SlowFrame:
    """Stands for a frame whose workers are busy until they are let go."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.ended = (threading.Event() for _ in range(3))

    def compress(self, _block: bytes) -> bytes:
        self.begun.set()
        self.go_on.wait()
        return b""

    def flush(self) -> bytes:
        self.ended.set()
        return b""


async def test_a_slow_compression_is_left_when_it_is_stopped() -> None:
    frame = SlowFrame()

    def work() -> None:
        with compression.open_writer(BytesIO(), Compression("zstd", 19)) as writer:
            writer._frame = frame  # type: ignore[attr-defined]
            writer.write(bytes(2 * compression.BLOCK))

    task = asyncio.create_task(stop.in_thread(None, work))
    await asyncio.to_thread(frame.begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)

    assert not frame.ended.is_set()
    frame.go_on.set()
    assert frame.ended.wait(60)  # by the thread that was left: who drops a frame would wait for its workers


def test_slow_levels_leave_no_thread_behind() -> None:
    out = BytesIO()
    before = set(threading.enumerate())

    with compression.open_writer(out, Compression("zstd", compression.ZSTD_SLOW), threads=1) as writer:
        writer.write(b"some bytes " * 1000)
    for thread in set(threading.enumerate()) - before:
        thread.join(60)

    assert compression.open_reader(BytesIO(out.getvalue())).read() == b"some bytes " * 1000
