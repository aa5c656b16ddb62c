"""Where on the disk a large new tree begins, and where it goes on.

ext4 puts what is made in a folder into the group of blocks where that folder lies, and looks for a free inode
from the start of that group each time. Beside much that is there, or was removed in the last minutes, this
search costs many times what the file itself does. A folder with the flag T (chattr(1), "the top of directory
hierarchies") has its subfolders begun in groups of their own, where there is most room. So who is about to
make thousands of files marks the folder above them first, and once making files turns out to be slow, the
next folder begins elsewhere.

A wish, not a need: file systems that know no such flag are left alone. It decides nothing but places.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time

MANY = 512  # files, from which on a tree is worth a group of its own
SLOW = 120_000  # ns of a thread's processor time; several times what making a file takes
PATIENCE = 8  # files made slowly, until one looks for another place

_GETFLAGS = 0x80086601  # ioctl_iflags(2), as 64-bit machines have it
_SETFLAGS = 0x40086602
_TOP = 0x00020000  # FS_TOPDIR_FL
_FLAGS = struct.Struct("@i4x")  # the kernel reads and writes an int, whatever the numbers say


class Places:
    """Makes folders and files, and sees how long it takes."""

    __slots__ = ("_slow",)

    def __init__(self) -> None:
        self._slow = 0

    def make_folder(self, name: str, folder_fd: int, mode: int) -> None:
        """mkdir(2), elsewhere if it has been slow here. Raises OSError."""
        if self._slow >= PATIENCE:
            self._slow = 0
            make_apart(name, folder_fd, mode)
        else:
            os.mkdir(name, mode, dir_fd=folder_fd)

    def open_new(self, name: str, flags: int, mode: int, folder_fd: int) -> int:
        """open(2) of a new file. Raises OSError."""
        begun = time.thread_time_ns()
        fd = os.open(name, flags, mode, dir_fd=folder_fd)
        if time.thread_time_ns() - begun > SLOW:
            self._slow += 1
        elif self._slow:
            self._slow -= 1
        return fd


def make_apart(name: str, folder_fd: int, mode: int) -> None:
    """mkdir(2) of a folder where the disk has most room. Raises OSError, FileExistsError where there is one.

    A random name decides among equal places, as one's own name would lead to the same place each time.
    """
    _mark_top(folder_fd)
    place = f".{os.urandom(12).hex()}"
    os.mkdir(place, mode, dir_fd=folder_fd)
    try:
        os.mkdir(name, mode, dir_fd=folder_fd)  # rename(2) replaces an empty folder, and nothing else
        os.rename(place, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    except OSError:
        os.rmdir(place, dir_fd=folder_fd)
        raise


def _mark_top(folder_fd: int) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder_fd)
        try:
            (flags,) = _FLAGS.unpack(fcntl.ioctl(fd, _GETFLAGS, bytes(_FLAGS.size)))
            if not flags & _TOP:
                fcntl.ioctl(fd, _SETFLAGS, _FLAGS.pack(flags | _TOP))
        finally:
            os.close(fd)
