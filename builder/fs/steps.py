"""Steps between folders by descriptor: down by name without following, up with proof.

For walkers of trees of any depth: no path is built, so none can be too long, and one descriptor is open
at a time. Going down never crosses a mount point where `same_mount` is asked for.
"""

from __future__ import annotations

import errno
import os

from builder.fs.syscalls import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def enter(fd: int, name: str) -> int:
    """Close `fd` and return a descriptor of the folder `name` in it; a symlink is ELOOP or ENOTDIR.

    On failure `fd` stays open.
    """
    below = os.open(name, FOLDER_FLAGS, dir_fd=fd)
    os.close(fd)
    return below


def enter_same_mount(fd: int, name: str) -> int:
    """As `enter`, but `fd` stays open, and a mount point (also a bind mount) is EXDEV."""
    try:
        return openat2(fd, name, FOLDER_FLAGS, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    below = os.open(name, FOLDER_FLAGS, dir_fd=fd)
    if os.fstat(below).st_dev != os.fstat(fd).st_dev:
        os.close(below)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
    return below


def leave(fd: int, expected: tuple[int, int]) -> int:
    """Close `fd` and return its parent, which must be `expected` (device, inode): else ESTALE.

    On failure `fd` stays open.
    """
    above = os.open("..", FOLDER_FLAGS, dir_fd=fd)
    status = os.fstat(above)
    if (status.st_dev, status.st_ino) != expected:
        os.close(above)
        raise OSError(errno.ESTALE, "a folder was moved while it was walked")
    os.close(fd)
    return above
