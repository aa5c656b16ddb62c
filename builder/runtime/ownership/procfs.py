"""A /proc for the supervisor: its own, or the one that is there, with other numbers for processes.

A listener names processes by the numbers of the supervisor's PID namespace. A new /proc of that namespace
has the same numbers; where mounting one is refused (inside containers that mask parts of theirs), the old
one must do, and the numbers are looked up in it. See proc(5), pidfd_open(2), pid_namespaces(7).
"""

from __future__ import annotations

import errno
import os

from builder import libc

PIDFD_THREAD = os.O_EXCL


def open_proc() -> tuple[int, bool]:
    """(descriptor of a /proc, whether its numbers are foreign)."""
    try:
        configuration = libc.fsopen("proc")
        try:
            libc.fsconfig_create(configuration)
            return libc.fsmount(configuration), False
        finally:
            os.close(configuration)
    except OSError:  # refused, or a kernel without fsopen(2) for it
        return os.open("/proc", os.O_RDONLY | os.O_DIRECTORY), True


def foreign_number(pid: int) -> int:
    """The number that the /proc of the working folder has for our `pid`; ESRCH where it is gone."""
    try:
        pidfd = os.pidfd_open(pid, PIDFD_THREAD)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 6.9
            raise
        return _search(pid)
    try:
        with open(f"self/fdinfo/{pidfd}", "rb") as file:
            for line in file:
                if line.startswith(b"Pid:"):
                    return int(line[4:])
    finally:
        os.close(pidfd)
    raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))


def _search(pid: int) -> int:
    """By the numbers that each thread says to have in the namespaces below."""
    level = len(_numbers("self")) - 1
    for process in os.listdir("."):
        if not process.isdigit():
            continue
        try:
            for thread in os.listdir(f"{process}/task"):
                numbers = _numbers(f"{process}/task/{thread}")
                if len(numbers) > level and numbers[level] == pid:
                    return int(thread)
        except (FileNotFoundError, ProcessLookupError):
            continue
    raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))


def _numbers(folder: str) -> list[int]:
    with open(f"{folder}/status", "rb") as file:
        for line in file:
            if line.startswith(b"NSpid:"):
                return [int(number) for number in line.split()[1:]]
    return []
