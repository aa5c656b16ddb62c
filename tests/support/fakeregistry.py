"""A registry that misbehaves on purpose: answers are functions from a request to what is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Asked:
    """One request as it came; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """One response. cut: close the connection after that many bytes of the body, -1 without a word.

    sized: whether the body's length is told; one that has none ends with the connection.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    sized: bool = True


@dataclass
class FakeRegistry:
    """host: `127.0.0.1:PORT`; asked: all requests but those for /v2/, in order."""

    host: str = ""
    asked: list[Asked] = field(default_factory=list)

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]


@asynccontextmanager
async def fake_registry(answer: Callable[[Asked], Answer]) -> AsyncIterator[FakeRegistry]:
    fake = FakeRegistry()
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        try:
            while (asked := await _read(reader)) is not None:
                if asked.path == "/v2/":
                    await _write(writer, asked, Answer())
                    continue
                fake.asked.append(asked)
                if not await _write(writer, asked, answer(asked)):
                    return
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    fake.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        try:
            yield fake
        finally:
            for connection in connections:  # also one whose client has not heard all: the loop may end now
                connection.transport.abort()
            await asyncio.sleep(0)


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    lines = head.decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ")
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    headers = {name.lower(): value for name, value in headers.items()}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, path, headers, body)


async def _write(writer: asyncio.StreamWriter, asked: Asked, answer: Answer) -> bool:
    if answer.cut == -1:
        return False
    sized = answer.sized and "transfer-encoding" not in answer.headers
    length = {"content-length": str(len(answer.body))} if sized else {}
    headers = {**length, **answer.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    body = b"" if asked.method == "HEAD" else answer.body[: answer.cut]
    writer.write(f"HTTP/1.1 {answer.status} X\r\n{head}\r\n".encode() + body)
    await writer.drain()
    return answer.cut is None and answer.sized
