"""Removal of trees: iterative, by folder descriptor, following nothing.

shutil.rmtree recurses and fails near 1,900 levels, and it gives up on folders without permission bits;
trees that RUN steps leave behind have both. A mount point in the tree is never entered: removing would
delete what is mounted there, on the host's side.

Must never know: what the tree was for.
"""

from __future__ import annotations

import errno
import os
import stat

from builder import stop
from builder.fs.steps import FOLDER_FLAGS, enter_same_mount, leave

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


def remove_tree(path: str | os.PathLike[str]) -> None:
    """Remove a file or a whole tree of the host by a trusted path; nothing there is no error.

    Raises OSError (EBUSY where something is mounted in it).
    """
    folder, name = os.path.split(os.path.abspath(path))
    fd = os.open(folder, FOLDER_FLAGS & ~os.O_NOFOLLOW)
    try:
        remove_at(fd, name)
    finally:
        os.close(fd)


def remove_at(folder_fd: int, name: str) -> None:
    """Remove the entry `name` of a folder, with all that it holds; nothing there is no error."""
    try:
        os.unlink(name, dir_fd=folder_fd)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        pass
    else:
        return
    fd = _open_folder(folder_fd, name)
    try:
        empty_folder(fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=folder_fd)


def empty_folder(folder_fd: int) -> None:
    """Remove all that a folder holds, not the folder itself."""
    fd = os.open(".", FOLDER_FLAGS, dir_fd=folder_fd)
    try:
        identities = [_identity(fd)]
        pending = [_unlink_files(fd)]
        names: list[str] = []
        while True:
            if pending[-1]:
                name = pending[-1].pop()
                below = _open_folder(fd, name)
                os.close(fd)
                fd = below
                names.append(name)
                identities.append(_identity(fd))
                pending.append(_unlink_files(fd))
                continue
            pending.pop()
            identities.pop()
            if not pending:
                return
            fd = leave(fd, identities[-1])
            os.rmdir(names.pop(), dir_fd=fd)
    finally:
        os.close(fd)


def remove_others(folder_fd: int, kept: Iterable[str]) -> None:
    """Remove all below a folder but the paths that are kept: relative ones, each with all that lead to it.

    Raises OSError (EBUSY where something is mounted in it).
    """
    kept = _with_parents(kept)
    fd = os.open(".", FOLDER_FLAGS, dir_fd=folder_fd)
    try:
        names: list[str] = []
        identities = [_identity(fd)]
        pending = [_remove_in(fd, "", kept)]
        while True:
            stop.check()
            if pending[-1]:
                name = pending[-1].pop()
                below = _enter(fd, name)
                os.close(fd)
                fd = below
                names.append(name)
                identities.append(_identity(fd))
                pending.append(_remove_in(fd, "/".join(names) + "/", kept))
                continue
            pending.pop()
            identities.pop()
            if not pending:
                return
            fd = leave(fd, identities[-1])
            names.pop()
    finally:
        os.close(fd)


def _with_parents(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        while path and path not in found:
            found.add(path)
            path = path.rpartition("/")[0]
    return found


def _remove_in(fd: int, prefix: str, kept: Collection[str]) -> list[str]:
    """Remove what is not kept of a folder whose path is the prefix; the names of folders that are."""
    with os.scandir(fd) as scan:
        entries = list(scan)
    folders = []
    for entry in entries:
        if prefix + entry.name not in kept:
            remove_at(fd, entry.name)
        elif entry.is_dir(follow_symlinks=False):
            folders.append(entry.name)
    return folders


def _unlink_files(fd: int) -> list[str]:
    """Unlink all in a folder that is no folder; the names of the folders."""
    _make_writable(fd)
    folders = []
    with os.scandir(fd) as scan:
        entries = list(scan)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=fd)
    return folders


def _open_folder(fd: int, name: str) -> int:
    """Open a folder to empty it, with its permission bits mended if they are in the way."""
    try:
        return _enter(fd, name)
    except PermissionError:
        path_fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            os.chmod(f"/proc/self/fd/{path_fd}", 0o700)  # no fchmod on O_PATH, and this follows nothing
        finally:
            os.close(path_fd)
        return _enter(fd, name)


def _enter(fd: int, name: str) -> int:
    """Open a folder in a folder, unless something is mounted there."""
    try:
        return enter_same_mount(fd, name)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise OSError(errno.EBUSY, "something is mounted there", name) from error
        raise


def _make_writable(fd: int) -> None:
    """Give the owner all rights on a folder, where we are not root and they are missing."""
    if os.geteuid() != 0 and stat.S_IMODE(os.fstat(fd).st_mode) & 0o700 != 0o700:
        os.fchmod(fd, 0o700)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
