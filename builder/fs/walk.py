"""A sorted walk over a folder on disk: every path with its stat, link text, xattrs and hardlink group.

The one idea: the walk stands in one folder at a time and moves by `openat` and a checked `..`, so it
follows no link, needs two descriptors at any depth, and never builds a path for the kernel. Folders come
right before what they hold, names in the order of `snapshots.snapshot.order`.

Must never know: layers, whiteouts, what any of it means.
"""

from __future__ import annotations

import errno
import os
import stat

from builder import stop
from builder.fs.steps import enter, leave

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CAPABILITY = "security.capability"


class Found:
    """One path of a walk.

    path: relative, `.` for the folder itself; status: its lstat; link: a symlink's target; xattrs: the
    wanted ones that it has, sorted; hardlink: the path of the first name of the same file, or None.
    """

    __slots__ = ("hardlink", "link", "path", "status", "xattrs")

    def __init__(
        self,
        path: str,
        status: os.stat_result,
        link: str = "",
        xattrs: tuple[tuple[str, bytes], ...] = (),
        hardlink: str | None = None,
    ) -> None:
        self.path = path
        self.status = status
        self.link = link
        self.xattrs = xattrs
        self.hardlink = hardlink

    def __repr__(self) -> str:
        return f"Found({self.path!r})"


def walk(
    folder_fd: int,
    *,
    file_xattrs: Sequence[str] | None = (CAPABILITY,),
    folder_xattrs: Sequence[str] | None = (),
) -> Iterator[Found]:
    """Every path below the folder, itself first as `.`.

    Only the named xattrs are asked for, of regular files and of folders; None asks for all that there
    are. Raises OSError; a path that vanishes meanwhile is an error, too.
    """
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        yield Found(".", os.fstat(fd), xattrs=_read_xattrs(fd, ".", folder_xattrs))
        links: dict[tuple[int, int], str] = {}
        names: list[str] = []
        identities = [_identity(os.fstat(fd))]
        pending = [_sorted_names(fd)]
        while pending:
            if not pending[-1]:
                pending.pop()
                identities.pop()
                if pending:
                    fd = leave(fd, identities[-1])
                    names.pop()
                continue
            stop.check()
            name = pending[-1].pop()
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            path = "/".join((*names, name)) if names else name
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFDIR:
                yield Found(path, status, xattrs=_read_xattrs(fd, name, folder_xattrs))
                fd = enter(fd, name)
                names.append(name)
                identities.append(_identity(os.fstat(fd)))
                pending.append(_sorted_names(fd))
            elif kind == stat.S_IFREG:
                first = links.setdefault(_identity(status), path) if status.st_nlink > 1 else path
                xattrs = _read_xattrs(fd, name, file_xattrs)
                yield Found(path, status, xattrs=xattrs, hardlink=None if first == path else first)
            elif kind == stat.S_IFLNK:
                yield Found(path, status, link=os.readlink(name, dir_fd=fd))
            else:
                yield Found(path, status)
    finally:
        os.close(fd)


def _sorted_names(fd: int) -> list[str]:
    """The names in a folder, last first."""
    return sorted(os.listdir(fd), reverse=True)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _read_xattrs(fd: int, name: str, wanted: Sequence[str] | None) -> tuple[tuple[str, bytes], ...]:
    """Those of the wanted xattrs that there are; through /proc, since there is no getxattrat to use."""
    found = []
    if wanted is None:
        wanted = os.listxattr(f"/proc/self/fd/{fd}/{name}", follow_symlinks=False)
    for attribute in wanted:
        try:
            value = os.getxattr(f"/proc/self/fd/{fd}/{name}", attribute, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
        else:
            found.append((attribute, value))
    return tuple(sorted(found))
