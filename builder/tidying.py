"""Putting away what steps have used, while the build goes on: nobody waits for it but the build's end.

Removing a few folders can take longer than the step that used them, where a disk is busy. One thread does it,
in the order in which things were done with. Knows nothing of what it removes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future, ThreadPoolExecutor


class Tidying:
    """The works that are under way. The thread starts with the first."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._works: list[Future[None]] = []

    def later(self, work: Callable[[], None]) -> None:
        """Do this some time before `finish` ends."""
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1, thread_name_prefix="tidy")
        self._works.append(self._pool.submit(work))

    def finish(self) -> None:
        """Wait until all is done. Raises what the first work that failed raised."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            works, self._works, self._pool = self._works, [], None
            for work in works:
                work.result()
