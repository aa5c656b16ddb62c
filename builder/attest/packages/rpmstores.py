"""The three databases that rpm keeps headers in, read without rpm: SQLite, ndb (SUSE) and Berkeley DB hashes.

Their files are untrusted: every offset is checked, SQLite is opened read-only with a limit of work and its
schema not trusted, and a chain of pages that turns round ends.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from builder.attest.packages.package import Unreadable

MAX_DATABASE = 1 << 30  # bytes
MAX_SQLITE = 96 << 20  # bytes, as it is held in memory, and twice for a moment
MAX_HEADER = 32 << 20  # bytes of one package's
WORK = 200_000_000  # steps of SQLite's machine
PAGE = 4096

NDB_MAGIC, NDB_SLOT, NDB_BLOB = b"RpmP", b"Slot", b"BlbS"
NDB_BLOCK = 16

SQLITE_FORMS = slice(18, 20)  # of its header: 2 and 2 for a database with a write-ahead log
SQLITE_PLAIN = b"\1\1"

BDB_HASH = 0x00061561
BDB_INLINE, BDB_OFFPAGE, BDB_HASH_PAGES, BDB_OVERFLOW = 1, 3, (2, 13), 7
BDB_SMALLEST = 16  # bytes; of a header that is one
BDB_HEAD = 26  # bytes of a page's header


def read_sqlite(file: BinaryIO) -> Iterator[bytes]:
    """The headers in rpmdb.sqlite. Raises Unreadable.

    It is held in memory: SQLite opens files by their names, and makes others beside them.
    """
    try:
        import sqlite3
    except ImportError as error:
        raise Unreadable("this Python has no sqlite3") from error

    data = bytearray(file.read(MAX_SQLITE + 1))
    if len(data) > MAX_SQLITE:
        raise Unreadable(f"it has more than {MAX_SQLITE >> 20} MiB")
    data[SQLITE_FORMS] = SQLITE_PLAIN
    connection = sqlite3.connect(":memory:")
    try:
        connection.deserialize(data)
        data.clear()
        connection.set_progress_handler(_Work(), _Work.STEP)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_HEADER)
        connection.execute("PRAGMA trusted_schema=OFF")
        kinds = connection.execute("SELECT type FROM sqlite_master WHERE name = 'Packages'").fetchall()
        if kinds != [("table",)]:
            raise Unreadable("it has no table of packages")
        for (blob,) in connection.execute("SELECT blob FROM Packages ORDER BY hnum"):
            if isinstance(blob, bytes):
                yield blob
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise Unreadable(f"it is damaged: {error}") from error
    finally:
        connection.close()


class _Work:
    """Counts what SQLite does, and ends it where that is too much."""

    STEP = 10_000

    def __init__(self) -> None:
        self.done = 0

    def __call__(self) -> int:
        self.done += self.STEP
        return int(self.done > WORK)


def read_ndb(file: BinaryIO) -> Iterator[bytes]:
    """The headers in Packages.db: slots that name blobs of 16-byte blocks. Raises Unreadable."""
    head = file.read(2 * NDB_BLOCK)
    if len(head) < 2 * NDB_BLOCK or head[:4] != NDB_MAGIC:
        raise Unreadable("it is no ndb database")
    version, _, pages = struct.unpack_from("<III", head, 4)
    if version != 0 or pages > MAX_DATABASE // PAGE:
        raise Unreadable("it is an ndb database of an unknown form")
    slots = file.read(pages * PAGE - len(head))
    for place in range(0, len(slots) - NDB_BLOCK + 1, NDB_BLOCK):
        magic, package, block, _ = struct.unpack_from("<4sIII", slots, place)
        if magic != NDB_SLOT:
            raise Unreadable("it is damaged: a slot is none")
        if package and block:
            yield _ndb_blob(file, package, block * NDB_BLOCK)


def _ndb_blob(file: BinaryIO, package: int, offset: int) -> bytes:
    file.seek(offset)
    head = file.read(NDB_BLOCK)
    if len(head) == NDB_BLOCK:
        magic, owner, _, size = struct.unpack("<4sIII", head)
        if magic == NDB_BLOB and owner == package and size <= MAX_HEADER:
            data = file.read(size)
            if len(data) == size:
                return data
    raise Unreadable("it is damaged: a package is not where it should be")


def read_bdb(file: BinaryIO) -> Iterator[bytes]:
    """The headers in Packages, a hash of Berkeley DB: values on overflow pages. Raises Unreadable."""
    head = file.read(512)
    if len(head) < 72:
        raise Unreadable("it is no Berkeley DB")
    order = next((mark for mark in "<>" if struct.unpack_from(mark + "I", head, 12)[0] == BDB_HASH), None)
    if order is None:
        raise Unreadable("it is no hash of Berkeley DB")
    (size,) = struct.unpack_from(order + "I", head, 20)
    (last,) = struct.unpack_from(order + "I", head, 32)
    if head[24]:
        raise Unreadable("it is encrypted")
    if size not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536) or last > MAX_DATABASE // size:
        raise Unreadable("it is damaged: its pages have an impossible size")
    yield from _Bdb(file, order, size, last).values()


class _Bdb:
    def __init__(self, file: BinaryIO, order: str, size: int, last: int) -> None:
        self.file = file
        self.order = order
        self.size = size
        self.last = last

    def values(self) -> Iterator[bytes]:
        """What can be headers: all values but rpm's own counter."""
        for number in range(1, self.last + 1):
            page = self._page(number)
            if page[25] not in BDB_HASH_PAGES:
                continue
            count, _ = struct.unpack_from(self.order + "HH", page, 20)
            if BDB_HEAD + 2 * count > self.size:
                raise Unreadable("it is damaged: a page has too many entries")
            places = struct.unpack_from(f"{self.order}{count}H", page, BDB_HEAD)
            for key, place in zip(places[::2], places[1::2], strict=False):  # items grow down from the end
                if place + 12 <= self.size and page[place] == BDB_OFFPAGE:
                    first, length = struct.unpack_from(self.order + "II", page, place + 4)
                    yield self._overflow(first, length)
                elif place + BDB_SMALLEST < key <= self.size and page[place] == BDB_INLINE:
                    yield page[place + 1 : key]

    def _overflow(self, number: int, length: int) -> bytes:
        if length > min(MAX_HEADER, self.last * self.size):
            raise Unreadable("it is damaged: a package is larger than all its pages")
        parts, got = [], 0
        while got < length:
            page = self._page(number)
            (used,) = struct.unpack_from(self.order + "H", page, 22)
            if page[25] != BDB_OVERFLOW or not 0 < used <= self.size - BDB_HEAD:
                raise Unreadable("it is damaged: a package is not where it should be")
            parts.append(page[BDB_HEAD : BDB_HEAD + used])
            got += used
            (number,) = struct.unpack_from(self.order + "I", page, 16)
        return b"".join(parts)[:length]

    def _page(self, number: int) -> bytes:
        if not 0 < number <= self.last:
            raise Unreadable("it is damaged: it names a page that is not there")
        self.file.seek(number * self.size)
        page = self.file.read(self.size)
        if len(page) < self.size:
            raise Unreadable("it is cut short")
        return page


# The files that databases are in, in the order in which rpm came to prefer them.
READERS: dict[str, Callable[[BinaryIO], Iterator[bytes]]] = {
    "rpmdb.sqlite": read_sqlite,
    "Packages.db": read_ndb,
    "Packages": read_bdb,
}
