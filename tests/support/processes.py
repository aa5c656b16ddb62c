"""The machine's processes as /proc shows them (proc(5)): any of them may end between two looks."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path


def descendants(pid: int | None = None, *, dead: bool = False) -> set[int]:
    """All living processes below one, which is this one if none is named; and the dead that nobody has
    looked at."""
    parents = {number: parent for number, state, parent in _states() if dead or state not in "ZX"}
    found, new = set[int](), {pid or os.getpid()}
    while new:
        new = {number for number, parent in parents.items() if parent in new} - found
        found |= new
    return found


def children(pid: int | None = None) -> set[int]:
    """The living processes that have one, or this one, as their parent."""
    return {
        number for number, state, parent in _states() if state not in "ZX" and parent == (pid or os.getpid())
    }


def dead_children() -> set[int]:
    """The children of this one that have ended and wait to be looked at."""
    return {number for number, state, parent in _states() if state == "Z" and parent == os.getpid()}


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is none that only waits to be looked at."""
    state, _ = _state(pid) or ("X", 0)
    return state not in "ZX"


def comm(pid: int) -> str:
    """What the kernel calls it, up to 15 bytes; "" if it is gone."""
    return _read(pid, "comm").decode(errors="replace").rstrip("\n")


def argv(pid: int) -> list[bytes]:
    """Its command line; [] if it is gone, or has none (as the kernel's own and the dead)."""
    return _read(pid, "cmdline").split(b"\0")[:-1]


def command_line(pid: int) -> str:
    """Its number and command line, to be shown."""
    return f"{pid} " + (b" ".join(argv(pid)).decode(errors="replace").strip() or "(gone)")


def status(pid: int) -> dict[str, str]:
    """The fields of its status; {} if it is gone."""
    lines = _read(pid, "status").decode(errors="replace").splitlines()
    return {field: value.strip() for field, _, value in (line.partition(":") for line in lines)}


def mounts(pid: int) -> str:
    """Its mounts; "" if it is gone."""
    return _read(pid, "mountinfo").decode(errors="replace")


def open_files(pid: int) -> int:
    """How many descriptors it has open; 0 if it is gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def running(first: bytes, *others: bytes) -> list[int]:
    """The processes of exactly this command line."""
    return [pid for pid in numbers() if argv(pid) == [first, *others]]


def numbers() -> list[int]:
    """The ids of all processes."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _states() -> Iterator[tuple[int, str, int]]:
    for pid in numbers():
        if (found := _state(pid)) is not None:
            yield pid, *found


def _state(pid: int) -> tuple[str, int] | None:
    """(its state, its parent); None if it is gone."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return (fields[0].decode(), int(fields[1])) if fields else None


def _read(pid: int, file: str) -> bytes:
    """A file of /proc/PID; b"" if the process is gone, which may show at the opening and at the reading."""
    try:
        return Path("/proc", str(pid), file).read_bytes()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESRCH, errno.EINVAL):  # the last: of mounts of the dead
            raise
        return b""
