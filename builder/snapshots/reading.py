"""What a walk over a layer's folder found, as entries: the inverse of `unpack`, and the start of a commit.

Owners and devices are read in the way in which they were written (`fs.owning`). Must never know: layers.
"""

from __future__ import annotations

import os
import stat

from builder.fs.ownership import STAT_XATTR
from builder.fs.owning import OPAQUE_TRUSTED, OPAQUE_USER, Owning
from builder.fs.walk import CAPABILITY, Found, walk
from builder.snapshots.snapshot import BLOCK, CHAR, FIFO, FILE, FOLDER, OPAQUE, SYMLINK, WHITEOUT, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def read_tree(folder_fd: int, way: str | None = None) -> Iterator[Entry]:
    """The entries of an overlay-ready folder, in canonical order: what `write_tree` was given in that way.

    Sockets are left out. A whiteout is a 0:0 character device; OPAQUE comes right after its folder. Owners of
    symlinks and fifos are 0:0 where they are recorded, as no record can lie beside these.
    """
    owning = Owning(way)
    folders = (OPAQUE_TRUSTED, OPAQUE_USER, STAT_XATTR)
    for found in walk(folder_fd, file_xattrs=(CAPABILITY, STAT_XATTR), folder_xattrs=folders):
        if (entry := entry_of(found, owning)) is not None:
            yield entry
            marks = [value for name, value in found.xattrs if name in (OPAQUE_TRUSTED, OPAQUE_USER)]
            if entry.kind == FOLDER and b"y" in marks:
                yield Entry(entry.path, OPAQUE)


_KINDS = {
    stat.S_IFREG: FILE, stat.S_IFDIR: FOLDER, stat.S_IFLNK: SYMLINK, stat.S_IFCHR: CHAR, stat.S_IFBLK: BLOCK,
    stat.S_IFIFO: FIFO,
}  # fmt: skip


def entry_of(found: Found, owning: Owning) -> Entry | None:
    """What a walk that asked for STAT_XATTR found, as an entry; None for a socket.

    A file that stands for a device is that device.
    """
    status = found.status
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    if kind == CHAR and status.st_rdev == 0:
        return Entry(found.path, WHITEOUT)
    xattrs = dict(found.xattrs)
    noted = owning.record_of(status, xattrs.get(STAT_XATTR))
    device = status.st_rdev
    if noted is not None and noted.mode:
        kind, device = _KINDS[noted.mode], noted.device
    uid, gid = owning.owner(status, noted)
    capability = xattrs.get(CAPABILITY)
    return Entry(
        found.path,
        kind,
        stat.S_IMODE(status.st_mode) if kind != SYMLINK else 0o777,
        uid,
        gid,
        status.st_size if kind == FILE else 0,
        status.st_mtime_ns,
        link=found.link,
        hardlink=found.hardlink if kind == FILE else None,
        device=(os.major(device), os.minor(device)) if kind in (CHAR, BLOCK) else (0, 0),
        xattrs=((CAPABILITY, capability),) if kind == FILE and capability is not None else (),
    )
