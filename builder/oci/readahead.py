"""A stream read by a thread of its own, a few blocks ahead.

For what costs time on both sides: decompressing and hashing release the interpreter's lock, and so does
what a reader of the blocks does with them. A short stream never starts the thread.

Must never know: what the stream is.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from builder.fs.copy import Readable

BLOCK = 1 << 20
AHEAD = 4


class ReadAhead:
    """The same bytes and the same errors as `stream`; leaving the block ends the thread.

    Until the end has been read, nobody else may touch `stream`.
    """

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._held = b""
        self._ended = False
        self._taken = 0
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._blocks: queue.Queue[bytes | BaseException] = queue.Queue(AHEAD)

    def read(self, size: int = BLOCK, /) -> bytes:
        """Up to `size` bytes, at least one before the end."""
        if not self._held and not self._ended:
            self._ended = True  # also by an error
            self._held = self._next()
            self._ended = not self._held
        data, self._held = self._held[:size], self._held[size:]
        return data

    def _next(self) -> bytes:
        if self._thread is None:
            if self._taken < BLOCK:
                data = self._stream.read(BLOCK)
                self._taken += len(data)
                return data
            self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
            self._thread.start()
        block = self._blocks.get()
        if isinstance(block, BaseException):
            raise block
        return block

    def _run(self) -> None:
        block: bytes | BaseException = b"x"
        while block and not isinstance(block, BaseException) and not self._stopped:
            try:
                block = self._stream.read(BLOCK)
            except BaseException as error:  # whatever it is, it is raised where the bytes are read
                block = error
            self._blocks.put(block)

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        while self._thread is not None and self._thread.is_alive():
            try:
                self._blocks.get(timeout=0.01)
            except queue.Empty:
                continue
