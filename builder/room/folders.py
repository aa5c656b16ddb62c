"""The folders of a store that are no layers: caches of steps, git repositories, stat caches, and what the
cache remembers of each kind. What they take is found out by walking through them, so only who needs it asks.

A cache's last use is the mtime of the file by which it is held (see `cachemounts`), where its id is noted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from builder.room.facts import BLOCK, TEMPORARY, FolderFacts, size_of
from builder.room.items import ANSWERS, CONTEXT, GIT, MOUNT

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ID = 1000  # bytes of a cache's id that are shown
_APART = (
    "mounts",
    "git",
    "stat",
    "diffs",
    "claims",
    "records",
)  # folders of ROOT/cache that are told of apart


def read_folders(root: str) -> dict[str, list[FolderFacts]]:
    """All of them, by their kinds."""
    return {
        MOUNT: list(_held(root, os.path.join("cache", "mounts"), "cache mount")),
        GIT: list(_held(root, os.path.join("cache", "git"), "git repository")),
        CONTEXT: list(_files(root, os.path.join("cache", "stat"))),
        ANSWERS: list(_answers(root)),
    }


def _held(root: str, top: str, what: str) -> Iterator[FolderFacts]:
    """Folders, each with a file NAME.lock beside it by which it is held."""
    for name, status in _listed(os.path.join(root, top)):
        if not stat.S_ISDIR(status.st_mode) or name == "home":
            continue
        path = os.path.join(root, top, name)
        used, about, busy = _look_at_lock(path + ".lock", status.st_mtime)
        told = f"{what} {about}".rstrip()
        yield FolderFacts(os.path.join(top, name), size_of(path), status.st_ctime, used, busy, told)


def _look_at_lock(path: str, otherwise: float) -> tuple[float, str, bool]:
    """(last use, what is noted there, whether somebody holds it)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return otherwise, "", False
    with open(fd, "rb", buffering=0) as file:
        used = max(otherwise, os.fstat(fd).st_mtime)
        about = file.read(MAX_ID).decode("utf-8", "replace")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return used, about, True
    return used, about, False


def _files(root: str, top: str) -> Iterator[FolderFacts]:
    for name, status in _listed(os.path.join(root, top)):
        if stat.S_ISREG(status.st_mode) and not TEMPORARY.fullmatch(name):
            size = status.st_blocks * BLOCK
            yield FolderFacts(os.path.join(top, name), size, status.st_mtime, status.st_mtime)


def _answers(root: str) -> Iterator[FolderFacts]:
    """What the cache remembers, all of a kind as one."""
    for name, status in _listed(os.path.join(root, "cache")):
        if stat.S_ISDIR(status.st_mode) and name not in _APART:
            path = os.path.join("cache", name)
            size = size_of(os.path.join(root, path))
            about = f"what the cache remembers of {name}"
            yield FolderFacts(path, size, status.st_ctime, status.st_mtime, about=about)


def _listed(folder: str) -> list[tuple[str, os.stat_result]]:
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found.append((entry.name, entry.stat(follow_symlinks=False)))
    return sorted(found, key=lambda row: row[0])
