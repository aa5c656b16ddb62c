"""Bytes from one open file to another, by the cheapest way that the file systems know.

A reflink where they share blocks, else copy_file_range(2) along the source's data, else read and write.
Holes stay holes. Where somebody has to know the bytes (to hash them, or because they come out of an
archive) they pass through here too, and runs of zeros become holes.

Must never know: paths, owners, modes. The target is empty and its offset 0 when a copy starts.
"""

from __future__ import annotations

import errno
import hashlib
import os

from builder import stop
from builder.fs.syscalls import clone_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Readable(Protocol):
        """What gives bytes: up to `size` of them, b"" at the end."""

        def read(self, size: int = -1, /) -> bytes: ...


CHUNK = 1 << 18
STRETCH = 64 << 20  # what one copy_file_range may take on
_ZEROS = bytes(CHUNK)
_UNSUPPORTED = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def copy_file(source_fd: int, target_fd: int) -> int:
    """Copy all bytes of a regular file; the number of bytes (the target's size)."""
    size = os.fstat(source_fd).st_size
    if size == 0 or clone_file(source_fd, target_fd):
        return os.fstat(target_fd).st_size
    start = 0
    while start < size and (stretch := _data_from(source_fd, start, size)) is not None:
        start, end = stretch
        copied = _copy_range(source_fd, target_fd, start, end)
        start += copied
        if start < end:  # the source was cut while it was read
            size = start
    os.ftruncate(target_fd, size)
    return size


def copy_hashing(source: Readable, target_fd: int) -> tuple[str, int]:
    """Copy a stream to a file and hash it on the way: (64 hex digits of sha256, size)."""
    sha = hashlib.sha256()
    size = _write_all(source, target_fd, sha.update)
    return sha.hexdigest(), size


def copy_stream(source: Readable, target_fd: int) -> int:
    """Copy a stream to a file, zeros as holes; the size."""
    return _write_all(source, target_fd, None)


def _write_all(source: Readable, target_fd: int, update: Callable[[bytes], object] | None) -> int:
    size, hole = 0, False
    while chunk := source.read(CHUNK):
        stop.check()
        if update is not None:
            update(chunk)
        length = len(chunk)
        if length >= 4096 and chunk == _ZEROS[:length]:
            os.lseek(target_fd, length, os.SEEK_CUR)
            hole = True
        else:
            write_all(target_fd, chunk)
            hole = False
        size += length
    if hole:
        os.ftruncate(target_fd, size)
    return size


def write_all(fd: int, data: bytes) -> None:
    """write(2) until all is written."""
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])


def _data_from(fd: int, start: int, size: int) -> tuple[int, int] | None:
    """The next stretch that is no hole, as (start, end); None where only a hole follows."""
    try:
        begin = os.lseek(fd, start, os.SEEK_DATA)
        return begin, min(os.lseek(fd, begin, os.SEEK_HOLE), size)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return start, size
        raise


def _copy_range(source_fd: int, target_fd: int, start: int, end: int) -> int:
    """Copy one stretch to the same place; fewer bytes than asked for only at the source's end."""
    done = start
    try:
        while done < end:
            stop.check()
            count = os.copy_file_range(source_fd, target_fd, min(end - done, STRETCH), done, done)
            if count == 0:
                break
            done += count
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    # Some file systems answer 0 for files whose bytes they make up (copy_file_range(2), BUGS).
    while done < end and (chunk := os.pread(source_fd, min(CHUNK, end - done), done)):
        os.lseek(target_fd, done, os.SEEK_SET)
        write_all(target_fd, chunk)
        done += len(chunk)
    return done - start
