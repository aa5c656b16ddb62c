"""Calls into foreign code that take seconds and ask nobody whether to stop: who waits for them can leave.

They are made by a thread of their own, one after the other. Who waits asks `stop.check` meanwhile. When it
has left, the thread ends what it is at, and nobody waits for that, not even the process that exits.

Must never know: what is called.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, TypeVar, cast

from builder import stop

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
ASKED_SECONDS = 0.05  # how long a stop may go unseen


class Detached:
    """Make calls with `call`, and then either `close` or `leave`. The thread begins with the first call."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[object, BaseException | None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def call(self, work: Callable[[], T]) -> T:
        """What the work gives. Raises what it raises, and Stopped while it still goes on."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="detached", daemon=True)
            self._thread.start()
        self._asked.put(work)
        while True:
            try:
                result, error = self._done.get(timeout=ASKED_SECONDS)
            except queue.Empty:
                stop.check()
                continue
            if error is not None:
                raise error
            return cast("T", result)

    def close(self) -> None:
        """Make no more calls."""
        self._asked.put(None)

    def leave(self, last: Callable[[], object]) -> None:
        """Wait for nothing any more. last: the call that puts away what the others have made, if any were."""
        if self._thread is not None:
            self._asked.put(last)
        self._asked.put(None)

    def _run(self) -> None:
        while (work := self._asked.get()) is not None:
            try:
                self._done.put((work(), None))
            except BaseException as error:  # whatever it is, it is raised where it was asked for
                self._done.put((None, error))
            del work  # and all that it holds
