"""The copy of a context that a bench builds from: the user's folder is read, and nothing of it is touched.

What the ignore file leaves out is not copied, but for the Dockerfile and the ignore files themselves. Bytes
are shared with the originals where the file system can (a reflink): a hard link would change an original's
ctime, by which builds know files again. A part is changed by a line at the end of a file, which is put back.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.errors import BuildError, reason_of
from builder.fs.copy import copy_file
from builder.snapshots.snapshot import FIFO, FILE, FOLDER, SYMLINK

if TYPE_CHECKING:
    from builder.snapshots.snapshot import Entry

SPARE = 512 << 20  # bytes that a build should have beside the copy
LOOKED_AT = 8192


def copy_context(source: str, target: str, entries: Iterable[Entry], further: Iterable[str]) -> None:
    """Copy these entries of a folder, and further files of it by their paths. Raises BuildError."""
    entries = list(entries)
    _check_room(source, target, sum(entry.size for entry in entries if entry.kind == FILE))
    folders: list[tuple[str, os.stat_result]] = []
    try:
        os.makedirs(target, 0o755, exist_ok=True)
        for entry in entries:
            there = os.path.join(target, entry.path)
            here = os.path.join(source, entry.path)
            if entry.kind == FOLDER:
                os.makedirs(there, exist_ok=True)
                folders.append((there, os.stat(here, follow_symlinks=False)))
            elif entry.kind == FILE:
                _copy(here, there)
            elif entry.kind == SYMLINK:
                os.symlink(entry.link, there)
            elif entry.kind == FIFO:
                os.mkfifo(there)
        for path in further:
            there = os.path.join(target, path)
            if not os.path.lexists(there) and os.path.isfile(os.path.join(source, path)):
                os.makedirs(os.path.dirname(there), exist_ok=True)
                _copy(os.path.realpath(os.path.join(source, path)), there)
        for there, status in reversed(folders):
            os.chmod(there, stat.S_IMODE(status.st_mode))
            os.utime(there, ns=(status.st_atime_ns, status.st_mtime_ns))
    except OSError as error:
        raise BuildError(f"the context cannot be copied: {reason_of(error)}", code="bench-copy") from error


def _check_room(source: str, target: str, size: int) -> None:
    free = shutil.disk_usage(os.path.dirname(target)).free
    if size + SPARE > free:
        raise BuildError(
            f"the context has {size >> 20} MiB, and there is no room for a copy: {free >> 20} MiB are free",
            code="bench-room",
            hint="leave out more by .dockerignore, or use --dry-run, which builds nothing",
        )


def _copy(here: str, there: str) -> None:
    """Copy a file with its mode and time; whoever is in the way, a link is not followed."""
    fd = os.open(here, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        new = os.open(there, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            copy_file(fd, new)
            os.fchmod(new, stat.S_IMODE(status.st_mode))
            os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(new)
    finally:
        os.close(fd)


def is_text(path: str) -> bool:
    """Whether a file begins like text, so that a line more does no harm."""
    try:
        with open(path, "rb") as file:
            data = file.read(LOOKED_AT)
        data.decode("utf-8")
    except OSError:
        return False
    except UnicodeDecodeError as error:
        return error.start > len(data) - 4 and b"\0" not in data
    return b"\0" not in data


@contextmanager
def changed(path: str, serial: int) -> Iterator[None]:
    """A file of the copy with `serial` lines more (of another file, bytes), while the block lasts."""
    status = os.stat(path)
    with open(path, "rb") as file:
        before = file.read()
    end = b"\n" if is_text(path) else b"\0"
    try:
        _put(path, before + end * serial, status, None)
        yield
    finally:
        _put(path, before, status, status.st_mtime_ns)


def _put(path: str, data: bytes, status: os.stat_result, mtime: int | None) -> None:
    """Put another file of the same mode in its place."""
    temporary = path + ".bench"
    with open(temporary, "wb") as file:
        file.write(data)
    os.chmod(temporary, stat.S_IMODE(status.st_mode))
    if mtime is not None:
        os.utime(temporary, ns=(mtime, mtime))
    os.rename(temporary, path)
