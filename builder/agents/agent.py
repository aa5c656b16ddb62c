"""Who answers when a step asks for a signature: the user's agent, or one here that holds keys from files.

The one idea: nothing of the user's agent but its answers reaches a step. What may be asked is what keys there
are and what they sign; all else (adding keys, removing them, locking, extensions) is refused here, before
anybody hears of it. Keys are read when they are first asked for, and are in memory alone.

Must never know: steps, and the sockets that these connect to (`forward`).
"""

from __future__ import annotations

import asyncio
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from builder.agents.protocol import (
    ANSWERS,
    LIST,
    LISTED,
    REFUSAL,
    SIGNED,
    ProtocolError,
    framed,
    read_message,
    texts_of,
)
from builder.errors import BuildError, reason_of

if TYPE_CHECKING:
    from builder.agents.keys import Key
    from builder.request import SshSpec

DEFAULT = "default"
MAX_KEY = 100 << 10  # bytes of a key's file, as BuildKit has it
PATIENCE = 2.0  # seconds until an agent takes a connection


class Agents:
    """The agents that a build was given, by id; each is looked at when it is asked for."""

    def __init__(self, specs: Iterable[SshSpec]) -> None:
        self._specs = {spec.id: spec for spec in specs}
        self._opened: dict[str, Agent] = {}

    def get(self, name: str) -> Agent | None:
        """The agent of that id, None where there is none. Raises BuildError where its keys cannot be read."""
        if name in self._specs and name not in self._opened:
            self._opened[name] = open_agent(self._specs[name])
        return self._opened.get(name)

    def __bool__(self) -> bool:
        return bool(self._specs)


class Agent(ABC):
    """What a `--ssh` stands for."""

    @abstractmethod
    async def connect(self) -> Connection:
        """A connection to it. Raises OSError where it does not answer."""


class Connection(ABC):
    """A connection to an agent: messages in, answers out."""

    async def answer(self, message: bytes) -> bytes:
        """The answer to any message of a step. Raises OSError, ProtocolError where the agent fails."""
        wanted = ANSWERS.get(message[0])
        if wanted is None:
            return REFUSAL
        answer = await self.ask(message)
        return answer if answer[0] == wanted else REFUSAL

    @abstractmethod
    async def ask(self, message: bytes) -> bytes:
        """The answer to what may be asked."""

    @abstractmethod
    def close(self) -> None:
        """End the connection."""


class UsersAgent(Agent):
    """The agent that listens at a socket."""

    def __init__(self, path: str) -> None:
        self.path = path

    async def connect(self) -> Connection:
        """See Agent."""
        try:
            async with asyncio.timeout(PATIENCE):
                return _ToUsersAgent(*await asyncio.open_unix_connection(self.path))
        except TimeoutError as error:
            raise OSError(f"the ssh agent at {self.path} takes no connection") from error


class _ToUsersAgent(Connection):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, message: bytes) -> bytes:
        self._writer.write(framed(message))
        await self._writer.drain()
        answer = await read_message(self._reader)
        if answer is None:
            raise ProtocolError("the agent has ended the connection")
        return answer

    def close(self) -> None:
        self._writer.close()


class KeysAgent(Agent):
    """An agent of our own, for keys from files."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = {key.blob: key for key in keys}

    async def connect(self) -> Connection:
        """See Agent."""
        return _ToKeys(self._keys)


class _ToKeys(Connection):
    def __init__(self, keys: dict[bytes, Key]) -> None:
        self._keys = keys

    async def ask(self, message: bytes) -> bytes:
        if message[0] == LIST:
            rows = b"".join(framed(blob) + framed(b"") for blob in self._keys)
            return bytes([LISTED]) + len(self._keys).to_bytes(4, "big") + rows
        (blob, data), flags = texts_of(message, 2)
        key = self._keys.get(blob)
        signature = key.sign(data, int.from_bytes(flags, "big")) if key and len(flags) == 4 else None
        return REFUSAL if signature is None else bytes([SIGNED]) + framed(signature)

    def close(self) -> None:
        pass


def open_agent(spec: SshSpec) -> Agent:
    """The agent of a `--ssh`: a socket's, or one that holds the keys in the files.

    Raises BuildError where a file is no key.
    """
    if len(spec.paths) == 1 and is_socket(spec.paths[0]):
        return UsersAgent(spec.paths[0])
    return KeysAgent([_read_key(path) for path in spec.paths])


def is_socket(path: str) -> bool:
    """Whether a path leads to a socket. False for what is not there."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _read_key(path: str) -> Key:
    from builder.agents.keys import parse_key

    try:
        with open(path, "rb") as file:
            data = file.read(MAX_KEY + 1)
    except OSError as error:
        raise BuildError(f"the key {path} cannot be read: {reason_of(error)}", code="ssh-key") from error
    if len(data) > MAX_KEY:
        raise BuildError(f"{path} has more than {MAX_KEY >> 10} KiB, and is no key", code="ssh-key")
    return parse_key(data, path)
