"""Sparse files in tars: GNU's old format and its pax formats 0.0, 0.1 and 1.0, read as whole files.

A map says where the stored bytes lie in the file; the rest is zeros. The map is bounded before it is
read, must be in order, inside the file, and account for every stored byte; the sizes of all sparse files
of an archive together are bounded too, since holes cost an archive nothing (GNU tar manual, appendix D;
CVE-2025-58183 is an unbounded map).
"""

from __future__ import annotations

from builder.oci import tar_header as th

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Feed(Protocol):
        """The archive's bytes in order."""

        def exactly(self, size: int, *, optional: bool = False) -> bytes: ...
        def some(self, size: int) -> bytes: ...
        def skip(self, size: int) -> None: ...


MAX_EXPANDED = 16 << 30
MAX_EXTENTS = th.MAX_RECORD // 24
CHUNK = 1 << 18


class SparseBody:
    """The bytes of a sparse member, holes as zeros."""

    __slots__ = ("_at", "_extents", "_feed", "_stored", "left")

    def __init__(self, feed: Feed, extents: list[tuple[int, int]], size: int, stored: int) -> None:
        self._feed = feed
        self._extents = extents[::-1]
        self._stored = stored
        self._at = 0
        self.left = size

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, or all that is left."""
        if size < 0:
            pieces = []
            while self.left:
                pieces.append(self.read(CHUNK))
            return b"".join(pieces)
        while self._extents and sum(self._extents[-1]) <= self._at:
            self._extents.pop()
        size = min(size, self.left, CHUNK)
        if self._extents:
            start, length = self._extents[-1]
            if start <= self._at:
                data = self._feed.some(min(size, start + length - self._at)) if size else b""
                self._stored -= len(data)
            else:
                data = bytes(min(size, start - self._at))
        else:
            data = bytes(size)
        self._at += len(data)
        self.left -= len(data)
        return data

    def drain(self) -> None:
        """Pass over the stored bytes that are left."""
        self._feed.skip(self._stored)
        self._stored = self.left = 0


def open_body(block: bytes, header: th.Header, pax: dict[str, bytes], feed: Feed, stored: int) -> SparseBody:
    """A reader of the sparse file that the header and its pax records describe."""
    if header.type == th.GNU_SPARSE:
        extents, size = _read_old_map(block, feed)
    elif pax.get("GNU.sparse.major") == b"1":
        size = th.pax_number("GNU.sparse.realsize", pax.get("GNU.sparse.realsize", b""))
        extents, used = _read_map_1(feed, stored)
        stored -= used
    else:
        size = th.pax_number("GNU.sparse.size", pax.get("GNU.sparse.size", b""))
        numbers = [
            th.pax_number("GNU.sparse.map", n) for n in pax.get("GNU.sparse.map", b"").split(b",") if n
        ]
        extents = _pairs(numbers)
    _check(extents, size, stored, header.name)
    return SparseBody(feed, extents, size, stored)


def _check(extents: list[tuple[int, int]], size: int, stored: int, name: bytes) -> None:
    at = total = 0
    for start, length in extents:
        if start < at or length < 0:
            raise th.damaged(f"the sparse map of {th.shown(name)}")
        at = start + length
        total += length
    if not 0 <= at <= size <= th.MAX_SIZE or total != stored:
        raise th.damaged(f"the sparse map of {th.shown(name)}")


def _pairs(numbers: list[int]) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise th.damaged("a sparse map")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _read_old_map(block: bytes, feed: Feed) -> tuple[list[tuple[int, int]], int]:
    """The map in a GNU header and the blocks after it, and the real size."""
    extents = _old_extents(block[386:482])
    size = th.number(block[483:495])
    more = block[482]
    while more:
        block = feed.exactly(th.BLOCK)
        extents += _old_extents(block[:504])
        more = block[504]
        if len(extents) > MAX_EXTENTS:
            raise th.damaged("a sparse map is too large")
    return extents, size


def _old_extents(field: bytes) -> list[tuple[int, int]]:
    extents = []
    for at in range(0, len(field), 24):
        if not field[at]:
            break
        extents.append((th.number(field[at : at + 12]), th.number(field[at + 12 : at + 24])))
    return extents


def _read_map_1(feed: Feed, stored: int) -> tuple[list[tuple[int, int]], int]:
    """The map of format 1.0, lines of numbers before the data in whole blocks; and the bytes it took."""
    rest, used = b"", 0
    numbers: list[int] = []
    wanted = 1
    while len(numbers) < wanted:
        if used >= min(stored, th.MAX_RECORD) or len(rest) > th.BLOCK:
            raise th.damaged("a sparse map is too large")
        *lines, rest = (rest + feed.exactly(th.BLOCK)).split(b"\n")
        used += th.BLOCK
        for line in lines[: wanted - len(numbers)] if numbers else lines[:1]:
            numbers.append(th.pax_number("sparse map", line))
        if wanted == 1 and numbers:
            if not 0 <= numbers[0] <= MAX_EXTENTS:
                raise th.damaged("a sparse map is too large")
            wanted += 2 * numbers[0]
            numbers += [th.pax_number("sparse map", line) for line in lines[1:wanted]]
    return _pairs(numbers[1:]), used
