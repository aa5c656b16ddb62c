"""Which credentials a process believes to have: a number that the kernel itself hands down for us.

The one idea: children must have their parent's credentials, also where the parent is long gone, a daemon
has forked twice, or a number is used again by another process. Nobody outside sees that in time, but the
kernel does: a resource limit is inherited by fork(2), kept by execve(2), shared by threads, and can be
read and set from outside by prlimit(2). RLIMIT_LOCKS has had no meaning since Linux 2.4.25. So its soft
limit is the number of the process's credentials here; anything else is the step's first credentials.
The step itself never sees it (`Identity.getrlimit`).

Threads share credentials, as POSIX wants it and C libraries make it so: a program that gives one of its
threads an fsuid of its own gives it to all.
"""

from __future__ import annotations

import errno
import os
import resource
from collections import namedtuple

from builder.runtime.ownership.credentials import Credentials
from builder.runtime.ownership.rules import RLIMIT_LOCKS
from builder.runtime.ownership.targets import Unanswerable

TYPE_CHECKING = False

_FIRST = 1 << 40
_MOST = 1 << 16  # different credentials in one step


if TYPE_CHECKING:
    from typing import NamedTuple

    class _Pending(NamedTuple):
        """Of a process about to execute `program` (device, inode): `after` it has, and `before` that."""

        before: Credentials
        after: Credentials
        program: tuple[int, int]

else:
    _Pending = namedtuple("_Pending", "before after program")


class Lineage:
    """The credentials of a step's processes. `initial`: those of its first process."""

    def __init__(self, initial: Credentials) -> None:
        self.initial = initial
        self._by_number: dict[int, Credentials | _Pending] = {}
        self._numbers: dict[Credentials | _Pending, int] = {}

    def of(self, pid: int, name: bytes) -> Credentials:
        """Those of process `pid` (or of the process of that thread), which /proc calls `name`."""
        number = resource.prlimit(pid, RLIMIT_LOCKS)[0]
        if number < _FIRST:  # RLIM_INFINITY is -1
            return self.initial
        held = self._by_number.get(number)
        if held is None:
            return self.initial
        return self._settle(pid, name, held) if isinstance(held, _Pending) else held

    def set(self, pid: int, held: Credentials) -> None:
        """Give the process credentials. EAGAIN where a step has too many different ones."""
        self._mark(pid, held)

    def expect(self, pid: int, before: Credentials, after: Credentials, program: tuple[int, int]) -> None:
        """The process is about to execute `program` (device and inode), and becomes `after` with that."""
        self._mark(pid, _Pending(before, after, program))

    def _settle(self, pid: int, name: bytes, pending: _Pending) -> Credentials:
        status = os.stat(name + b"/exe")
        done = (status.st_dev, status.st_ino) == pending.program
        held = pending.after if done else pending.before
        self.set(pid, held)
        return held

    def _mark(self, pid: int, held: Credentials | _Pending) -> None:
        number = self._numbers.get(held)
        if number is None:
            if len(self._numbers) >= _MOST:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            number = self._numbers[held] = _FIRST + len(self._numbers)
            self._by_number[number] = held
        hard = resource.prlimit(pid, RLIMIT_LOCKS)[1]
        if hard not in (resource.RLIM_INFINITY, -1) and hard < number:
            raise Unanswerable(errno.EPERM, f"under a ulimit of {hard} locks")
        resource.prlimit(pid, RLIMIT_LOCKS, (number, hard))
