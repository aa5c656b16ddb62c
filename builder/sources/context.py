"""The build context: a folder that the user gave, read as the entries of a layer.

The folder is trusted, what lies in it is not: the walk stands in one folder at a time and moves by
descriptors, so no link is ever followed, not even one that is put there meanwhile; links are entries, and
only the tree that is made of them resolves them. Owners become root's, xattrs and sockets are dropped,
what the ignore file leaves out is not looked into. Bytes are hashed only when somebody asks, and never
again while a file's stat stays as it was (`store.statcache`).

Invariant: a digest is that of the bytes that the entry's stat was taken of, or an error says that the file
changed. On the path of a fully cached build.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time

from builder.digest import Digest, from_hex
from builder.errors import BuildError
from builder.snapshots.snapshot import BLOCK, CHAR, FIFO, FILE, FOLDER, SYMLINK, Entry, LayerId
from builder.sources.prefixes import Wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    from builder.store.statcache import StatCache

    class Ignore(Protocol):
        """What leaves paths out; dockerfile.ignore.Ignore is one."""

        def excludes(self, path: str) -> bool: ...

        def prunes(self, folder: str) -> bool: ...


FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CHUNK = 1 << 20
MANY = 64  # files, from which on several threads hash them
KINDS = {
    stat.S_IFREG: FILE, stat.S_IFDIR: FOLDER, stat.S_IFLNK: SYMLINK, stat.S_IFCHR: CHAR, stat.S_IFBLK: BLOCK,
    stat.S_IFIFO: FIFO,
}  # fmt: skip


def read(
    folder: str | os.PathLike[str],
    ignore: Ignore | None,
    cache: StatCache | None = None,
    *,
    only: Sequence[str] | None = None,
) -> list[Entry]:
    """The context's entries, the root first, folders before what they hold, sorted.

    Digests are filled in where the cache knows them. `only`: COPY's source patterns; what none of them can
    reach is left unread (what they name is read whole). Raises BuildError for what cannot be read.
    """
    wanted = Wanted(only) if only is not None else None
    walk = _Walk(os.fspath(folder), ignore, cache, wanted)
    while True:
        entries = walk.run()
        if wanted is None or not wanted.follow(entries):
            return entries


class Hasher:
    """Hashes a context's files, each once: the digests go into the entries and into the cache."""

    __slots__ = ("_cache", "_folder")

    def __init__(self, folder: str | os.PathLike[str], cache: StatCache | None = None) -> None:
        self._folder = os.fspath(folder)
        self._cache = cache

    def digest_of(self, layer: LayerId, entry: Entry) -> Digest:
        """The digest of a FILE's bytes. Raises BuildError if it cannot be read or changed since `read`."""
        if entry.digest is None:
            self._hash_all([entry])
        return Digest(entry.digest or "")

    def fill(self, entries: Iterable[Entry], *, threads: int = 0) -> None:
        """Hash those of the entries that have no digest, in threads where they are many."""
        todo = [entry for entry in entries if entry.kind == FILE and entry.digest is None]
        threads = threads or os.cpu_count() or 1
        if len(todo) < MANY or threads == 1:
            self._hash_all(todo)
            return
        from concurrent.futures import ThreadPoolExecutor

        # Slices keep a folder's files together, so that each folder is opened about once.
        size = max(MANY // 2, len(todo) // (threads * 8))
        slices = [todo[start : start + size] for start in range(0, len(todo), size)]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self._hash_all, slices))

    def _hash_all(self, entries: Iterable[Entry]) -> None:
        parent, parent_fd = None, -1
        try:
            for entry in entries:
                above, _, name = entry.path.rpartition("/")
                if above != parent:
                    if parent_fd >= 0:
                        os.close(parent_fd)
                        parent_fd = -1
                    parent_fd = _open_folder(self._folder, above)
                    parent = above
                self._hash(entry, name, parent_fd)
        except OSError as error:
            raise _unreadable(self._folder, entry.path, error) from error
        finally:
            if parent_fd >= 0:
                os.close(parent_fd)

    def _hash(self, entry: Entry, name: str, parent_fd: int) -> None:
        started = time.time_ns()
        fd = os.open(name, FILE_FLAGS, dir_fd=parent_fd)
        try:
            before = os.fstat(fd)
            sha = hashlib.sha256()
            left = entry.size if _is_as_read(entry, before) else -1
            while left > 0 and (data := os.read(fd, min(CHUNK, left))):
                sha.update(data)
                left -= len(data)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        if left or not _is_as_read(entry, after) or after.st_ctime_ns != before.st_ctime_ns:
            raise BuildError(
                f"'{entry.path}' in {self._folder} changed during the build", code="changed-during-build"
            )
        digest = from_hex(sha.hexdigest())
        entry.digest = digest
        if self._cache is not None:
            self._cache.remember(entry.path, after, digest, started)


