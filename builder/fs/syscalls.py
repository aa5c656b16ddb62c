"""System calls that Python lacks, for the files side: openat2(2) and the reflink ioctl.

Bound once with argument types; failures are OSError with the errno of the call. Knows numbers and
structures, nothing of roots, trees or layers.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

# openat2(2): the same number on every architecture of Linux (asm-generic and x86-64).
SYS_OPENAT2 = 437
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

FICLONE = 0x40049409  # ioctl_ficlone(2)

_RETRIES = 32


class _OpenHow(ctypes.Structure):
    """`struct open_how` of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (
    ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t,
)  # fmt: skip


def openat2(folder_fd: int, path: str, flags: int, mode: int, resolve: int) -> int:
    """Open `path` below `folder_fd` by the rules of `resolve`; the descriptor is close-on-exec.

    The kernel says EAGAIN when a rename beside it may have moved the ground; that is tried again some
    times. Raises OSError (ENOSYS where the kernel or an outer filter does not know the call).
    """
    name = os.fsencode(path)
    if b"\0" in name:
        raise ValueError("embedded null byte")
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    code = 0
    for _ in range(_RETRIES):
        fd: int = _syscall(SYS_OPENAT2, folder_fd, name, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code), path)


def clone_file(source_fd: int, target_fd: int) -> bool:
    """Make the target share all blocks of the source; False where the file systems cannot do that."""
    try:
        fcntl.ioctl(target_fd, FICLONE, source_fd)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.EPERM,
                           errno.ENOSYS, errno.ETXTBSY, errno.EISDIR, errno.EBADF):  # fmt: skip
            return False
        raise
    return True
