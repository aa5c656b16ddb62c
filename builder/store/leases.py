"""What running builds use, told to who would remove it.

    ROOT/ingest/lease-<pid>-<random>    one per build, flock'ed as long as it lives: a line for each layer or
                                        blob (its id, its digest) that the build made, or found there

A build writes a name down before it looks whether the thing is there, holding the lock `uses` shared. Who
removes holds `uses` alone, while it reads the leases and renames things away. So a thing is either gone
before the build looks, or it stays until the build has ended. The lock is held for a moment only, whatever
runs: a store that is never idle can be tidied all the same.

A build that cannot write (the disk is full) keeps the lock until it ends: then nothing is removed. A build
that finds everything in the cache, and is over in a moment, holds the lock instead of a lease. A lease dies
with its process (see store.ingest). Must never know: what a layer or a blob is. Loaded only by builds that
do something.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from _thread import allocate_lock
from typing import TYPE_CHECKING

from builder.store import locks
from builder.store.failure import told_as
from builder.store.ingest import make_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from builder.store.locks import Lock
    from builder.store.root import Store

KIND = "lease"
_PATIENCE = 100  # attempts to have the lock alone,
_PAUSE = 0.05  # this many seconds apart


class Lease:
    """What one build uses, of the store at `root`. Leaving the block gives all of it up. For threads, too."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._guard = allocate_lock()
        self._held: set[str] = set()
        self._stuck: Lock | None = None
        with told_as(root, "noting what this build uses"):
            self._path, self._fd = make_file(root, KIND)

    def hold(self, names: Iterable[str]) -> None:
        """Keep these from being removed, as far as they are there: look after this. Raises StoreError."""
        new = [name for name in names if name not in self._held]
        if not new:
            return
        data = "".join(f"{name}\n" for name in new).encode("ascii")
        with self._guard:
            if self._fd < 0 or self._stuck is not None:
                return
            lock = locks.shared(self._root, locks.USES)
            try:
                written = os.write(self._fd, data)
            except OSError:
                written = -1
            if written == len(data):
                self._held.update(new)
                lock.release()
            else:
                self._stuck = lock

    def close(self) -> None:
        """Give all of it up; more than once does no harm."""
        with self._guard:
            if self._fd < 0:
                return
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            fd, self._fd = self._fd, -1
            os.close(fd)
            if self._stuck is not None:
                self._stuck.release()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def leased(store: Store) -> Iterator[None]:
    """A block in which what is found or made in this opened store is not removed by others."""
    with Lease(store.folder) as lease:
        store.blobs.lease = lease
        try:
            yield
        finally:
            store.blobs.lease = None


def held_by_builds(root: str) -> set[str]:
    """The names that living builds hold, this process's too. To be asked while `uses` is held alone."""
    ingest = os.path.join(root, "ingest")
    try:
        names = [name for name in os.listdir(ingest) if name.startswith(f"{KIND}-")]
    except FileNotFoundError:
        return set()
    held: set[str] = set()
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            held.update(_read(os.path.join(ingest, name)))
    return held


def _read(path: str) -> list[str]:
    """The lines of a lease that is alive, else nothing."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(fd, "rb") as file:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().decode("ascii", "replace").splitlines()
    return []


def try_alone(root: str) -> Lock | None:
    """The lock `uses`, held alone; None if builds that hold it longer than a moment do not let go of it."""
    import time

    for _ in range(_PATIENCE):
        lock = locks.try_exclusive(root, locks.USES)
        if lock is not None:
            return lock
        time.sleep(_PAUSE)
    return None
