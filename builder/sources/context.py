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

import errno
import os
import stat
import time

from builder import stop
from builder.digest import Digest, from_hex
from builder.errors import BuildError, raising_limit
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

    # A path in a folder: its entry, its stat, whether it is left out, whether it is looked into.
    Found = tuple[str, Entry, os.stat_result, bool, bool]


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
        todo = [e for e in entries if e.kind == FILE and e.digest is None and e.hardlink is None]
        threads = threads or os.cpu_count() or 1
        if len(todo) < MANY or threads == 1:
            self._hash_all(todo)
            return
        from concurrent.futures import ThreadPoolExecutor

        # Slices keep a folder's files together, so that each folder is opened about once.
        size = max(MANY // 2, len(todo) // (threads * 8))
        slices = [todo[start : start + size] for start in range(0, len(todo), size)]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(stop.shared(self._hash_all), slices))

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
        from hashlib import sha256

        started = time.time_ns()
        fd = os.open(name, FILE_FLAGS, dir_fd=parent_fd)
        try:
            before = os.fstat(fd)
            sha = sha256()
            left = entry.size if _is_as_read(entry, before) else -1
            while left > 0 and (data := os.read(fd, min(CHUNK, left))):
                stop.check()
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
        hint=raising_limit(error.errno) or "list it in .dockerignore to leave it out",
    )


class _Walk:
    """One walk over a context: one folder open at a time, however deep it is."""

    def __init__(
        self, folder: str, ignore: Ignore | None, cache: StatCache | None, wanted: Wanted | None
    ) -> None:
        self.folder = folder
        self.ignore = ignore or None  # an Ignore without patterns is false
        self.cache = cache
        self.wanted = wanted
        self.entries: list[Entry] = []
        self.links: dict[tuple[int, int], Entry] = {}
        self.at = "."  # what an error would be about
        self.untold: list[Entry] = []  # excluded folders on the way, told once something in them is not

    def run(self) -> list[Entry]:
        """The entries, read anew."""
        self.entries, self.links, self.untold = [], {}, []
        self.at = "."
        fd = -1
        try:
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            root = os.fstat(fd)
            self.entries.append(_entry(".", FOLDER, root))
            above = [_identity(root)]
            pending = [self._listed(fd, "")]
            while True:
                if pending[-1]:
                    path, entry, status, excluded, enters = pending[-1].pop()
                    self._tell(entry, status, excluded=excluded)
                    if enters:
                        self.at = path
                        fd = _moved(fd, path.rpartition("/")[2])
                        above.append(_identity(os.fstat(fd)))
                        pending.append(self._listed(fd, path + "/"))
                    continue
                pending.pop()
                above.pop()
                if not pending:
                    return self.entries
                fd = _moved(fd, "..", above[-1])
        except OSError as error:
            raise _unreadable(self.folder, self.at, error) from error
        finally:
            if fd >= 0:
                os.close(fd)

    def _listed(self, fd: int, prefix: str) -> list[Found]:
        """What counts in the folder at `fd`, last first."""
        stop.check()
        listed: list[Found] = []
        wanted = self.wanted
        if wanted is not None and wanted.holds(prefix[:-1] or "."):
            wanted = None  # all of it is, which is asked once for a folder
        with os.scandir(fd) as names:
            for item in names:
                found = self._found(item, fd, prefix + item.name, wanted)
                if found is not None:
                    listed.append(found)
        listed.sort(reverse=True)  # by their paths, each of which is there once
        return listed

    def _found(self, item: os.DirEntry[str], fd: int, path: str, wanted: Wanted | None) -> Found | None:
        if wanted is not None and not wanted.may_need(path):
            return None
        excluded = self.ignore is not None and self.ignore.excludes(path)
        is_folder = item.is_dir(follow_symlinks=False)
        if excluded and (not is_folder or self.ignore is None or self.ignore.prunes(path)):
            return None
        self.at = path
        status = item.stat(follow_symlinks=False)
        kind = KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return None  # a socket
        entry = _entry(path, kind, status)
        if kind == SYMLINK:
            entry.link = os.readlink(item.name, dir_fd=fd)
        enters = kind == FOLDER and (wanted is None or wanted.looks_into(path))
        return path, entry, status, excluded, enters

    def _tell(self, entry: Entry, status: os.stat_result, *, excluded: bool) -> None:
        while self.untold and not entry.path.startswith(self.untold[-1].path + "/"):
            self.untold.pop()
        if excluded:
            self.untold.append(entry)
            return
        if self.untold:
            self.entries += self.untold
            self.untold.clear()
        if entry.kind == FILE:
            if status.st_nlink > 1:
                first = self.links.setdefault(_identity(status), entry)
                if first is not entry:
                    entry.hardlink = first.path
            if self.cache is not None:
                entry.digest = self.cache.lookup(entry.path, status)
        self.entries.append(entry)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _moved(fd: int, name: str, expected: tuple[int, int] | None = None) -> int:
    """Step into a folder, no link followed; up only to where we came from. Closes `fd`. Raises OSError."""
    there = os.open(name, FOLDER_FLAGS, dir_fd=fd)
    if expected is not None and _identity(os.fstat(there)) != expected:
        os.close(there)
        raise OSError(errno.ESTALE, "a folder was moved while it was read")
    os.close(fd)
    return there


def _entry(path: str, kind: str, status: os.stat_result) -> Entry:
    entry = Entry(path, kind, stat.S_IMODE(status.st_mode), 0, 0, 0, status.st_mtime_ns)
    if kind == FILE:
        entry.size = status.st_size
    elif kind == SYMLINK:
        entry.mode = 0o777
    elif kind in (CHAR, BLOCK):
        entry.device = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return entry
