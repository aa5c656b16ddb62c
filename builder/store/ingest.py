"""Work in progress, in ROOT/ingest: folders that live as long as somebody holds their lock.

    ROOT/ingest/<pid>-<random>/lock    flock'ed while the folder is in use
    ROOT/ingest/<pid>-<random>/...     whatever its user makes there, to be renamed into place
    ROOT/ingest/<kind>-<pid>-<random>  a file on its way to its place, or a lease, flock'ed itself

A lock dies with its process, on every kind of death and across boots, so who is dead needs no clock and
no guess: a folder is alive exactly while its `lock` is held, a file while its own is. Sweeper and maker may
meet at any point, whatever PID namespaces they are in: the maker holds the lock of what still has its name,
or takes another name.

Must never know: what is being made. On the cached path.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from builder.store.failure import told_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

LOCK = "lock"


class IngestFolder:
    """A new folder under ROOT/ingest. Leaving the block removes what was not renamed away.

    `path` is its path as text, `name` its name in ROOT/ingest. Raises StoreError where it cannot be made.
    """

    __slots__ = ("_fd", "name", "path")

    def __init__(self, root: str | os.PathLike[str]) -> None:
        ingest = os.path.join(os.fspath(root), "ingest")
        with told_as(os.fspath(root), "making a folder to work in"):
            self.name, self._fd = _make_locked(ingest)
        self.path = os.path.join(ingest, self.name)

    def close(self) -> None:
        """Remove the folder and all that is left in it; more than once does no harm.

        What cannot be removed now is left to the next sweep.
        """
        if self._fd < 0:
            return
        try:
            with contextlib.suppress(OSError):
                _remove(self.path)
        finally:
            self.leave()

    def fileno(self) -> int:
        """The descriptor of its lock: whoever has a copy of it keeps the folder."""
        return self._fd

    def leave(self) -> None:
        """Leave the folder as it is to the next sweep."""
        fd, self._fd = self._fd, -1  # in this order: a signal may unwind this anywhere
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> IngestFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_file(root: str, kind: str) -> tuple[str, int]:
    """Make an empty file in ROOT/ingest: (path, descriptor for reading and writing).

    No sweep takes it as long as the descriptor is open. Raises OSError.
    """
    ingest = os.path.join(root, "ingest")
    while True:
        path = os.path.join(ingest, f"{kind}-{os.getpid()}-{os.urandom(8).hex()}")
        try:
            fd = _make_lock(path)
        except FileNotFoundError:
            os.makedirs(ingest, 0o700, exist_ok=True)
            continue
        if fd >= 0:
            return path, fd
        with contextlib.suppress(FileNotFoundError):  # who had its lock only looked whether it is alive
            os.unlink(path)


def sweep_ingest(root: str | os.PathLike[str]) -> int:
    """Remove what dead processes left in ROOT/ingest; the number of things removed."""
    ingest = os.path.join(os.fspath(root), "ingest")
    try:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in os.scandir(ingest)]
    except FileNotFoundError:
        return 0
    removed = 0
    for name, is_folder in entries:
        path = os.path.join(ingest, name)
        # Best effort: what is still mounted, or just being removed by its owner, waits for the next sweep.
        with contextlib.suppress(OSError):
            removed += _sweep_folder(path) if is_folder else _sweep_file(path, name)
    return removed


def count_left(root: str | os.PathLike[str]) -> int:
    """How many folders of dead processes are still in ROOT/ingest.

    After a sweep these are folders with files of users whom this process may not touch: made by root of a
    user namespace, who alone can remove them.
    """
    ingest = os.path.join(os.fspath(root), "ingest")
    try:
        folders = [entry.path for entry in os.scandir(ingest) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return 0
    return sum(_is_dead(folder) for folder in folders)


def _is_dead(folder: str) -> bool:
    try:
        fd = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return os.path.isdir(folder)
    except OSError:
        return False
    try:
        return _lock(fd)
    finally:
        os.close(fd)


def _make_locked(ingest: str) -> tuple[str, int]:
    """Make a folder and hold its lock: (name, descriptor of the lock)."""
    while True:
        name = f"{os.getpid()}-{os.urandom(8).hex()}"
        path = os.path.join(ingest, name)
        try:
            os.mkdir(path, 0o700)
        except FileNotFoundError:
            os.makedirs(ingest, 0o700, exist_ok=True)
            continue
        try:
            fd = _make_lock(os.path.join(path, LOCK))
        except (FileExistsError, FileNotFoundError):
            continue  # a sweeper was faster
        except OSError:
            with contextlib.suppress(OSError):
                os.rmdir(path)
            raise
        if fd >= 0:
            return name, fd


def _make_lock(path: str) -> int:
    """Make a lock's file and hold it; -1 where a sweeper did so first. On an error the file is not there."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if _lock(fd) and _is_named(fd, path):
            return fd
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.close(fd)
        raise
    os.close(fd)
    return -1


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_named(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def _sweep_folder(path: str) -> int:
    """Remove a folder if its lock can be had. A folder without a lock gets one, so a maker gives way."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(os.path.join(path, LOCK), flags, 0o600)
    try:
        if not _lock(fd):
            return 0
        _remove(path)
        return 1
    finally:
        os.close(fd)


def _sweep_file(path: str, name: str) -> int:
    """Remove a file named `…-<pid>-<random>` that nobody holds and whose process is gone.

    The second condition spares a maker of this PID namespace, that has not come to the lock, another name.
    """
    parts = name.split("-")
    if len(parts) < 3 or not parts[-2].isascii() or not parts[-2].isdigit() or _is_alive(int(parts[-2])):
        return 0
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not _lock(fd):
            return 0
        os.unlink(path)
        return 1
    finally:
        os.close(fd)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _remove(path: str) -> None:
    from builder.fs.remove import remove_tree

    remove_tree(path)
