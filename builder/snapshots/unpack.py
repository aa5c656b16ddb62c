"""A layer's entries as a folder on disk that overlayfs can mount.

The one idea: everything is done below folder descriptors that were reached name by name without
following a link, with calls that follow none, so no entry and no race leads outside. New files are made
exclusively; what is in the way is removed first. Owners come before modes (chown clears setuid), times
after both, and folders' own attributes at the very end, deepest first.

Removals are written as overlayfs reads them: a 0:0 character device, and the xattr `opaque` (under
`trusted.overlay.`, or `user.overlay.` in a user namespace). On overlayfs, which keeps those for itself, they
are left out: nobody mounts such a folder, and the layer's index has them. Owners and devices are written in
the way that `fs.owning` knows.

Must never know: tar, blobs, where layers are kept.
"""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from typing import TYPE_CHECKING

from builder import stop
from builder.errors import BuildError, ImageError
from builder.fs.copy import copy_file, copy_hashing, copy_stream
from builder.fs.ownership import REAL
from builder.fs.owning import Owning
from builder.fs.remove import remove_at
from builder.fs.rooted import opened
from builder.fs.spread import MANY, Places, make_apart
from builder.fs.walk import CAPABILITY
from builder.libc import OVERLAYFS_MAGIC, filesystem_type
from builder.snapshots.snapshot import (
    BLOCK,
    CHAR,
    FIFO,
    FILE,
    FOLDER,
    OPAQUE,
    SYMLINK,
    WHITEOUT,
    Entry,
    parent_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import BinaryIO

    from builder.fs.copy import Readable

    Content = Callable[[Entry], BinaryIO]

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_OPEN = 64
_LARGE = 1 << 20  # bytes of a file, from which on it is worth a try to share its blocks

_DEVICE_TYPES = {CHAR: stat.S_IFCHR, BLOCK: stat.S_IFBLK}


class TreeWriter:
    """Makes the folder (which may exist, empty) from entries as they come; a sink for `oci.layer.scan`.

    Use it as a context manager, or call `finish` at the end, or `close` to give up. `way`: how owners are
    kept, where that is not as this process does (`fs.ownership`). many: thousands of files may come. Raises
    ImageError for entries that contradict each other, BuildError for owners that cannot be kept, OSError for
    what the disk refuses.
    """

    def __init__(self, folder: str | os.PathLike[str], *, way: str | None = None, many: bool = False) -> None:
        _make_root(os.fspath(folder), many=many)
        self._root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._owning = Owning(way)
        self._places = Places()
        self._open: dict[str, int] = {}
        self._folders: dict[str, Entry] = {}
        self._gone: set[str] = set()
        self._opaque: set[str] = set()

    def add(self, entry: Entry, reader: Readable | None = None) -> None:
        """Make one entry; `reader` has the bytes of a FILE that is no further name of another.

        Missing folders on the way are made as 0755, 0:0. What is in the way is replaced, except that
        folders merge. A folder's attributes are set by `finish`, and only the last ones given count.
        """
        stop.check()
        path = entry.path
        if path == ".":
            self._add_root(entry)
            return
        _check(path)
        folder = self._folder(parent_of(path))
        name = path.rpartition("/")[2]
        if entry.kind == FOLDER:
            self._add_folder(entry, folder, name)
        elif entry.kind == WHITEOUT:
            self._add_whiteout(path, folder, name)
        elif entry.kind == OPAQUE:
            self._folder(path)
            self._opaque.add(path)
        elif entry.hardlink is not None:
            self._add_link(entry, folder, name, entry.hardlink)
        elif entry.kind == FILE:
            self._add_file(entry, folder, name, reader)
        elif entry.kind == SYMLINK:
            self._making(lambda: os.symlink(entry.link, name, dir_fd=folder), path, folder, name)
            self._set_owner_and_time(entry, folder, name)
        else:
            self._add_device(entry, folder, name)

    def finish(self) -> None:
        """Set what had to wait: folders' owners, modes, times and opaque marks, deepest first."""
        for path in sorted(self._folders, reverse=True):
            if path != ".":
                fd = os.open(
                    path.rpartition("/")[2],
                    os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                    dir_fd=self._folder(parent_of(path)),
                )
                with opened(fd):
                    self._finish_folder(fd, path, self._folders[path])
        if "." in self._opaque:
            self._mark_opaque(self._root)
        if "." in self._folders:
            self._finish_folder(self._root, ".", self._folders["."])
        self.close()

    def close(self) -> None:
        """Close the descriptors (again is no error); what was made stays."""
        self._forget_open()
        fd, self._root = self._root, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> TreeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self.close()

    # ── folders ──────────────────────────────────────────────────────────────────────────────────────────

    def _add_root(self, entry: Entry) -> None:
        if entry.kind == OPAQUE:
            self._opaque.add(".")
        elif entry.kind == FOLDER:
            self._folders["."] = entry
        else:
            raise ImageError("a layer replaces the root by something else", code="damaged-archive")

    def _add_folder(self, entry: Entry, folder: int, name: str) -> None:
        path = entry.path
        if path not in self._folders:
            self._make_folder(path, folder, name)
        elif entry.implied:
            return
        self._folders[path] = entry

    def _make_folder(self, path: str, folder: int, name: str) -> None:
        """Make a folder that only we can enter until `finish`; over a removal it hides what was below."""
        try:
            self._places.make_folder(name, folder, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=folder)
                self._places.make_folder(name, folder, 0o700)
        if path in self._gone:
            self._opaque.add(path)

    def _folder(self, path: str) -> int:
        """A descriptor of a folder, made (with what is missing above it) where it is not there.

        It is ours: kept open among the latest, not to be closed, and good until the next call.
        """
        if path == ".":
            return self._root
        if (fd := self._open.get(path)) is not None:
            return fd
        known = path
        while known != "." and known not in self._open:
            known = parent_of(known)
        fd = self._root if known == "." else self._open[known]
        above = "" if known == "." else known
        for name in path[len(above) :].strip("/").split("/"):
            above = f"{above}/{name}" if above else name
            if above not in self._folders:
                self._make_implied(above, fd, name)
            below = os.open(name, _STEP, dir_fd=fd)
            self._keep_open(above, below, fd)
            fd = below
        return fd

    def _make_implied(self, path: str, folder: int, name: str) -> None:
        try:
            kind = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            if not stat.S_ISDIR(kind.st_mode) and not _is_whiteout(kind):
                raise ImageError(
                    f"a layer has paths below {path!r}, which is no folder", code="damaged-archive"
                )
        self._make_folder(path, folder, name)
        self._folders[path] = Entry(path, FOLDER, 0o755, implied=True)

    def _keep_open(self, path: str, fd: int, above: int) -> None:
        """Remember a descriptor; beyond some the oldest is closed, but not the one above."""
        self._open[path] = fd
        if len(self._open) > _MAX_OPEN:
            for oldest, old_fd in self._open.items():
                if old_fd not in (above, fd):
                    del self._open[oldest]
                    os.close(old_fd)
                    return

    def _forget_open(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _finish_folder(self, fd: int, path: str, entry: Entry) -> None:
        if path in self._opaque and path != ".":
            self._mark_opaque(fd)
        self._owning.give(fd, path, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        os.utime(fd, ns=(entry.mtime, entry.mtime))

    def _mark_opaque(self, fd: int) -> None:
        try:
            os.setxattr(fd, self._owning.opaque, b"y")
        except OSError:
            if not self._is_on_overlayfs():
                raise

    def _is_on_overlayfs(self) -> bool:
        return filesystem_type(f"/proc/self/fd/{self._root}") == OVERLAYFS_MAGIC

    # ── everything else ──────────────────────────────────────────────────────────────────────────────────

    def _making(self, make: Callable[[], object], path: str, folder: int, name: str) -> object:
        """Run a call that makes `name`; what is there goes first."""
        try:
            return make()
        except FileExistsError:
            self._clear(path, folder, name)
            return make()

    def _clear(self, path: str, folder: int, name: str) -> None:
        """Remove what an entry replaces, with all that we know of it."""
        remove_at(folder, name)
        if path in self._folders:
            prefix = path + "/"
            for below in [p for p in self._folders if p == path or p.startswith(prefix)]:
                del self._folders[below]
                self._opaque.discard(below)
                if (fd := self._open.pop(below, None)) is not None:
                    os.close(fd)

    def _add_file(self, entry: Entry, folder: int, name: str, reader: Readable | None) -> None:
        with opened(self._new_file(entry.path, folder, name)) as fd:
            if reader is not None:
                _fill(entry, fd, reader)
            elif entry.size:
                raise ValueError(f"no bytes for {entry.path!r}")
            self._owning.give(fd, entry.path, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            for attribute, value in entry.xattrs:
                if attribute == CAPABILITY:
                    self._set_capability(fd, entry.path, value)
            os.utime(fd, ns=(entry.mtime, entry.mtime))

    def _set_capability(self, fd: int, path: str, value: bytes) -> None:
        try:
            self._owning.set_capability(fd, value)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise ImageError(
                f"{path!r} has capabilities that the kernel does not know", code="damaged-archive"
            ) from error

    def _new_file(self, path: str, folder: int, name: str) -> int:
        try:
            return self._places.open_new(name, _NEW_FILE, 0o600, folder)
        except FileExistsError:
            self._clear(path, folder, name)
            return self._places.open_new(name, _NEW_FILE, 0o600, folder)

    def _add_link(self, entry: Entry, folder: int, name: str, target: str) -> None:
        _check(target)
        parent = parent_of(target)
        if (parent != "." and parent not in self._folders) or f"{target}/".startswith(f"{entry.path}/"):
            raise _missing_target(entry)
        with opened(os.dup(folder)) as folder:
            source, source_name = self._folder(parent), target.rpartition("/")[2]
            try:
                if _is_whiteout(os.stat(source_name, dir_fd=source, follow_symlinks=False)):
                    raise _missing_target(entry)
                link = partial(
                    os.link, source_name, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False
                )
                self._making(link, entry.path, folder, name)
            except (FileNotFoundError, PermissionError) as error:  # EPERM: the target is a folder
                raise _missing_target(entry) from error
            except OSError as error:
                if error.errno != errno.EMLINK:
                    raise
                self._copy(entry, folder, name, source, source_name)

    def _copy(self, entry: Entry, folder: int, name: str, source: int, source_name: str) -> None:
        """A file of its own where the file system takes no more links to one."""
        fd = os.open(source_name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        with open(fd, "rb") as reader:
            self._add_file(entry.replace(hardlink=None, digest=None), folder, name, reader)

    def _add_whiteout(self, path: str, folder: int, name: str) -> None:
        """Hide a path of the layers below; where this layer has one, only what a folder held before."""
        self._gone.add(path)
        if path in self._folders:
            self._opaque.add(path)
            return
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=folder)
        except FileExistsError:
            return
        except PermissionError:
            if not self._is_on_overlayfs():
                raise

    def _add_device(self, entry: Entry, folder: int, name: str) -> None:
        if entry.kind == CHAR and entry.device == (0, 0):
            raise ImageError(f"a layer has a device 0:0 at {entry.path!r}", code="damaged-archive")
        if entry.kind == FIFO:
            self._making(lambda: os.mkfifo(name, 0o600, dir_fd=folder), entry.path, folder, name)
        elif self._owning.way == REAL:
            mode, device = _DEVICE_TYPES[entry.kind] | 0o600, os.makedev(*entry.device)
            self._making(lambda: os.mknod(name, mode, device, dir_fd=folder), entry.path, folder, name)
        else:
            self._add_stand_in(entry, folder, name)
            return
        self._set_owner_and_time(entry, folder, name)

    def _add_stand_in(self, entry: Entry, folder: int, name: str) -> None:
        """An empty file for a device that this process may not make."""
        with opened(self._new_file(entry.path, folder, name)) as fd:
            kind, device = _DEVICE_TYPES[entry.kind], os.makedev(*entry.device)
            self._owning.stand_in(fd, entry.path, kind, device, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            os.utime(fd, ns=(entry.mtime, entry.mtime))

    # ── attributes ───────────────────────────────────────────────────────────────────────────────────────

    def _set_owner_and_time(self, entry: Entry, folder: int, name: str) -> None:
        """Owner, mode and time of what cannot be opened: links, devices, fifos."""
        self._owning.give_at(folder, name, entry.path, entry.uid, entry.gid)
        if entry.kind != SYMLINK:
            with opened(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)) as fd:
                os.chmod(f"/proc/self/fd/{fd}", entry.mode)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=folder, follow_symlinks=False)


def _make_root(folder: str, *, many: bool) -> None:
    """Make the folder itself, unless it is there."""
    above, _, name = folder.rpartition("/")
    if many and not os.path.lexists(folder):
        os.makedirs(above or "/", 0o755, exist_ok=True)
        with opened(os.open(above or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
            make_apart(name, fd, 0o755)
    os.makedirs(folder, 0o755, exist_ok=True)


def _check(path: str) -> None:
    """Refuse paths that are not in the form of `snapshots.snapshot`: nothing may leave the folder."""
    if not path or path[0] == "/" or not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise ValueError(f"not a path of a layer: {path!r}")


def _missing_target(entry: Entry) -> ImageError:
    return ImageError(
        f"a layer has a hard link {entry.path!r} to {entry.hardlink!r}, which it does not hold",
        code="damaged-archive",
    )


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _fill(entry: Entry, fd: int, reader: Readable) -> None:
    """Write a file's bytes; they must be what the entry says where it says it.

    Bytes of a known digest are hashed as they enter; others go the fastest way.
    """
    if entry.digest is not None:
        hexadecimal, size = copy_hashing(reader, fd)
        fits = entry.digest == "sha256:" + hexadecimal
    elif entry.size >= _LARGE and (clone := getattr(reader, "clone_into", None)) and clone(fd):
        return
    else:
        source = regular_file(reader)
        size = copy_file(source, fd) if source is not None else copy_stream(reader, fd)
        fits = True
    if not fits or size != entry.size:
        raise BuildError(f"{entry.path!r} changed during the build", code="changed-during-build")


def regular_file(reader: Readable) -> int | None:
    """The descriptor of a reader that is a whole regular file, for copies inside the kernel."""
    fileno = getattr(reader, "fileno", None)
    if fileno is None:
        return None
    try:
        fd: int = fileno()
        if stat.S_ISREG(os.fstat(fd).st_mode) and os.lseek(fd, 0, os.SEEK_CUR) == 0:
            return fd
    except OSError:
        pass
    return None


def write_tree(
    folder: str | os.PathLike[str],
    entries: Iterable[Entry],
    content: Content,
    *,
    way: str | None = None,
) -> None:
    """Make a folder from entries in canonical order and the bytes that `content` opens; see TreeWriter.

    Raises BuildError (changed-during-build) where bytes are not what their entry says.
    """
    entries = list(entries)
    with TreeWriter(folder, way=way, many=len(entries) >= MANY) as tree:
        links: list[Entry] = []
        for entry in entries:
            if entry.hardlink is not None:
                links.append(entry)
            elif entry.kind == FILE and entry.size:
                with content(entry) as stream:
                    tree.add(entry, stream)
            else:
                tree.add(entry)
        for entry in links:
            tree.add(entry)


def no_content(entry: Entry) -> BinaryIO:
    """The content of entries that have none: nobody asks for it."""
    raise KeyError(entry.path)
