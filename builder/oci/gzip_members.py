"""A gzip stream of many members (RFC 1952), each of which can be read from its own beginning.

The bytes are a function of what is written and of the level alone: a member is cut into blocks as the gzip
writer of `compression` cuts a stream, so threads work side by side. Small members are worked on together,
as one thread's turn costs more than they do. Where members begin is known once all is written.

Must never know: tar, digests, what is in a member.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from typing import TYPE_CHECKING

from builder.oci.compression import BLOCK, GZIP_HEADER
from builder.oci.deflate import DICTIONARY, deflate_block
from builder.oci.inorder import InOrder

if TYPE_CHECKING:
    from builder.oci.compression import Writable

TURN = 1 << 18  # bytes from which on a thread has enough to do


class _Piece:
    """A stretch of one member: what to compress, after what, and what comes before and behind it."""

    __slots__ = ("before", "data", "head", "last", "tail")

    def __init__(self, data: bytes, before: bytes, *, first: bool, last: bool, tail: bytes) -> None:
        self.data = data
        self.before = before
        self.head = GZIP_HEADER if first else b""
        self.last = last
        self.tail = tail

    def packed(self, level: int | None) -> bytes:
        """The piece as it stands in the stream."""
        return self.head + deflate_block(self.data, self.before, level, last=self.last) + self.tail


class Members:
    """Takes the uncompressed bytes of one member after another; `begin` comes first, `close` last.

    size: compressed bytes that were written, complete after `close`.
    """

    def __init__(self, out: Writable, level: int | None, threads: int | None = None) -> None:
        self.size = 0
        self._out = out
        self._level = level
        self._blocks = InOrder(self._pass_on, threads or len(os.sched_getaffinity(0)))
        self._turn: list[_Piece] = []
        self._turn_size = 0
        self._turns: deque[tuple[list[_Piece], list[int]]] = deque()
        self._offsets: list[int] = []
        self._begun = 0
        self._start()

    def begin(self) -> int:
        """Begin a member, which ends the one before it; its number, from 0 on."""
        if self._begun:
            self._put(last=True)
        self._start()
        self._begun += 1
        return self._begun - 1

    def write(self, data: bytes | memoryview) -> None:
        """Take bytes of the member that was begun last."""
        rest = memoryview(data)
        while rest:
            taken = rest[: BLOCK - len(self._held)]
            self._held += taken
            rest = rest[len(taken) :]
            if len(self._held) == BLOCK:
                self._put(last=False)

    def close(self) -> list[int]:
        """End the stream; where each member begins. Raises what writing raised."""
        try:
            self._put(last=True)
            self._flush()
            self._blocks.close()
        finally:
            self.abort()
        return self._offsets

    def abort(self) -> None:
        """Drop what is under way."""
        self._blocks.abort()

    def _start(self) -> None:
        self._held = bytearray()
        self._before = b""
        self._first = True
        self._crc = self._count = 0

    def _put(self, *, last: bool) -> None:
        """Give what is held to the next turn, as a block of its member."""
        data, self._held = bytes(self._held), bytearray()
        self._crc = zlib.crc32(data, self._crc)
        self._count += len(data)
        tail = struct.pack("<II", self._crc, self._count & 0xFFFFFFFF) if last else b""
        self._turn.append(_Piece(data, self._before, first=self._first, last=last, tail=tail))
        self._turn_size += len(data)
        self._before, self._first = data[-DICTIONARY:], False
        if self._turn_size >= TURN:
            self._flush()

    def _flush(self) -> None:
        pieces, self._turn, self._turn_size = self._turn, [], 0
        lengths: list[int] = []
        self._turns.append((pieces, lengths))

        def work() -> bytes:
            packed = [piece.packed(self._level) for piece in pieces]
            lengths.extend(map(len, packed))
            return b"".join(packed)

        self._blocks.put(work)

    def _pass_on(self, data: bytes) -> None:
        """Write a turn, which comes in order, and note the members that begin in it."""
        pieces, lengths = self._turns.popleft()
        for piece, length in zip(pieces, lengths, strict=True):
            if piece.head:
                self._offsets.append(self.size)
            self.size += length
        self._out.write(data)
