"""Locks between processes: flock(2) on files of ROOT/locks that stay, so they die with their process.

The names, in the order in which one process may take them while it holds earlier ones:

    builds       shared by each build while it runs, exclusive while blobs are swept
    fetch-XYZ    one download per blob at a time (XYZ: the first hex digits of its digest)
    uses         shared by a build for the moment in which it notes what it uses (see store.leases), and by a
                 fully cached build as long as it lasts; exclusive while what nobody uses is taken away
    index        whoever changes index.json or the table of remembered references

No lock of the store is held while a RUN step runs, but the shared `builds`. On the cached path.
"""

from __future__ import annotations

import fcntl
import os

from builder.store.failure import store_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from builder.digest import Digest

BUILDS = "builds"
USES = "uses"
INDEX = "index"


def fetch_name(digest: Digest) -> str:
    """The lock of a blob's download. Few digests share one: they wait for each other, no more."""
    return "fetch-" + digest[7:10]


class Lock:
    """A held lock; leaving the block, or the process, lets go of it."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """Let go now; more than once does no harm."""
        fd, self._fd = self._fd, -1  # in this order: a signal may unwind this anywhere
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _take(root: str, name: str, operation: int) -> Lock | None:
    folder = os.path.join(root, "locks")
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            fd = os.open(os.path.join(folder, name), flags, 0o600)
        except FileNotFoundError:
            os.makedirs(folder, 0o700, exist_ok=True)
            fd = os.open(os.path.join(folder, name), flags, 0o600)
    except OSError as error:
        raise store_error(error, root, f"opening the lock {name}") from error
    try:
        fcntl.flock(fd, operation)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError as error:  # a file system without locks, or none left
        os.close(fd)
        raise store_error(error, root, f"taking the lock {name}") from error
    except BaseException:
        os.close(fd)
        raise
    return Lock(fd)


def exclusive(root: str, name: str) -> Lock:
    """Wait for the lock, then hold it alone."""
    lock = _take(root, name, fcntl.LOCK_EX)
    assert lock is not None  # a blocking flock never says EWOULDBLOCK
    return lock


def shared(root: str, name: str) -> Lock:
    """Wait until nobody holds the lock alone, then hold it with others."""
    lock = _take(root, name, fcntl.LOCK_SH)
    assert lock is not None
    return lock


def try_exclusive(root: str, name: str) -> Lock | None:
    """The lock, or None at once if somebody has it."""
    return _take(root, name, fcntl.LOCK_EX | fcntl.LOCK_NB)
