"""Blocks worked on side by side, what comes of them written in order.

Whose work is done writes all that is ready, if nobody else is writing: so writing goes on beside the work,
and needs no thread of its own. Few blocks are under way at a time, so memory is bounded whatever comes.

Must never know: what the work is.
"""

from __future__ import annotations

import contextlib
import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

WAITING = 2  # blocks that wait for a thread
NICER = 10  # than other work, where that is to go first

_aside: ContextVar[Callable[[], bool] | None] = ContextVar("aside", default=None)


class InOrder:
    """Give it work with `put`; `close` waits for all, `abort` drops what has not begun.

    threads: how many work, begun with the first work; with less than two it is done on the spot.
    """

    def __init__(self, write: Callable[[bytes], object], threads: int) -> None:
        self._write = write
        self._threads = threads
        self._slots = threading.BoundedSemaphore(threads + WAITING)
        self._pool: ThreadPoolExecutor | None = None
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        self._ready: dict[int, bytes] = {}
        self._error: BaseException | None = None
        self._put = 0
        self._written = 0

    def put(self, work: Callable[[], bytes]) -> None:
        """Take some work on; waits while much is under way. Raises what earlier work or writing raised."""
        if self._threads < 2:
            self._write(work())
            return
        self._slots.acquire()
        if self._error is not None:
            self._slots.release()
            raise self._error
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="blocks")
        aside = _aside.get()
        nicer = NICER if aside is not None and aside() else 0
        self._pool.submit(self._run, self._put, work, min(19, os.getpriority(os.PRIO_PROCESS, 0) + nicer))
        self._put += 1

    def close(self) -> None:
        """Wait until all is written. Raises what work or writing raised."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """Begin nothing more, and wait for what has begun; errors are nobody's."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _run(self, number: int, work: Callable[[], bytes], nice: int) -> None:
        be_as_nice(nice)
        try:
            done = work() if self._error is None else b""
            with self._guard:
                self._ready[number] = done
            self._write_ready()
        except BaseException as error:  # whatever it is, it is raised where work is put
            self._error = self._error or error
        if self._error is not None:
            self._drop_ready()

    def _write_ready(self) -> None:
        """Write what is ready, unless somebody does; who comes while that one ends takes over."""
        while self._error is None and self._written in self._ready and self._writing.acquire(blocking=False):
            try:
                with self._guard:
                    done = self._ready.get(self._written)
                if done is not None:
                    self._write(done)
                    with self._guard:
                        del self._ready[self._written]
                    self._written += 1
                    self._slots.release()
            finally:
                self._writing.release()

    def _drop_ready(self) -> None:
        """Let go of what will never be written, so that nobody waits for it."""
        with self._guard:
            dropped = len(self._ready)
            self._ready.clear()
        for _ in range(dropped):
            self._slots.release()


def put_aside(is_aside: Callable[[], bool]) -> None:
    """Have the blocks that this thread gives to others give way, as long as it is so.

    Only those: a thread that runs Python would have the whole process wait while it waits for a processor.
    """
    _aside.set(is_aside)


def be_as_nice(nice: int) -> None:
    """Take on a priority, as far as that is allowed; on Linux it is each thread's own (setpriority(2))."""
    if nice != os.getpriority(os.PRIO_PROCESS, 0):
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, nice)
