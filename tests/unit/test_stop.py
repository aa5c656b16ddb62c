"""Work in threads that is told to stop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from builder import stop


class Loop:
    """Work without end, that asks each round whether it is to stop, and puts away what it began."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.put_away = False

    def __call__(self) -> None:
        try:
            while True:
                stop.check()
                self.running.set()
        finally:
            self.put_away = True


async def test_a_function_gives_its_result() -> None:
    assert await stop.in_thread(None, lambda: 7) == 7


async def test_an_error_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        await stop.in_thread(None, lambda: 1 // 0)


async def test_what_is_cancelled_has_ended_when_its_task_has() -> None:
    work = Loop()
    task = asyncio.create_task(stop.in_thread(None, work))
    await asyncio.to_thread(work.running.wait)

    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert work.put_away


async def test_cancelling_one_leaves_the_other_alone() -> None:
    one, other = Loop(), Loop()
    first = asyncio.create_task(stop.in_thread(None, one))
    second = asyncio.create_task(stop.in_thread(None, other))
    for work in (one, other):
        await asyncio.to_thread(work.running.wait)

    first.cancel()
    await asyncio.wait([first])

    assert (one.put_away, other.put_away) == (True, False)
    second.cancel()
    await asyncio.wait([second])


async def test_what_waits_for_its_turn_never_begins() -> None:
    begun = threading.Event()
    work = Loop()
    with ThreadPoolExecutor(1) as pool:
        first = asyncio.create_task(stop.in_thread(pool, work))
        second = asyncio.create_task(stop.in_thread(pool, begun.set))
        await asyncio.to_thread(work.running.wait)

        second.cancel()
        first.cancel()
        await asyncio.wait([first, second])

    assert not begun.is_set()


async def test_threads_of_its_own_stop_with_it() -> None:
    inner = [Loop(), Loop()]

    def outer() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(stop.shared(lambda work: work()), inner))

    task = asyncio.create_task(stop.in_thread(None, outer))
    for work in inner:
        await asyncio.to_thread(work.running.wait)

    task.cancel()
    await asyncio.wait([task])

    assert all(work.put_away for work in inner)


def test_outside_of_such_work_nothing_is_asked() -> None:
    stop.check()
    assert stop.shared(lambda value: value + 1)(1) == 2
