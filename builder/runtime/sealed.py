"""A copy of this Python's executable that no container can write to: the same file, on a read-only mount.

A command named /proc/self/exe, or a script whose interpreter that is, makes the kernel execute the
program that is about to be replaced: ours, the host's Python, with the container's libraries in it. A
process of the container then holds the host's file, and as root could change its mode, its attributes
or its bytes (CVE-2019-5736). So every process that turns into a container's command was itself started
from a detached read-only clone of the mount that the executable lies on; what it can reach is read-only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys

from builder import libc

FLAGS = ("-I", "-S", "-X", "utf8")  # isolated, without site-packages; C.UTF-8 whatever the environment


def is_sealed() -> bool:
    """Whether this process was started from a read-only mount."""
    program = os.open("/proc/self/exe", os.O_PATH)
    try:
        return bool(os.fstatvfs(program).f_flag & os.ST_RDONLY)
    finally:
        os.close(program)


def open_program() -> tuple[int, str]:
    """(descriptor >= 10 of this executable on a read-only mount, its path). Needs CAP_SYS_ADMIN."""
    wanted = os.stat("/proc/self/exe")
    for path in _paths():
        for folder, rest in (("/", path[1:]), os.path.split(path)):
            program = _find(folder, rest, wanted)
            if program is not None:
                return program, path
    raise FileNotFoundError(2, "cannot find this Python's executable", sys.executable)


def _paths() -> list[str]:
    """Where the executable may lie. Who has entered a mount namespace since its start is told by /proc only
    the path below the mount, which is another one where that mount is not "/"."""
    return [*dict.fromkeys((os.readlink("/proc/self/exe"), os.path.realpath(sys.executable)))]


def _find(folder: str, rest: str, wanted: os.stat_result) -> int | None:
    """A descriptor of the file on a read-only clone of the folder's mount; None where it is not there."""
    tree = -1
    try:
        tree = _clone(folder)
        attributes = libc.MOUNT_ATTR_RDONLY | libc.MOUNT_ATTR_NOSUID | libc.MOUNT_ATTR_NODEV
        libc.mount_setattr(tree, attributes, recursive=True)
        program = libc.openat2(tree, rest, libc.O_PATH, resolve=libc.RESOLVE_IN_ROOT)
        try:
            is_it = os.path.samestat(os.fstat(program), wanted)
            return fcntl.fcntl(program, fcntl.F_DUPFD_CLOEXEC, 10) if is_it else None
        finally:
            os.close(program)
    except (FileNotFoundError, NotADirectoryError):  # it lies on another mount than "/"
        return None
    finally:
        if tree >= 0:
            os.close(tree)


def _clone(folder: str) -> int:
    """A detached clone of a folder's mount; in a user namespace only together with what hangs below it."""
    try:
        return libc.clone_tree(libc.AT_FDCWD, folder)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return libc.clone_tree(libc.AT_FDCWD, folder, recursive=True)


def ensure() -> None:
    """Start this program (sys.argv) again, sealed and with an empty environment, unless it is."""
    if not is_sealed():
        program, path = open_program()
        os.execve(f"/proc/self/fd/{program}", [path, *FLAGS, *sys.argv], {})
