"""Who asks a registry waits for its bytes, not for its good will."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest

from builder.errors import ImageError
from builder.oci import access, answers, clients, patience
from builder.oci.patience import Deadline, Pace, send
from builder.oci.upload import MAX_SILENCES

CEILING = 120  # seconds for which anybody may draw out one stretch of the way


class Clock:
    """Time as a test has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(patience, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def drawn_out(
    head: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch, seconds: float, later: float = 0
) -> None:
    """Ask who says `head`, and then `piece` again and again, a hundred times a second.

    later: seconds by which the loop's clock is ahead once the head has come.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while True:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()

    monkeypatch.setattr(patience, "HEAD_SECONDS", seconds)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, httpx.AsyncClient(timeout=5, trust_env=False) as client:
        response = await send(client, client.build_request("GET", url))
        loop = asyncio.get_running_loop()
        clock = loop.time
        monkeypatch.setattr(loop, "time", lambda: clock() + later)
        async with asyncio.timeout(0.2):
            async for _ in response.aiter_raw():
                pass


@pytest.mark.hostile("DoS")
@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n"),
        (b"HTTP/1.1 2", b"0"),
    ],
    ids=["promises", "headers", "status"],
)
async def test_a_head_that_comes_in_drops_has_an_end(
    head: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(httpx.HTTPError):
        await drawn_out(head, piece, monkeypatch, 0.1)


async def test_of_a_body_the_clock_of_the_head_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"

    with pytest.raises(TimeoutError):  # the test's own, which is the longer one
        await drawn_out(head, b"1\r\nx\r\n", monkeypatch, 30, later=60)


@pytest.mark.hostile("DoS")
def test_bytes_must_come_at_some_pace_whatever_the_number_of_connections(clock: Clock) -> None:
    pace = Pace("registry r")
    for _ in range(int(patience.SLOW_SECONDS) - 1):
        clock.now += 1
        pace.note(1)
    clock.now += 1

    with pytest.raises(ImageError, match="registry r is too slow: 59 bytes in 60 seconds"):
        pace.note(0)


def test_a_slow_line_is_slow_and_no_more(clock: Clock) -> None:
    pace = Pace("registry r")
    for _ in range(10_000):
        clock.now += 10
        pace.note(patience.SLOW_BYTES // 6 + 1)
    clock.now += patience.SLOW_SECONDS - 1  # a pause, and then on
    pace.note(patience.SLOW_BYTES)


def test_patience_ends(clock: Clock) -> None:
    deadline = Deadline()

    assert deadline.allows(patience.PATIENCE - 1)
    assert not deadline.allows(patience.PATIENCE + 1)
    clock.now += patience.PATIENCE
    assert not deadline.allows(0)


@pytest.mark.hostile("DoS")
def test_no_stretch_of_the_way_takes_longer_than_two_minutes() -> None:
    """An attempt that begins when patience ends; a body that trickles; an upload that nobody answers."""
    one = clients.CONNECT_SECONDS + patience.HEAD_SECONDS

    assert patience.PATIENCE + one < CEILING
    assert patience.SLOW_SECONDS + clients.READ_SECONDS < CEILING
    assert MAX_SILENCES * patience.HEAD_SECONDS < CEILING
    assert access.SMALL_SECONDS < CEILING
    assert answers.LONGEST_PAUSE <= patience.PATIENCE
