"""The protocol of ssh agents, as much of it as a build may use: what keys there are, and signatures by them.

A message is four bytes of length (big-endian), then so many: one byte that tells its kind, then fields. A
text is four bytes of length and its bytes. Pure, but for reading a stream.

Follows https://www.rfc-editor.org/rfc/rfc9987 (SSH Agent Protocol), sections 3 and 4.
"""

from __future__ import annotations

import asyncio

FAILURE = 5
LIST, LISTED = 11, 12  # SSH_AGENTC_REQUEST_IDENTITIES, SSH_AGENT_IDENTITIES_ANSWER
SIGN, SIGNED = 13, 14  # SSH_AGENTC_SIGN_REQUEST, SSH_AGENT_SIGN_RESPONSE
RSA_SHA2_256, RSA_SHA2_512 = 2, 4  # flags of a SIGN

ANSWERS = {LIST: LISTED, SIGN: SIGNED}  # nothing else is passed on, or is an answer
REFUSAL = bytes([FAILURE])
MAX_MESSAGE = 256 << 10  # bytes, as OpenSSH has it
_LENGTH = 4


class ProtocolError(ValueError):
    """A message is not what the protocol says."""


async def read_message(stream: asyncio.StreamReader) -> bytes | None:
    """The next message without its length; None at the end. Raises ProtocolError for one that is too long."""
    try:
        length = int.from_bytes(await stream.readexactly(_LENGTH), "big")
        if not 1 <= length <= MAX_MESSAGE:
            raise ProtocolError(f"a message of {length} bytes")
        return await stream.readexactly(length)
    except asyncio.IncompleteReadError:
        return None


def framed(message: bytes) -> bytes:
    """The message behind its length; so also a text."""
    return len(message).to_bytes(_LENGTH, "big") + message


def texts_of(message: bytes, count: int) -> tuple[list[bytes], bytes]:
    """The first `count` texts of a message behind its kind, and what follows them. Raises ProtocolError."""
    found, rest = [], message[1:]
    for _ in range(count):
        length = int.from_bytes(rest[:_LENGTH], "big")
        if len(rest) < _LENGTH + length:
            raise ProtocolError("a text that ends too early")
        found.append(rest[_LENGTH : _LENGTH + length])
        rest = rest[_LENGTH + length :]
    return found, rest


def big_number(value: int) -> bytes:
    """A number from 0 on, as the text that ssh makes of it (mpint, RFC 4251 section 5)."""
    return framed(value.to_bytes(value.bit_length() // 8 + 1, "big") if value else b"")
