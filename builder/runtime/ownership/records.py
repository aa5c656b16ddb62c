"""The owners that files of a step pretend to have: on the files, and in memory for those that hold none.

On disk a record is what `fs.ownership` says. Symlinks, fifos, sockets, and files of a file system without
extended attributes have theirs in memory, by device, inode and time of birth (numbers are used again, and
then the birth is another: `_Young` sees to that). What the layers below know of such files comes with the
step (`below`) and is found by device and inode alone: those files do not go away while they are mounted, and
a copy that overlayfs makes of one keeps both.

Paths are of this process, which stands in the step's root (see `targets`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
import time
from collections import deque

from builder.fs.ownership import STAT_XATTR, Record, decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.libc import Exchange

_STATX_INO_AND_BIRTH = 0x100 | 0x800
_STATX_MOUNT = 0x1000
_NOTHING = Record(0, 0)
_WALK_AT_MOST = 2_000_000  # files of a root looked at for those that were moved
_TICK = 0.02  # seconds: the clock that files are born by goes on before (from Linux 6.13 on it is finer)
_YOUNG_AT_MOST = 256


class Records:
    """Reads and writes them. `below`: owners of symlinks and the like, by absolute path in the root."""

    def __init__(self, exchange: Exchange, below: Mapping[str, tuple[int, int]]) -> None:
        self._exchange = exchange
        self._made: dict[bytes, tuple[Record, str]] = {}  # by device, inode and birth
        self._below: dict[bytes, tuple[Record, str]] = {}  # by device and inode
        self._known: set[tuple[int, int]] = set()  # device and inode of what came with the step
        self._inodes: set[int] = set()  # of both: most files are not among them
        self._young = _Young(exchange)
        for path, (uid, gid) in below.items():
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found = self._identity(os.fsencode(path), follow=False)
                self._below[found[:16]] = Record(uid, gid), path
                status = os.lstat(path)
                self._known.add((status.st_dev, status.st_ino))
                self._inodes.add(int.from_bytes(found[:8], "little"))

    def of(self, path: bytes, *, follow: bool = True) -> Record | None:
        """The record of a file, or None: it is root's. Where the file is not there, None as well."""
        try:
            found = decode(os.getxattr(path, STAT_XATTR, follow_symlinks=follow))
        except OSError:
            found = None
        if found is not None or not self._inodes:
            return found
        try:
            status = os.stat(path, follow_symlinks=follow)
            if status.st_ino not in self._inodes:
                return None
            identity = self._identity(path, follow=follow)
        except OSError:
            return None
        kept = self._made.get(identity) or self._below.get(identity[:16])
        return None if kept is None else kept[0]

    def knows(self, status: os.stat_result) -> bool:
        """Whether the file's owner came with the step, wherever it lies."""
        return (status.st_dev, status.st_ino) in self._known

    def put(self, file: int, record: Record) -> None:
        """Write the record of an open file (O_PATH will do)."""
        path = b"self/fd/%d" % file
        mode = os.fstat(file).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            try:
                _write(path, record)
                return
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
        identity = self._identity(path, follow=True)
        if record == _NOTHING and identity[:16] not in self._below:
            self._made.pop(identity, None)
        else:
            self._young.keep(file)
            self._made[identity] = record, os.fsdecode(os.readlink(path))
            self._inodes.add(int.from_bytes(identity[:8], "little"))

    def _identity(self, path: bytes, *, follow: bool) -> bytes:
        raw = self._exchange.statx(path, 0 if follow else 0x100, _STATX_INO_AND_BIRTH)
        return raw[32:40] + raw[136:144] + raw[80:92]

    # --- at the step's end ---

    def final(self) -> dict[str, tuple[int, int]]:
        """Owners kept in memory, by the paths (relative to the root) that their files have now."""
        wanted = {identity: record for identity, (record, _) in self._made.items()}
        wanted |= {number: record for number, (record, _) in self._below.items()}
        found: dict[str, tuple[int, int]] = {}
        lost = False
        for _, path in (*self._below.values(), *self._made.values()):
            if path.startswith("/"):  # else a pipe or the like, which has no name
                lost |= not self._confirm(path, wanted, found)
        if lost:
            for path in _links_below("/"):
                self._confirm(path, wanted, found)
        return found

    def _confirm(self, path: str, wanted: Mapping[bytes, Record], found: dict[str, tuple[int, int]]) -> bool:
        """Take the file at `path` for one that has a record; False where it has none, or other names."""
        try:
            identity = self._identity(os.fsencode(path), follow=False)
            links = os.lstat(path).st_nlink
        except OSError:
            return False
        record = wanted.get(identity) or wanted.get(identity[:16])
        if record is None:
            return False
        found[path.lstrip("/")] = record.uid, record.gid
        return links == 1


class _Young:
    """Keeps files open for a tick of the clock that they were born by, or longer, till another is kept.

    A number is not used again while its file is open, also if that has no name any more. So no other file has
    both the number and the birth. Files of mounts other than the root's are left alone: a step may unmount.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._mount = self._mount_of(b"/")
        self._most = min(_YOUNG_AT_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._open: deque[tuple[float, int]] = deque()

    def keep(self, file: int) -> None:
        """Keep an open file's like. Blocking for a tick where too many are kept."""
        self._close_old()
        if len(self._open) >= self._most:
            time.sleep(_TICK)
            self._close_old()
        path = b"self/fd/%d" % file
        if self._mount_of(path) == self._mount:
            with contextlib.suppress(OSError):  # a limit of descriptors
                self._open.append((time.monotonic() + _TICK, os.open(path, os.O_PATH | os.O_CLOEXEC)))

    def _close_old(self) -> None:
        now = time.monotonic()
        while self._open and self._open[0][0] <= now:
            os.close(self._open.popleft()[1])

    def _mount_of(self, path: bytes) -> bytes:
        return self._exchange.statx(path, 0, _STATX_MOUNT)[144:152]


def _write(path: bytes, record: Record) -> None:
    if record != _NOTHING:
        os.setxattr(path, STAT_XATTR, record.encode())
        return
    try:
        os.removexattr(path, STAT_XATTR)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise


def _links_below(top: str) -> Iterator[str]:
    """What is neither file nor folder on the file system of `top`, by absolute path."""
    device, seen, folders = os.stat(top).st_dev, 0, [top]
    while folders and seen < _WALK_AT_MOST:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                seen += 1
                if not entry.is_dir(follow_symlinks=False):
                    if not entry.is_file(follow_symlinks=False):
                        yield entry.path
                elif entry.stat(follow_symlinks=False).st_dev == device:
                    folders.append(entry.path)
