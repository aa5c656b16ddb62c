"""A socket that hands what may be asked on to an agent, for as long as a step (or git) runs.

The socket is ours: what connects to it sees neither the path of the user's agent nor more of it than
`agent.Connection` lets through, and nothing when the step has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial

from builder.agents.agent import Agent, Connection
from builder.agents.protocol import ProtocolError, framed, read_message

MAX_CONNECTIONS = 32  # at a time; further ones wait until the kernel refuses them
MAX_PATH = 107  # bytes of a socket's path (unix(7))
PAUSE = 0.1  # seconds


@contextlib.asynccontextmanager
async def forwarded(agent: Agent, folder: str, name: str, mode: int = 0o600) -> AsyncIterator[str]:
    """The path of a new socket in a folder, of that mode, behind which the agent is while the block lasts.

    Raises OSError.
    """
    path = os.path.join(folder, name)
    with _listening(folder, name) as listener:
        os.chmod(path, mode)
        serving = asyncio.create_task(_serve(listener, agent))
        try:
            yield path
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


@contextlib.contextmanager
def _listening(folder: str, name: str) -> Iterator[socket.socket]:
    """Listen in a folder whose path may be longer than a socket's may be."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.setblocking(False)
            listener.bind(f"/proc/self/fd/{fd}/{name}")
            listener.listen()
            yield listener
    finally:
        os.close(fd)


async def _serve(listener: socket.socket, agent: Agent) -> None:
    """Take connections until cancelled."""
    free = asyncio.Semaphore(MAX_CONNECTIONS)
    async with asyncio.TaskGroup() as group:
        while True:
            await free.acquire()
            reader, writer = await _accept(listener)
            serving = group.create_task(_serve_one(reader, writer, agent))
            serving.add_done_callback(partial(_let_go, writer, free))


def _let_go(writer: asyncio.StreamWriter, free: asyncio.Semaphore, _: asyncio.Task[None]) -> None:
    """End a connection when its task has ended, which may have been cancelled before it began."""
    writer.close()
    free.release()


async def _accept(listener: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The next connection. The loop's own sock_accept loses one that comes while it is cancelled."""
    while True:
        try:
            taken = listener.accept()[0]
        except BlockingIOError:
            await _something_comes(listener)
        except OSError:  # who connects is gone again, or there is no descriptor left now
            await asyncio.sleep(PAUSE)
        else:
            try:
                return await asyncio.open_unix_connection(sock=taken)
            except OSError:
                taken.close()


async def _something_comes(listener: socket.socket) -> None:
    loop, coming = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(listener, coming.set)
    try:
        await coming.wait()
    finally:
        loop.remove_reader(listener)


async def _serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, agent: Agent) -> None:
    """Answer one connection to its end; what goes wrong ends it, as an agent that has died would."""
    try:
        connection = await agent.connect()
        try:
            await _answer_all(connection, reader, writer)
        finally:
            connection.close()
    except (OSError, ProtocolError):
        return


async def _answer_all(
    connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while (message := await read_message(reader)) is not None:
        writer.write(framed(await connection.answer(message)))
        await writer.drain()
