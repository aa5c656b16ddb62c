"""What comes through a forwarded socket: lists and signatures, and nothing else, of whatever agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from builder.agents.agent import Agent, Agents, Connection, KeysAgent, UsersAgent, open_agent
from builder.agents.forgit import socket_for
from builder.agents.forward import MAX_CONNECTIONS, forwarded
from builder.agents.protocol import (
    LIST,
    LISTED,
    MAX_MESSAGE,
    REFUSAL,
    SIGN,
    SIGNED,
    big_number,
    framed,
    read_message,
)
from builder.errors import BuildError
from builder.request import SshSpec

ADD, REMOVE_ALL, LOCK, UNLOCK, EXTENSION = 17, 19, 22, 23, 27


class Recorder(Agent):
    """An agent that notes what it is asked, and answers what it is told to."""

    def __init__(self, answers: dict[int, bytes]) -> None:
        self.answers = answers
        self.asked: list[bytes] = []
        self.open = 0

    async def connect(self) -> Connection:
        self.open += 1
        return _Recorded(self)


class _Recorded(Connection):
    def __init__(self, agent: Recorder) -> None:
        self.agent = agent

    async def ask(self, message: bytes) -> bytes:
        self.agent.asked.append(message)
        return self.agent.answers[message[0]]

    def close(self) -> None:
        self.agent.open -= 1


async def ask(path: str, *messages: bytes) -> list[bytes | None]:
    """The answers on one connection; None from where it was ended."""
    reader, writer = await asyncio.open_unix_connection(path)
    answers = []
    for message in messages:
        try:
            writer.write(framed(message))
            answers.append(await read_message(reader))
        except ConnectionResetError:  # it was ended before all was read that came
            answers.append(None)
    writer.close()
    return answers


async def until(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not claim():  # noqa: ASYNC110 - of what the loop does meanwhile
            await asyncio.sleep(0)


@asynccontextmanager
async def agent_at(path: Path, answer: bytes) -> AsyncIterator[list[bytes]]:
    """A user's agent at a socket: what it is asked; it says `answer` to everything."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (message := await read_message(reader)) is not None:
            asked.append(message)
            writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield asked


async def test_lists_and_signatures_pass_and_nothing_else_is_heard_of(tmp_path: Path) -> None:
    agent = Recorder({LIST: bytes([LISTED, 0, 0, 0, 0]), SIGN: bytes([SIGNED]) + framed(b"s")})
    forbidden = [bytes([kind]) + b"rest" for kind in (1, ADD, REMOVE_ALL, LOCK, UNLOCK, EXTENSION, 255)]

    async with forwarded(agent, str(tmp_path), "agent") as path:
        answers = await ask(path, bytes([LIST]), bytes([SIGN]) + b"data", *forbidden, bytes([LIST]))

    assert answers[:2] == [bytes([LISTED, 0, 0, 0, 0]), bytes([SIGNED]) + framed(b"s")]
    assert answers[2:-1] == [REFUSAL] * len(forbidden)
    assert agent.asked == [bytes([LIST]), bytes([SIGN]) + b"data", bytes([LIST])]


async def test_an_answer_of_another_kind_is_a_refusal(tmp_path: Path) -> None:
    agent = Recorder({LIST: bytes([SIGNED]) + framed(b"s"), SIGN: bytes([LISTED, 0, 0, 0, 0])})

    async with forwarded(agent, str(tmp_path), "agent") as path:
        assert await ask(path, bytes([LIST]), bytes([SIGN])) == [REFUSAL, REFUSAL]


@pytest.mark.parametrize("wire", [bytes(4), (MAX_MESSAGE + 1).to_bytes(4, "big"), b"\xff\xff\xff\xff"])
async def test_a_message_that_cannot_be_ends_its_connection_alone(tmp_path: Path, wire: bytes) -> None:
    agent = Recorder({LIST: bytes([LISTED, 0, 0, 0, 0])})

    async with forwarded(agent, str(tmp_path), "agent") as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(wire)
        assert await reader.read() == b""
        writer.close()
        assert await ask(path, bytes([LIST])) == [bytes([LISTED, 0, 0, 0, 0])]
    assert agent.asked == [bytes([LIST])]


async def test_connections_end_with_the_block(tmp_path: Path) -> None:
    agent = Recorder({})

    async with forwarded(agent, str(tmp_path), "agent") as path:
        reader, writer = await asyncio.open_unix_connection(path)
        await until(lambda: agent.open == 1)

    assert await reader.read() == b""
    writer.close()
    assert agent.open == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_unix_connection(path)


