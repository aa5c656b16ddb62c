"""Owners and devices of files on disk, by the way that this process has for them (`fs.ownership`).

The one idea: who writes or reads a tree says what is meant (this file is 5:6, that is a device), and here
it is done: by chown, by chown within a range of ids, or by a record beside the file. A device that may
not be made is an empty file with a record. What has an owner that cannot be kept is an error that names it;
what can hold no record (symlinks, fifos) keeps none, as the layer's index has it.

Must never know: layers, entries. See user_namespaces(7), xattr(7), capabilities(7).
"""

from __future__ import annotations

import errno
import os
import stat

from builder.errors import BuildError, StoreError
from builder.fs.ownership import MAPPED, REAL, RECORDED, STAT_XATTR, Record, decode, of_process, read_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Chown = Callable[[], None]

OPAQUE_TRUSTED = "trusted.overlay.opaque"
OPAQUE_USER = "user.overlay.opaque"

_CAPABILITY = "security.capability"
_LAST_DEVICE = (1 << 32) - 1
_OF_A_NAMESPACE = 24  # bytes of a capability that counts in one user namespace only (VFS_CAP_REVISION_3)


class Owning:
    """One way of keeping owners: REAL, MAPPED or RECORDED; the process's own unless told.

    opaque: the xattr by which overlays mounted by such a process mark a folder that hides what is below.
    """

    __slots__ = ("opaque", "way")

    def __init__(self, way: str | None = None) -> None:
        self.way = way or of_process()
        self.opaque = OPAQUE_TRUSTED if self.way == REAL else OPAQUE_USER

    def give(self, fd: int, path: str, uid: int, gid: int) -> None:
        """Give an open new file or folder its owner; `path` is for messages. It clears setuid, so modes
        come later. Raises BuildError for an id that this namespace lacks, StoreError, OSError."""
        if self.way != RECORDED:
            self._chown(lambda: os.fchown(fd, uid, gid), path, uid, gid)
        elif uid or gid:
            record(fd, Record(uid, gid))

    def give_at(self, folder_fd: int, name: str, path: str, uid: int, gid: int) -> None:
        """The same for what cannot be opened: a symlink, fifo or device. Raises as `give`."""
        if self.way != RECORDED:
            self._chown(
                lambda: os.chown(name, uid, gid, dir_fd=folder_fd, follow_symlinks=False), path, uid, gid
            )

    def stand_in(self, fd: int, path: str, kind: int, device: int, uid: int, gid: int) -> None:
        """Make an open empty file stand for a device: `kind` is S_IFCHR or S_IFBLK. Raises as `give`."""
        if self.way == MAPPED:
            self.give(fd, path, uid, gid)
        record(fd, Record(uid, gid, kind, device))

    def set_capability(self, fd: int, value: bytes) -> None:
        """Set an open file's security.capability, where the file system and this user can (the layer's index
        has it in any case). Raises OSError."""
        try:
            os.setxattr(fd, _CAPABILITY, value)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return
            # Outside of a namespace a user may set none; in one, none that counts in another.
            if self.way == RECORDED and error.errno == errno.EPERM:
                return
            if self.way != REAL and error.errno == errno.EINVAL and len(value) == _OF_A_NAMESPACE:
                return
            raise

    def owner(self, status: os.stat_result, noted: Record | None) -> tuple[int, int]:
        """Whose a file or folder is, by its stat and its record."""
        if self.way != RECORDED:
            return status.st_uid, status.st_gid
        return (noted.uid, noted.gid) if noted is not None else (0, 0)

    def record_of(self, status: os.stat_result, value: bytes | None) -> Record | None:
        """The record that counts, of a file or folder with this xattr; None where there is none.

        A step may have written anything there. A file stands for a device only where it is empty and regular,
        and the kernel could have such a device.
        """
        noted = decode(value) if value is not None and self.way != REAL else None
        if noted is None or not noted.mode:
            return noted
        is_removal = noted.mode == stat.S_IFCHR and noted.device == 0  # what overlayfs makes of 0:0
        if not stat.S_ISREG(status.st_mode) or status.st_size or is_removal or noted.device > _LAST_DEVICE:
            return Record(noted.uid, noted.gid)
        return noted

    def record_for(self, uid: int, gid: int, kind: int, device: int) -> bytes | None:
        """The record that a file has which is right; `kind` is 0 or that of a device. None for no record."""
        if self.way == REAL or not (kind or (self.way == RECORDED and (uid or gid))):
            return None
        return Record(uid, gid, kind, device).encode()

    def _chown(self, call: Chown, path: str, uid: int, gid: int) -> None:
        try:
            call()
        except OSError as error:
            if self.way == MAPPED and error.errno == errno.EINVAL:
                raise _out_of_range(path, uid, gid) from error
            raise


def record(target: int | str, noted: Record) -> None:
    """Write a record to an open file, or to a path whose last component is no symlink. Raises StoreError."""
    try:
        os.setxattr(target, STAT_XATTR, noted.encode())
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        raise StoreError(
            "the store's file system keeps no user xattrs, so owners of files cannot be kept there",
            code="no-xattrs",
            hint="choose a folder on ext4, xfs or btrfs with --root or PYBUILD_ROOT",
        ) from error


def _out_of_range(path: str, uid: int, gid: int) -> BuildError:
    """The error for an owner that is not in the maps of this process's namespace."""
    for kind, number in (("uid", uid), ("gid", gid)):
        ranges = read_map(kind)
        if any(first <= number < first + count for first, _, count in ranges):
            continue
        highest = max((first + count - 1 for first, _, count in ranges), default=0)
        return BuildError(
            f"{path!r} belongs to {kind} {number}, and the user namespace of this build ends at {highest}",
            code="id-out-of-range",
            hint=f"give this user a longer range in /etc/sub{kind}, or build with --isolation single-uid, "
            "which writes owners down instead",
        )
    return BuildError(f"the kernel refuses {uid}:{gid} as the owner of {path!r}", code="id-out-of-range")
