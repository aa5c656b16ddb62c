"""A build's folder of cgroups, the leaves of its steps in it, and what is left of builds that died.

    <where the build may>/pybuild.steps-<random>/<number>   in each hierarchy; a leaf for each step

The one idea: a build holds a lock (flock(2)) on its folders, which the kernel lets go of however the build
ends. So a folder whose lock can be had is a dead one's, whoever made it, and in whatever PID namespace; it is
emptied and removed. Maker and sweeper may meet at any point: a maker whose folder is gone makes another.

A step makes its leaf itself (`cgroups.join`); when it is over, what it used is read here, and the leaf
removed. A cgroup cannot be removed while a process in it is ending, so that is tried again for a while.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterable, Sequence

from builder.runtime.cgroups import PROCESSES, make, read, write
from builder.value import Value

PREFIX = "pybuild.steps-"
_PATIENCE = 5.0  # seconds that a killed process may take to be gone
_ATTEMPTS = 20
_GONE = (errno.ENOENT, errno.ENODEV)


class Usage(Value):
    """What a step used: peak of memory, bytes read from and written to disks, CPU time in seconds.

    out_of_memory: processes that the kernel killed for that; forks_refused: times that the limit of
    processes was met.
    """

    memory: int = 0
    cpu: float = 0.0
    read: int = 0
    written: int = 0
    out_of_memory: int = 0
    forks_refused: int = 0


class BuildFolders:
    """A build's locked folder in each hierarchy. `name` is what they are called."""

    def __init__(self, name: str, folders: Sequence[str], locks: Sequence[int]) -> None:
        self.name = name
        self.folders = tuple(folders)
        self._locks = list(locks)

    @classmethod
    def make(cls, parents: Sequence[str], *, inherits: Iterable[str] = ()) -> BuildFolders:
        """Make one in each parent; `inherits`: those of which `cgroups.inherits` says so. Raises OSError."""
        for _ in range(_ATTEMPTS):
            name = f"{PREFIX}{os.urandom(6).hex()}"
            made: list[str] = []
            locks: list[int] = []
            try:
                for parent in parents:
                    folder = f"{parent}/{name}"
                    make(folder, inherits=parent in inherits)
                    made.append(folder)
                    locks.append(_hold(folder))
                return cls(name, made, locks)
            except (BlockingIOError, FileNotFoundError):  # a sweeper was faster
                _give_up(made, locks)
            except OSError:
                _give_up(made, locks)
                raise
        raise FileNotFoundError(errno.ENOENT, "it is removed again and again")

    def leaf(self, name: str) -> Leaf:
        """The leaf of a step."""
        return Leaf([f"{folder}/{name}" for folder in self.folders])

    def remove(self) -> None:
        """Remove them with all leaves, and let go; again is no error. What cannot be removed is left to a
        sweep."""
        locks, self._locks = self._locks, []
        if locks:
            _remove_trees(self.folders)
        for lock in locks:
            os.close(lock)


class Leaf:
    """One step's cgroup, in each hierarchy that has it."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = folders

    def usage(self) -> Usage:
        """What was used there."""
        found = [_usage_of(folder) for folder in self._folders]
        return Usage(
            memory=max((usage.memory for usage in found), default=0),
            cpu=max((usage.cpu for usage in found), default=0.0),
            read=max((usage.read for usage in found), default=0),
            written=max((usage.written for usage in found), default=0),
            out_of_memory=max((usage.out_of_memory for usage in found), default=0),
            forks_refused=max((usage.forks_refused for usage in found), default=0),
        )

    def remove(self) -> None:
        """Kill what is left there, and remove it. What cannot be removed is left to the build's end."""
        _remove_trees(self._folders)


def sweep(parents: Iterable[str]) -> None:
    """Remove what dead builds left in these folders."""
    for parent in parents:
        with contextlib.suppress(OSError):
            for name in os.listdir(parent):
                if name.startswith(PREFIX):
                    sweep_folder(f"{parent}/{name}")


