"""The event loop: who has asked for an address may leave before there is an answer."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from builder import loops

PATIENCE = 60.0  # seconds


def test_nobody_waits_for_a_name_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def ask(*_: Any) -> list[Any]:
        threads.append(threading.current_thread())
        asked.set()
        answered.wait(PATIENCE)
        return []

    async def look_up() -> None:
        question = asyncio.ensure_future(asyncio.get_running_loop().getaddrinfo("nowhere.example", 443))
        await asyncio.to_thread(asked.wait)
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    loops.run(look_up())

    assert threads[0].is_alive()
    assert threads[0].daemon  # so that not even the end of the process waits
    answered.set()
    threads[0].join()  # the answer that nobody wants any more does no harm


def test_addresses_are_those_that_the_system_knows() -> None:
    async def look_up(host: str, flags: int = 0) -> list[Any]:
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo(host, 443, type=socket.SOCK_STREAM, flags=flags)

    found = loops.run(look_up("127.0.0.1"))

    assert found == socket.getaddrinfo("127.0.0.1", 443, type=socket.SOCK_STREAM)
    with pytest.raises(socket.gaierror):
        loops.run(look_up("no-number", socket.AI_NUMERICHOST))
