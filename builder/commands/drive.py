"""Drives a build's coroutine to its end: the reader's ticks, and the signals that stop it.

The first Ctrl-C (or SIGTERM, SIGHUP) cancels the build, which then cleans up after itself; a second one,
or five seconds, ends the process at once, and the kernel takes its steps and mounts with it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, TypeVar

from builder import loops
from builder.errors import Interrupted

if TYPE_CHECKING:
    from builder.ui.reader import Reader

T = TypeVar("T")
GRACE_SECONDS = 4.5
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
    supervised = _supervise(work, reader, held)
    try:
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
        raise OSError(error.errno, error.strerror) from None  # whatever file it was
    finally:
        for fd in opened:
            os.close(fd)


async def _supervise(work: Coroutine[None, None, T], reader: Reader, held: Sequence[int]) -> T:
    task = asyncio.ensure_future(work)
    stopped: list[int] = []

    def stop(number: int) -> None:
        if stopped:
            _exit_now(reader, number)
        stopped.append(number)
        task.cancel()
        backstop = threading.Timer(GRACE_SECONDS, os._exit, (128 + number,))
        backstop.daemon = True
        backstop.start()

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's background job
            loop.add_signal_handler(number, stop, number)
    if held:
        stop(held[0])
    ticking = asyncio.ensure_future(_tick(reader))
    try:
        return await task
    except BaseException:
        if stopped:  # whatever the steps made of it
            raise Interrupted(stopped[0]) from None
        raise
    finally:
        ticking.cancel()


async def _tick(reader: Reader) -> None:
    while reader.interval:
        await asyncio.sleep(reader.interval)
        reader.tick(time.time())


def _exit_now(reader: Reader, number: int) -> None:
    reader.close()
    os._exit(128 + number)
