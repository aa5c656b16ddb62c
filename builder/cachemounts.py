"""Cache mounts: folders of ROOT/cache/mounts that outlive builds, by id.

    ROOT/cache/mounts/<hash>/            the folder of the shared and locked modes
    ROOT/cache/mounts/<hash>.N/          further ones, for the private mode
    ROOT/cache/mounts/<hash>-mapped/, -recorded/    the same where owners are kept so (`fs.ownership`)
    ROOT/cache/mounts/<name>.lock        flock'ed exclusively (locked, private) or shared; it holds the
                                         cache's id, and its mtime is when the cache was last taken

The hash is of the cache's id and of what it starts with. A folder is filled and given its owner in
ROOT/ingest before it has its name, so that nobody sees half of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from builder.digest import hex_of, of_value
from builder.fs.ownership import REAL
from builder.fs.owning import Owning
from builder.fs.rooted import open_root, opened
from builder.store.ingest import IngestFolder

POLL_SECONDS = 0.05
MAX_ID = 1000  # bytes of an id that are noted
FRESH = (0o755, 0, 0)  # mode and owner of a cache of which nothing else is said


class Elsewhere(Protocol):
    """Where caches may come from that this store lacks."""

    async def bring(
        self, identity: str, start: Sequence[object], path: str, finish: Callable[[str], None]
    ) -> None:
        """Make a held folder that is missing what is elsewhere under this id, if anything is.

        finish: gives the new folder its owner and mode.
        """
        ...


def start_of(mode: int, uid: int, gid: int) -> list[object]:
    """What a cache starts with, as plain data, that is an empty folder; nothing for one of root's."""
    kind = (mode, uid, gid)
    return [] if kind == FRESH else list(kind)


class CacheMounts:
    """The cache mounts of a store, as far as their owners are kept as this process does."""

    def __init__(self, store: str) -> None:
        self.store = store
        self.folder = os.path.join(store, "cache", "mounts")
        self._ids: dict[str, str] = {}
        self.owning = Owning()

    def name(self, identity: str, start: Sequence[object]) -> str:
        """The name of the cache with this id that starts with that (plain data; nothing: an empty folder)."""
        name = hex_of(of_value(["cache-mount", identity, *start]))[:32]
        name = name if self.owning.way == REAL else f"{name}-{self.owning.way}"
        self._ids[name] = identity
        return name

    @contextlib.asynccontextmanager
    async def hold(self, name: str, sharing: str) -> AsyncIterator[str]:
        """The path of a cache's folder, held as its sharing says while the block lasts.

        Waits, without blocking the loop, while another step holds a locked cache. The folder may not be
        there yet: `make` makes it.
        """
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        if sharing == "private":
            name, lock = self._first_free(name)
        else:
            operation = fcntl.LOCK_EX if sharing == "locked" else fcntl.LOCK_SH
            while (lock := self._try_lock(name, operation)) < 0:  # noqa: ASYNC110 - maybe another process's
                await asyncio.sleep(POLL_SECONDS)
        try:
            yield os.path.join(self.folder, name)
        finally:
            os.close(lock)

    def _first_free(self, stem: str) -> tuple[str, int]:
        number = 0
        while True:
            name = stem if number == 0 else f"{stem}.{number}"
            lock = self._try_lock(name, fcntl.LOCK_EX)
            if lock >= 0:
                return name, lock
            number += 1

    def _try_lock(self, name: str, operation: int) -> int:
        """A descriptor that holds the lock; -1 where it is taken."""
        fd = os.open(os.path.join(self.folder, name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return -1
        if os.fstat(fd).st_size == 0:  # what it is a cache of, for people
            stem = name.partition(".")[0]
            os.write(fd, self._ids.get(stem, "").encode("utf-8", "surrogateescape")[:MAX_ID])
        os.utime(fd)  # its last use, for who makes room
        return fd

    def make(self, path: str, fill: Callable[[str], None]) -> None:
        """Make a held folder where it is missing, its content, mode and owner by `fill`. Blocking."""
        if os.path.isdir(path):
            return
        with IngestFolder(self.store) as ingest:
            new = os.path.join(ingest.path, "cache")
            os.mkdir(new, 0o700)
            fill(new)
            self.put(new, path)

    def put(self, new: str, path: str) -> None:
        """Give a finished folder the name of a held one, unless that is there meanwhile. Blocking."""
        with opened(open_root(self.folder)) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)  # a rename would replace an empty folder that is in use
            if not os.path.isdir(path):
                os.rename(new, path)

    def give(self, folder: str, target: str, uid: int, gid: int, mode: int) -> None:
        """Give a new folder, to be mounted at `target`, its owner and mode. Raises BuildError, OSError."""
        with opened(open_root(folder)) as fd:
            self.owning.give(fd, target, uid, gid)
            os.fchmod(fd, mode)
