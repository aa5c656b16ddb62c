"""A blob on its way in, read from its beginning by another thread while it still grows.

The one idea: who reads comes to the end of the stream only once the blob is known to be the right one; until
then a read at the end of what is there waits. So work that begins with the first bytes ends with a verified
blob, or by an error.

Must never know: where the bytes come from, what they are.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from builder import stop
from builder.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE = 0.25  # seconds after which who waits looks whether it is to stop


class CutShort(BuildError):
    """The blob did not come to its end, or began anew: what was read of it is worth nothing."""

    code = "blob-cut-short"


class Growing:
    """One blob. `begun` is called, in the thread that brings the bytes, when there is something to follow.

    Who brings them calls `begin`, `note`, and at last `end` (verified) or `fail`; who reads calls `read`.
    """

    def __init__(self, begun: Callable[[], None]) -> None:
        self._begun = begun
        self._change = threading.Condition()
        self._fd = -1
        self._size = 0
        self._at = 0
        self._ended = False
        self._failed = False

    # ── for who brings the bytes ─────────────────────────────────────────────────────────────────────────

    def begin(self, fd: int) -> None:
        """The bytes come into this file, from its beginning. A second time what came before is void."""
        if self._fd >= 0:
            self.fail()
            return
        self._fd = os.dup(fd)
        self._begun()

    def note(self, size: int) -> None:
        """So many bytes are there."""
        with self._change:
            self._size = size
            self._change.notify_all()

    def end(self) -> None:
        """All is there, and is what it should be."""
        with self._change:
            self._ended = True
            self._change.notify_all()

    def fail(self) -> None:
        """It will not come to a good end; no more than that if it has ended."""
        with self._change:
            self._failed = not self._ended
            self._change.notify_all()

    # ── for who reads them ───────────────────────────────────────────────────────────────────────────────

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes (1 MiB, unless told), at least one before the end.

        Raises CutShort, OSError, and Stopped.
        """
        there = self.wait_beyond(self._at)
        if there is None:
            return b""
        data = os.pread(self._fd, min(size if size >= 0 else 1 << 20, there - self._at), self._at)
        if not data:
            raise CutShort("a blob was cut short while it was read")
        self._at += len(data)
        return data

    def wait_beyond(self, size: int) -> int | None:
        """How many bytes are there, once it is more than so many; None at the end.

        Raises CutShort and Stopped.
        """
        with self._change:
            while self._size <= size and not self._ended and not self._failed:
                self._change.wait(PAUSE)
                stop.check()
            if self._failed:
                raise CutShort("a blob was cut short while it was read")
            return self._size if self._size > size else None

    def fileno(self) -> int:
        """The file of the bytes, for who reads them elsewhere."""
        return self._fd

    def wait(self) -> None:
        """Read on to the end."""
        while self.read():
            pass

    def close(self) -> None:
        """Let go of the file. Nobody may read any more."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
