"""How long a registry is waited for, whatever it does: for an answer's head, the next attempt, some bytes.

The timeouts of a client are for silence: a byte now and then, or headers without end, keep it waiting for
ever. So there is a clock for each stretch of the way that the server can draw out, and none for the whole of
it, which is as long as the content is large and the line is slow.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

import httpx

from builder.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

HEAD_SECONDS = 30.0  # for the head of an answer, once all was sent
TAKEN_IN = 2 << 20  # bytes a second: who was sent many may need longer
MOST_SECONDS = 300.0
PATIENCE = 60.0  # seconds of failures and pauses, after which nothing is tried again
SLOW_SECONDS, SLOW_BYTES = 60.0, 64 << 10  # fewer bytes in that time are as good as none


async def send(client: httpx.AsyncClient, request: httpx.Request, sent: int = 0) -> httpx.Response:
    """Send a request; the answer, its body unread. sent: bytes of the request's body.

    Raises httpx.ReadTimeout where the head does not come, however much comes before it; as httpx raises else,
    which reads the address that a redirect leads to, and has no error of its own for some that are none.
    """
    seconds = min(HEAD_SECONDS + sent / TAKEN_IN, MOST_SECONDS)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as limit:

            async def trace(event: str, _: dict[str, Any]) -> None:
                if event.endswith("receive_response_headers.started"):
                    limit.reschedule(loop.time() + seconds)

            request.extensions["trace"] = trace
            return await client.send(request, stream=True)
    except TimeoutError as error:
        raise httpx.ReadTimeout("no answer", request=request) from error
    except UnicodeError as error:
        raise httpx.RemoteProtocolError(f"it redirects to no valid URL: {error}", request=request) from error


class Deadline:
    """The end of one's patience, from now on."""

    def __init__(self) -> None:
        self._end = monotonic() + PATIENCE

    def allows(self, pause: float) -> bool:
        """Whether there is time for another attempt after a pause of so many seconds."""
        return monotonic() + pause < self._end


class Pace:
    """Whether bytes come, on one connection or on several after each other; who: whom they come from."""

    def __init__(self, who: str) -> None:
        self._who = who
        self._began = monotonic()
        self._bytes = 0

    def note(self, count: int) -> None:
        """Count bytes that came, 0 for a wait that gave none. Raises ImageError where they are too few."""
        self._bytes += count
        passed = monotonic() - self._began
        if passed < SLOW_SECONDS:
            return
        if self._bytes < SLOW_BYTES:
            raise ImageError(
                f"{self._who} is too slow: {self._bytes} bytes in {passed:.0f} seconds",
                code="registry-slow",
                hint="try again later, or from a mirror",
            )
        self._began, self._bytes = monotonic(), 0


async def pieces(response: httpx.Response, size: int, pace: Pace) -> AsyncIterator[bytes]:
    """The body as it was sent, in pieces of `size` bytes or more; also what came before a connection broke.

    Raises ImageError where it does not come at a pace, and what httpx raises.
    """
    buffer = bytearray()
    try:
        async for chunk in response.aiter_raw():
            pace.note(len(chunk))
            buffer += chunk
            if len(buffer) >= size:
                yield bytes(buffer)
                buffer.clear()
    except httpx.HTTPError:
        if buffer:
            yield bytes(buffer)
        raise
    if buffer:
        yield bytes(buffer)
