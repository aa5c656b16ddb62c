"""Opening a file of one's own whose permissions do not let even its owner read it.

An image may have a file, or a folder on the way to it, of mode 0000. Root reads it all the same. A plain
user, who keeps true permissions in a layer's folder, must lend himself the right for the moment of the open:
by descriptors that follow nothing, one file at a time, and the modes are put back at once.

Must never know: layers.
"""

from __future__ import annotations

import os
import stat
from _thread import allocate_lock

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAY_ENTER, _MAY_READ = 0o500, 0o400
_one_at_a_time = allocate_lock()


def open_own(root_fd: int, path: str) -> int:
    """A descriptor, for reading, of the file at `path` (relative, without `..` or links) below the folder.

    Raises OSError: PermissionError where a part of the path is another user's.
    """
    unlocked: list[tuple[int, int]] = []
    steps: list[int] = []
    with _one_at_a_time:
        try:
            here = root_fd
            *folders, name = path.split("/")
            for folder in folders:
                here = os.open(folder, _STEP | os.O_DIRECTORY, dir_fd=here)
                steps.append(here)
                _lend(here, _MAY_ENTER, unlocked)
            steps.append(os.open(name, _STEP, dir_fd=here))
            _lend(steps[-1], _MAY_READ, unlocked)
            return os.open(name, _READ, dir_fd=here)
        finally:
            for fd, mode in reversed(unlocked):
                os.chmod(f"/proc/self/fd/{fd}", mode)
            for fd in steps:
                os.close(fd)


def _lend(fd: int, wanted: int, unlocked: list[tuple[int, int]]) -> None:
    """Give the owner what he lacks of `wanted`, and note what to put back."""
    status = os.fstat(fd)
    mode = stat.S_IMODE(status.st_mode)
    if mode & wanted != wanted and status.st_uid == os.geteuid():
        os.chmod(f"/proc/self/fd/{fd}", mode | wanted)  # no fchmod on O_PATH, and this follows nothing
        unlocked.append((fd, mode))