def _is_as_read(entry: Entry, status: os.stat_result) -> bool:
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_size == entry.size
        and status.st_mtime_ns == entry.mtime
        and stat.S_IMODE(status.st_mode) == entry.mode
    )


def _open_folder(root: str, path: str) -> int:
    """A descriptor of a folder below the root, no link followed below it. Raises OSError."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in path.split("/") if path else ():
        try:
            below = os.open(name, FOLDER_FLAGS, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def _unreadable(folder: str, path: str, error: OSError) -> BuildError:
    reason = (error.strerror or type(error).__name__).lower()
    where = f"'{path}' in {folder}" if path != "." else f"the folder {folder}"
    return BuildError(
        f"cannot read {where}: {reason}",
        code="unreadable-context",
        hint="list it in .dockerignore to leave it out",
    )


class _Walk:
    """One walk over a context."""

    def __init__(
        self, folder: str, ignore: Ignore | None, cache: StatCache | None, wanted: Wanted | None
    ) -> None:
        self.folder = folder
        self.ignore = ignore or None  # an Ignore without patterns is false
        self.cache = cache
        self.wanted = wanted
        self.entries: list[Entry] = []
        self.links: dict[tuple[int, int], Entry] = {}
        self.untold: list[Entry] = []  # excluded folders on the way, told once something in them is not

    def run(self) -> list[Entry]:
        """The entries, read anew."""
        self.entries, self.links, self.untold = [], {}, []
        fd = -1
        try:
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            status = os.fstat(fd)
            self.entries.append(_entry(".", FOLDER, status))
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            raise _unreadable(self.folder, ".", error) from error
        self._folder(fd, "")
        return self.entries

    def _folder(self, fd: int, prefix: str) -> None:
        """All in the folder at `fd`, which is closed."""
        try:
            with os.scandir(fd) as found:
                names = sorted(found, key=_name_of)
            for item in names:
                self._path(item, fd, prefix + item.name)
        except OSError as error:
            raise _unreadable(self.folder, prefix.rstrip("/") or ".", error) from error
        finally:
            os.close(fd)

    def _path(self, item: os.DirEntry[str], fd: int, path: str) -> None:
        wanted = self.wanted
        if wanted is not None and not wanted.may_need(path):
            return
        excluded = self.ignore is not None and self.ignore.excludes(path)
        folder = item.is_dir(follow_symlinks=False)
        if excluded and (not folder or self.ignore is None or self.ignore.prunes(path)):
            return
        try:
            status = item.stat(follow_symlinks=False)
            kind = KINDS.get(stat.S_IFMT(status.st_mode))
            if kind is None:
                return  # a socket
            entry = _entry(path, kind, status)
            if kind == SYMLINK:
                entry.link = os.readlink(item.name, dir_fd=fd)
            below = os.open(item.name, FOLDER_FLAGS, dir_fd=fd) if folder and self._enters(path) else -1
        except OSError as error:
            raise _unreadable(self.folder, path, error) from error
        if not excluded:
            self._tell(entry, status)
        if below >= 0:
            self._below(below, entry, excluded=excluded)

    def _enters(self, path: str) -> bool:
        return self.wanted is None or self.wanted.looks_into(path)

    def _below(self, fd: int, folder: Entry, *, excluded: bool) -> None:
        if excluded:
            self.untold.append(folder)
        self._folder(fd, folder.path + "/")
        if excluded and self.untold and self.untold[-1] is folder:
            self.untold.pop()

    def _tell(self, entry: Entry, status: os.stat_result) -> None:
        if self.untold:
            self.entries += self.untold
            self.untold.clear()
        if entry.kind == FILE:
            if status.st_nlink > 1:
                first = self.links.setdefault((status.st_dev, status.st_ino), entry)
                if first is not entry:
                    entry.hardlink = first.path
            if self.cache is not None:
                entry.digest = self.cache.lookup(entry.path, status)
        self.entries.append(entry)


def _name_of(item: os.DirEntry[str]) -> str:
    return item.name


def _entry(path: str, kind: str, status: os.stat_result) -> Entry:
    entry = Entry(path, kind, stat.S_IMODE(status.st_mode), 0, 0, 0, status.st_mtime_ns)
    if kind == FILE:
        entry.size = status.st_size
    elif kind == SYMLINK:
        entry.mode = 0o777
    elif kind in (CHAR, BLOCK):
        entry.device = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return entry