def sweep_folder(folder: str) -> bool:
    """Remove a build's folder if that is dead; whether it is gone."""
    if not os.path.basename(folder).startswith(PREFIX):
        return True
    try:
        lock = _hold(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        _remove_trees([folder])
        return not os.path.exists(folder)
    finally:
        os.close(lock)


def _hold(folder: str) -> int:
    """The lock of a folder that still has its name; raises BlockingIOError where another has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            raise BlockingIOError(errno.EAGAIN, "it is another one now")
    except FileNotFoundError as error:
        os.close(descriptor)
        raise BlockingIOError(errno.EAGAIN, "it is gone") from error
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _give_up(made: Iterable[str], locks: Iterable[int]) -> None:
    for folder in made:
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    for lock in locks:
        os.close(lock)


def _remove_trees(folders: Sequence[str]) -> None:
    """Kill all that is in these cgroups, and remove them, deepest first."""
    left = [folder for folder in folders if not _removed(folder)]
    deadline, pause = time.monotonic() + _PATIENCE, 0.001
    while left and time.monotonic() < deadline:
        _kill([cgroup for folder in left for cgroup in _tree(folder)])
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
        left = [folder for folder in left if _remove_tree(folder)]


def _remove_tree(folder: str) -> bool:
    """Remove what can be; whether something is left."""
    removed = [_removed(cgroup) for cgroup in _tree(folder)]
    return not all(removed)


def _tree(folder: str) -> list[str]:
    """A cgroup and those below it, deepest first."""
    return [path for path, _, _ in os.walk(folder, topdown=False)]


def _removed(cgroup: str) -> bool:
    try:
        os.rmdir(cgroup)
    except OSError as error:
        return error.errno in _GONE
    return True


def _kill(cgroups: Sequence[str]) -> None:
    """Kill every process there: by the kernel where it can, else one by one while they are frozen."""
    for cgroup in cgroups:
        with contextlib.suppress(OSError):
            write(cgroup, "cgroup.kill", "1")
        with contextlib.suppress(OSError):
            write(cgroup, "freezer.state", "FROZEN")
    for pid in {pid for cgroup in cgroups for pid in _processes(cgroup)}:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    for cgroup in cgroups:
        with contextlib.suppress(OSError):
            write(cgroup, "freezer.state", "THAWED")


def _processes(cgroup: str) -> list[int]:
    """The pids in a cgroup, but for those that are not seen from this PID namespace."""
    return [int(pid) for pid in read(cgroup, PROCESSES).split() if int(pid) not in (0, os.getpid())]


def _usage_of(folder: str) -> Usage:
    """What one hierarchy tells, of either version."""
    stat, io = _table(read(folder, "cpu.stat")), read(folder, "io.stat")
    peak = read(folder, "memory.peak") or read(folder, "memory.max_usage_in_bytes")
    nanoseconds = read(folder, "cpuacct.usage")
    events = _table(read(folder, "memory.events")) or _table(read(folder, "memory.oom_control"))
    bytes_read, written = _disk_bytes(folder) if not io else _io_bytes(io)
    return Usage(
        memory=_whole(peak),
        cpu=_whole(nanoseconds) / 1e9 if nanoseconds else stat.get("usage_usec", 0) / 1e6,
        read=bytes_read,
        written=written,
        out_of_memory=events.get("oom_kill", 0),
        forks_refused=_table(read(folder, "pids.events")).get("max", 0),
    )


def _table(text: str) -> dict[str, int]:
    """Lines of a name and a number."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: _whole(row[1]) for row in rows if len(row) == 2}


def _io_bytes(text: str) -> tuple[int, int]:
    """(read, written) of v2's io.stat: "8:0 rbytes=1 wbytes=2 ...", a line for each device."""
    fields = [field.partition("=") for field in text.split()]
    read_, written = (
        sum(_whole(value) for name, _, value in fields if name == wanted) for wanted in ("rbytes", "wbytes")
    )
    return read_, written


def _disk_bytes(folder: str) -> tuple[int, int]:
    """(read, written) of v1's blkio: "8:0 Read 1", a line for each device and direction."""
    text = read(folder, "blkio.throttle.io_service_bytes")
    rows = [line.split() for line in text.splitlines()]
    read_, written = (
        sum(_whole(row[2]) for row in rows if len(row) == 3 and row[1] == wanted)
        for wanted in ("Read", "Write")
    )
    return read_, written


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
