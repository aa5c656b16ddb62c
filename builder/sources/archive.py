"""Archives for ADD: a file that is a tar (compressed or not) becomes entries, its bytes spooled aside.

Reading stops at nothing foreign: the archive's own reader has limits, and nothing is extracted by name;
all bytes go, one after the other, into one unnamed file. What is no archive is told by None, and copied
as the file that it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from typing import TYPE_CHECKING, BinaryIO

from builder.digest import from_hex
from builder.errors import ImageError
from builder.oci import compression, tar, tar_header
from builder.oci.weight import Weight
from builder.snapshots.archive import Archive
from builder.snapshots.snapshot import FILE, Entry, LayerId
from builder.store.failure import told_as

if TYPE_CHECKING:
    from builder.fs.copy import Readable

CHUNK = 1 << 20
KEEPING = "keeping what an archive holds"


class Archives:
    """The archives of one ADD. Leaving the block drops what was spooled."""

    layer = LayerId("archive")

    def __init__(self, folder: str) -> None:
        """`folder` is where the unnamed file lies, on the store's own file system."""
        self._folder = folder
        self._spool: BinaryIO | None = None
        self._places: dict[int, tuple[int, int]] = {}
        self._kept: list[Entry] = []

    def __enter__(self) -> Archives:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spool is not None:
            with contextlib.suppress(OSError):  # what was not written yet is dropped with the rest
                self._spool.close()

    def read(self, file: BinaryIO, name: str) -> Archive | None:
        """What an open file of that name holds; None where it is no archive, or one without entries.

        Raises ImageError for an archive that begins well and is damaged later, StoreError where what it holds
        cannot be kept, and OSError where the file cannot be read.
        """
        if not is_archive(file):
            return None
        file.seek(0)
        entries = []
        unpacked = compression.open_reader(file)
        weight = Weight(lambda: unpacked.consumed)
        try:
            for entry, reader in tar.read(unpacked):
                weight.add(entry.path, len(entry.path) + len(entry.link))
                entries.append(self._spooled(entry, reader) if _has_bytes(entry) else entry)
        except ImageError as error:
            error.message = f"{name}: {error.message}"
            raise
        return Archive(self.layer, entries) if entries else None

    def open(self, entry: Entry) -> BinaryIO:
        """The bytes of an entry that `read` gave."""
        assert self._spool is not None
        start, size = self._places[id(entry)]
        return io.BufferedReader(_Part(self._spool.fileno(), start, size))

    def _spooled(self, entry: Entry, reader: Readable) -> Entry:
        if self._spool is None:
            import tempfile

            with told_as(self._folder, KEEPING):
                self._spool = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by __exit__
        start, sha = self._spool.tell(), hashlib.sha256()
        while data := reader.read(CHUNK):
            sha.update(data)
            with told_as(self._folder, KEEPING):
                self._spool.write(data)
        with told_as(self._folder, KEEPING):
            self._spool.flush()
        spooled = entry.replace(digest=from_hex(sha.hexdigest()))
        self._places[id(spooled)] = (start, self._spool.tell() - start)
        self._kept.append(spooled)  # so that no other entry gets its id
        return spooled


class _Part(io.RawIOBase):
    """A stretch of a file, read without moving anybody else's position."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        super().__init__()
        self._fd, self._at, self._end = fd, start, start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = os.pread(self._fd, min(len(view), self._end - self._at), self._at)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def is_archive(file: BinaryIO) -> bool:
    """Whether the file's first block, decompressed, is a tar header."""
    stream = compression.open_reader(file)
    try:
        block = stream.read(tar_header.BLOCK)
        while 0 < len(block) < tar_header.BLOCK and (more := stream.read(tar_header.BLOCK - len(block))):
            block += more
        if len(block) < tar_header.BLOCK or not any(block):
            return False
        tar_header.Header(block)
    except ImageError:
        return False
    return True


def _has_bytes(entry: Entry) -> bool:
    return entry.kind == FILE and entry.hardlink is None
