"""Drives a build's coroutine to its end: the reader's ticks, and the signals that stop it.

The first Ctrl-C (or SIGTERM, SIGHUP) cancels the build, which then cleans up after itself; a second one,
or five seconds, ends the process at once, and the kernel takes its steps and mounts with it. So it does too
while nobody reads what is told of the build.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from builder import loops
from builder.errors import Interrupted

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from builder.ui.reader import Reader

T = TypeVar("T")
GRACE_SECONDS = 4.5
AT_ONCE_SECONDS = 0.3
AGAIN_SECONDS = 0.05  # from an alarm that was not heard to the next
HEARTBEAT_SECONDS = 0.25
LOOP_DESCRIPTORS = 3  # of an event loop: what it waits with, and the two ends of what wakes it
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def drive(work: Coroutine[None, None, T], reader: Reader, held: Sequence[int] = ()) -> T:
    """The coroutine's result. Raises Interrupted where a signal ended it.

    `held`: signals that came before; looked at once they come here. Raises OSError where not even that can
    be begun.
    """
    try:
        _check_descriptors()
    except OSError:
        work.close()
        raise
    ending = _Ending(reader, held)
    supervised = _supervise(work, reader, ending)
    try:
        with ending:
            return loops.run(supervised)
    finally:
        supervised.close()  # where they were never begun
        work.close()


def _check_descriptors() -> None:
    """Raise OSError if the files of an event loop cannot be opened: asyncio would make half of one, and
    complain when that is taken apart.
    """
    opened: list[int] = []
    try:
        for _ in range(LOOP_DESCRIPTORS):
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise OSError(error.errno, error.strerror) from None  # whatever file it was
        raise
    finally:
        for fd in opened:
            os.close(fd)


class _Ending:
    """What signals do, from before the loop begins until it is taken apart (as a `with` block).

    The loop itself may be held up, by whoever should read what a reader writes and does not: a handler of the
    loop's own would never be called then. So it is told, and an alarm is set for where it does not hear.
    """

    def __init__(self, reader: Reader, held: Sequence[int]) -> None:
        self.caught: list[int] = []
        self._held = held
        self._reader = reader
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Future[Any] | None = None
        self._handled: list[int] = []

    def __enter__(self) -> None:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's background job
                signal.signal(number, self._catch)
                self._handled.append(number)
        self.caught += self._held

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._handled:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        if error is None and self.caught:  # it was done before it could be ended
            signal.setitimer(signal.ITIMER_REAL, 0)

    def watch(self, task: asyncio.Future[Any]) -> None:
        """End this task, of the running loop, when a signal comes, or at once where one has come already."""
        self._loop, self._task = asyncio.get_running_loop(), task
        if self.caught:
            self._set_alarm(GRACE_SECONDS)
            task.cancel()

    def _catch(self, number: int, _frame: FrameType | None) -> None:
        self.caught.append(number)
        if self._loop is None or self._task is None:
            return
        is_first = len(self.caught) == 1
        self._set_alarm(GRACE_SECONDS if is_first else AT_ONCE_SECONDS)
        if is_first and len(self.caught) > 1:  # the second came before that was set
            self._set_alarm(AT_ONCE_SECONDS)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel if is_first else self._exit)

    def _set_alarm(self, seconds: float) -> None:
        signal.signal(signal.SIGALRM, lambda _number, _frame: os._exit(self._status()))
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)

    def _exit(self) -> None:
        self._reader.close()
        os._exit(self._status())

    def _status(self) -> int:
        return 128 + self.caught[-1]


async def _supervise(work: Coroutine[None, None, T], reader: Reader, ending: _Ending) -> T:
    task = asyncio.ensure_future(work)
    ending.watch(task)
    ticking = asyncio.ensure_future(_tick(reader))
    try:
        return await task
    except BaseException:
        if ending.caught:  # whatever the steps made of it
            raise Interrupted(ending.caught[0]) from None
        raise
    finally:
        ticking.cancel()


async def _tick(reader: Reader) -> None:
    """Wake the loop more often than its reader may want ticks: a signal that comes just before it waits is
    heard when that is over.
    """
    left = reader.interval
    while True:
        pause = min(left or HEARTBEAT_SECONDS, HEARTBEAT_SECONDS)
        await asyncio.sleep(pause)
        left -= pause
        if left <= 0:
            if reader.interval:
                reader.tick(time.time())
            left = reader.interval