@pytest.mark.parametrize("rounds", range(12))
async def test_who_connects_while_it_ends_is_let_go_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rounds: int
) -> None:
    """rounds: of the loop, from the connection to the end."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        async with forwarded(KeysAgent([]), str(tmp_path), "agent") as path:
            for _ in range(10):  # it waits
                await asyncio.sleep(0)
            client.connect(path)
            for _ in range(rounds):
                await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""

    assert caplog.records == []


async def test_no_more_connections_are_served_than_may_be_and_the_next_waits_for_one(tmp_path: Path) -> None:
    agent = Recorder({LIST: bytes([LISTED, 0, 0, 0, 0])})

    async with forwarded(agent, str(tmp_path), "agent") as path:
        held = [await asyncio.open_unix_connection(path) for _ in range(MAX_CONNECTIONS)]
        waiting = asyncio.create_task(ask(path, bytes([LIST])))
        await until(lambda: agent.open == MAX_CONNECTIONS)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (agent.open, agent.asked) == (MAX_CONNECTIONS, [])
        held[0][1].close()
        assert await waiting == [bytes([LISTED, 0, 0, 0, 0])]
        for _, writer in held[1:]:
            writer.close()


async def test_the_socket_has_its_mode_and_may_lie_deep(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)

    async with forwarded(KeysAgent([]), str(deep), "agent", 0o640) as path:
        status = os.stat(path)

    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o640


async def test_a_users_agent_is_asked_at_its_socket(tmp_path: Path) -> None:
    listed = bytes([LISTED, 0, 0, 0, 0])
    async with agent_at(tmp_path / "mine", framed(listed)) as asked:
        agent = open_agent(SshSpec(id="default", paths=(str(tmp_path / "mine"),)))
        async with forwarded(agent, str(tmp_path), "agent") as path:
            answers = await ask(path, bytes([LIST]), bytes([ADD]), bytes([LIST]))

    assert answers == [listed, REFUSAL, listed]
    assert asked == [bytes([LIST]), bytes([LIST])]


@pytest.mark.parametrize("answer", [b"", b"\xff\xff\xff\xff"], ids=["never", "too long"])
async def test_an_agent_that_is_gone_or_talks_nonsense_ends_the_connection(
    tmp_path: Path, answer: bytes
) -> None:
    if not answer:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(os.fspath(tmp_path / "mine"))
    async with agent_at(tmp_path / "other", answer):
        place = tmp_path / ("other" if answer else "mine")
        async with forwarded(UsersAgent(str(place)), str(tmp_path), "agent") as path:
            assert await ask(path, bytes([LIST])) == [None]


async def test_keys_are_listed_without_their_files_names_and_only_they_sign(tmp_path: Path) -> None:
    agents = Agents([SshSpec(id="keys", paths=(str(key_at(tmp_path / "secret-name")),))])
    agent = agents.get("keys")
    assert agent is not None

    async with forwarded(agent, str(tmp_path), "agent") as path:
        (listed,) = await ask(path, bytes([LIST]))
        assert listed is not None
        assert listed[:5] == bytes([LISTED, 0, 0, 0, 1])
        assert b"secret-name" not in listed
        blob = listed[9 : 9 + int.from_bytes(listed[5:9], "big")]
        right = bytes([SIGN]) + framed(blob) + framed(b"data") + bytes(4)
        other = bytes([SIGN]) + framed(b"another") + framed(b"data") + bytes(4)
        short = bytes([SIGN]) + framed(blob) + framed(b"data")
        answers = await ask(path, right, other, short, bytes([ADD]) + b"x")

    assert answers[0] is not None
    assert answers[0][0] == SIGNED
    assert answers[1:] == [REFUSAL] * 3


async def test_a_signature_over_half_a_message_ends_the_connection(tmp_path: Path) -> None:
    async with forwarded(KeysAgent([]), str(tmp_path), "agent") as path:
        assert await ask(path, bytes([SIGN]) + b"\0\0\0\x09half") == [None]


def test_keys_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    agents = Agents([SshSpec(id="bad", paths=(str(tmp_path / "absent"),))])

    assert agents.get("default") is None
    with pytest.raises(BuildError, match="absent cannot be read: no such file"):
        agents.get("bad")


def test_a_file_that_is_too_large_for_a_key_is_not_read_whole(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(200 << 10))

    with pytest.raises(BuildError, match="more than 100 KiB"):
        Agents([SshSpec(id="large", paths=(str(large),))]).get("large")


@pytest.mark.parametrize(
    ("remote", "given", "expected"),
    [
        ("https://host/a.git", True, ""),
        ("ssh://git@host/a.git", True, "given"),
        ("git@host:a", True, "given"),
        ("git@host:a", False, "otherwise"),
        ("git://host/a", True, ""),
    ],
)
async def test_git_has_the_agent_called_default_where_it_goes_by_ssh(
    tmp_path: Path, remote: str, given: bool, expected: str
) -> None:
    async with agent_at(tmp_path / "given", b""):
        specs = [SshSpec(id="default", paths=(str(tmp_path / "given"),))] if given else []
        async with socket_for(remote, Agents(specs), str(tmp_path), "otherwise") as path:
            assert path.rpartition("/")[2] == expected


async def test_git_reaches_keys_by_a_socket_that_goes_with_it(tmp_path: Path) -> None:
    agents = Agents([SshSpec(id="default", paths=(str(key_at(tmp_path / "key")),))])

    async with socket_for("git@host:a", agents, str(tmp_path)) as path:
        (listed,) = await ask(path, bytes([LIST]))

    assert listed is not None
    assert listed[0] == LISTED
    assert os.listdir(tmp_path / "ingest") == []


async def test_a_store_too_deep_for_a_socket_says_so(tmp_path: Path) -> None:
    agents = Agents([SshSpec(id="default", paths=(str(key_at(tmp_path / "key")),))])

    with pytest.raises(BuildError, match="too long for a socket"):
        async with socket_for("git@host:a", agents, str(tmp_path / ("d" * 100))):
            pass


@pytest.mark.parametrize(
    ("value", "text"), [(0, b""), (1, b"\x01"), (127, b"\x7f"), (128, b"\0\x80"), (256, b"\x01\0")]
)
def test_numbers_are_written_as_ssh_writes_them(value: int, text: bytes) -> None:
    assert big_number(value) == framed(text)


def key_at(path: Path) -> Path:
    """A new key's file."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return path
