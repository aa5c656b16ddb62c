"""`type=local`: the image's filesystem as files in a folder, which may have others in it already.

A folder that was not there appears whole or not at all; one that was there is added to, file by file, and
with mode=delete what the image does not have is removed from it then.
The files belong to whoever builds, as BuildKit's client has it. Nothing is written through a symlink:
`snapshots.unpack` walks by descriptors, and what is in the way of a folder is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from builder.errors import BuildError, reason_of
from builder.exporters import Export
from builder.exporters.merged import Files
from builder.fs.remove import remove_others, remove_tree
from builder.fs.rooted import open_root, opened
from builder.snapshots.snapshot import BLOCK, CHAR, Entry
from builder.snapshots.unpack import write_tree


def export(files: Files, wanted: Export) -> None:
    """Write the files into the folder that `wanted` names. Raises BuildError."""
    assert wanted.dest is not None
    try:
        with _folder(wanted.dest) as folder:
            ours = list(_as_ours(files))
            write_tree(folder, ours, files.content)
            if wanted.delete:
                with opened(open_root(folder)) as fd:
                    remove_others(fd, (entry.path for entry in ours))
    except OSError as error:
        raise BuildError(
            f"writing the folder {wanted.dest} failed: {reason_of(error)}", code="export-failed"
        ) from error


@contextmanager
def _folder(dest: str) -> Iterator[str]:
    """Where to write what is to be in `dest`."""
    if os.path.isdir(dest):
        yield dest
        return
    temporary = f"{dest.rstrip('/')}.{os.getpid()}-{os.urandom(4).hex()}.part"
    os.makedirs(temporary)
    try:
        yield temporary
        os.rename(temporary, dest)
    except BaseException:
        remove_tree(temporary)
        raise


def _as_ours(files: Files) -> Iterator[Entry]:
    """The entries as the invoking user may have them: their own, and no devices but for root."""
    uid, gid = os.geteuid(), os.getegid()
    for entry in files.entries:
        if entry.path == "." or (uid != 0 and entry.kind in (CHAR, BLOCK)):
            continue  # the folder itself stays as the user made it
        yield entry.replace(uid=uid, gid=gid, xattrs=entry.xattrs if uid == 0 else ())
