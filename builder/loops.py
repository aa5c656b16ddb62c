"""The event loop that coroutines run in: asyncio's own, but that nobody waits for a name server.

asyncio asks the C library for addresses in a thread of a pool, and waits for that thread before it ends.
Where no name server answers, that takes longer than anybody waits who has typed Ctrl-C. So such a question
has a thread of its own, which may be left.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns, as asyncio.run does it. Raises what it raises."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(work)


class Loop(asyncio.SelectorEventLoop):
    """The loop."""

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """What getaddrinfo(3) says. Raises OSError."""
        answer: asyncio.Future[list[Any]] = self.create_future()

        def ask() -> None:
            try:
                found = socket.getaddrinfo(host, port, family, type, proto, flags)
            except Exception as error:  # whatever it is, it is raised where it was asked
                self._settle(answer, answer.set_exception, error)
            else:
                self._settle(answer, answer.set_result, found)

        threading.Thread(target=ask, name="lookup", daemon=True).start()
        return await answer

    def _settle(self, answer: asyncio.Future[list[Any]], tell: Callable[[Any], None], what: object) -> None:
        """Tell what came to who has asked, where that still waits."""

        def settle() -> None:
            if not answer.done():
                tell(what)

        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.call_soon_threadsafe(settle)
