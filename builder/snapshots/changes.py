"""What a RUN changed: an overlay's upper folder, compared with the tree below, as a layer's entries.

Three passes. `read` walks the upper folder, whose content is hostile: by descriptors, following nothing.
`compare` decides, from what was read and the tree below alone (the bytes of a file are asked for only
where all that is cheap to know is equal). `tidy` makes the folder hold just what was decided, so that it
can serve as the layer's unpacked form. Between the first two, `own` tells whose those paths are that carry no
record of their owner.

The rules (design, "Commit of a RUN"): what is equal to what is below is left out, as is a folder with no
other change than its time; a change brings its parents; a deletion is one whiteout, and a folder that was
made anew is one whiteout for each child that it lost, never an opaque marker; what of a file's names is new
stays linked, but not to a name that is as it was, which is left out, if its folder was not made anew; sockets
go; of the xattrs security.capability stays.

Overlay's spelling of deletions is known here and in `unpack`, nowhere else. Must never know: stores,
mounts, tars.
"""

from __future__ import annotations

import errno
import os
import stat

from builder.errors import BuildError
from builder.fs.ownership import RECORDED, STAT_XATTR
from builder.fs.owning import Owning
from builder.fs.remove import remove_at
from builder.fs.rooted import open_folder, opened
from builder.fs.walk import CAPABILITY, Found, walk
from builder.libc import OVERLAYFS_MAGIC, filesystem_type
from builder.snapshots.reading import entry_of
from builder.snapshots.snapshot import (
    BLOCK,
    CHAR,
    FIFO,
    FILE,
    FOLDER,
    SYMLINK,
    WHITEOUT,
    Entry,
    order,
    parent_of,
)
from builder.snapshots.tree import TooManyLinks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from builder.snapshots.clamp import Clamp
    from builder.snapshots.tree import Node, Tree

    # What was made for a step: a mount point, or a file as it was laid there.
    Stub = str | Entry

    # Whether the file at this path of the upper folder has the bytes of that node.
    SameBytes = Callable[[str, Node], bool]

PATH_MAX = 4096
KEPT_FOLDERS = ("dev", "proc", "sys")  # made for a RUN, these stay in the image (as BuildKit leaves them)

_DEVICES = {CHAR: stat.S_IFCHR, BLOCK: stat.S_IFBLK}

# xattrs that a layer's folder must not hand on; others (security.selinux...) are the machine's own.
_FOREIGN = ("user.", "trusted.", "system.posix_acl_")


class Upper:
    """What was read of an upper folder.

    entries: path -> entry, whiteouts included, in order; links: path -> first path of the same file, of
    further names alone; hidden: folders under which nothing of the tree below shows, of which those in
    `marked` say so by the xattr for it; dropped: paths that make no entry (sockets); stripped: path ->
    the names of xattrs that do not stay; records: path -> its record of an owner (`fs.ownership`);
    missing: paths that were below and are not here, where the folder shows all that is there; others: paths
    of such a folder that are as they were below.
    """

    __slots__ = (
        *("dropped", "entries", "hidden", "links", "marked", "missing", "others", "owning", "records"),
        "stripped",
    )

    def __init__(self, owning: Owning) -> None:
        self.owning = owning
        self.records: dict[str, bytes] = {}
        self.entries: dict[str, Entry] = {}
        self.links: dict[str, str] = {}
        self.hidden: set[str] = set()
        self.marked: set[str] = set()
        self.dropped: set[str] = set()
        self.missing: set[str] = set()
        self.others: list[str] = []
        self.stripped: dict[str, list[str]] = {}


def read(upper_fd: int, owning: Owning) -> Upper:
    """Read an upper folder, whose owners are kept as `owning` says.

    Raises OSError, and BuildError for a path that is too long to be used.
    """
    upper = Upper(owning)
    for found in walk(upper_fd, file_xattrs=None, folder_xattrs=None):
        check_length(found.path)
        if found.path != ".":
            note(upper, found)
    return upper


def check_length(path: str) -> None:
    """Raise BuildError for a path that is too long to be used."""
    if len(os.fsencode(path)) >= PATH_MAX:
        raise BuildError(
            f"the step made a path of more than {PATH_MAX - 1} bytes: {path[:60]}…", code="path-too-long"
        )


def own(upper: Upper, below: Tree, owners: Mapping[str, tuple[int, int]]) -> None:
    """Give symlinks and fifos, which can carry no record, the owner that `owners` tells (path -> uid, gid),
    or what was there before them had, where owners are recorded."""
    if upper.owning.way != RECORDED:
        return
    for path, entry in upper.entries.items():
        if entry.kind in (SYMLINK, FIFO):
            was = below.get(path)
            if (told := owners.get(path)) is not None:
                entry.uid, entry.gid = told
            elif was is not None and (was.kind, was.link) == (entry.kind, entry.link):
                entry.uid, entry.gid = was.uid, was.gid


def compare(
    upper: Upper,
    below: Tree,
    stubs: Iterable[Stub],
    same_bytes: SameBytes,
    clamp: Clamp | None = None,
) -> list[Entry]:
    """The layer's entries, in order, with times as `clamp` has them.

    stubs: mount points of the step (absolute paths); where they were not below and nothing was written
    to them, they were made for the mounts and are left out, with parents made likewise; so are files that
    were laid for the step (entries) and are as they were.
    """
    here = {path: entry for path, entry in upper.entries.items() if entry.kind != WHITEOUT}
    _leave_out_stubs(here, below, stubs)
    if clamp is not None:
        clamp.apply(here.values())
    gone = _find_gone(upper, here, below)
    changed = {path for path, entry in here.items() if not _is_same(entry, below.nodes.get(path), same_bytes)}
    if upper.links and upper.hidden:  # there one name of a file brings all that it has
        firsts = {upper.links.get(path, path) for path in changed}
        anew = (path for path in here if parent_of(path) in upper.hidden)
        changed.update(path for path in anew if upper.links.get(path, path) in firsts)
    wanted = changed | parents(changed | gone)
    entries = _link((entry for path, entry in here.items() if path in wanted), upper.links)
    if gone:
        entries.extend(Entry(path, WHITEOUT) for path in gone)
        entries.sort(key=lambda entry: order(entry.path))
    return entries


def tidy(upper_fd: int, upper: Upper, entries: Iterable[Entry], below: Tree) -> None:
    """Make the upper folder hold the entries and nothing else; folders keep their times. Raises OSError."""
    wanted = {entry.path: entry for entry in entries}
    touched = _remove_unwanted(upper_fd, upper, wanted)
    for path, entry in wanted.items():
        there = upper.entries.get(path)
        if entry.kind == WHITEOUT and (there is None or there.kind != WHITEOUT):
            _make_whiteout(upper_fd, path)
            touched.add(parent_of(path))
            continue
        if path in upper.stripped:
            _strip(upper_fd, path, upper.stripped[path])
        if entry.kind in (FILE, FOLDER, CHAR, BLOCK):
            _settle_record(upper_fd, upper, entry)
    for path in upper.marked:
        # Over nothing, the mark hides nothing and spares the kernel a look: it stays.
        if path in wanted and (node := below.nodes.get(path)) and node.entry.kind == FOLDER:
            _strip(upper_fd, path, [upper.owning.opaque])
    for path in touched & wanted.keys():
        with opened(open_folder(upper_fd, path)) as fd:
            os.utime(fd, ns=(wanted[path].mtime, wanted[path].mtime))


def note(upper: Upper, found: Found, *, marks: bool = True) -> None:
    """Take one path of a walk that asked for all xattrs into `upper`. marks: whether folders may be marked
    as hiding what is below them; else that is one more xattr that does not stay."""
    path = found.path
    entry = entry_of(found, upper.owning)
    if entry is None:
        upper.dropped.add(path)
        return
    upper.entries[path] = entry
    if entry.kind == WHITEOUT:
        return
    xattrs = dict(found.xattrs)
    if (noted := xattrs.pop(STAT_XATTR, None)) is not None:
        upper.records[path] = noted
    if entry.kind == FOLDER:
        if marks and xattrs.pop(upper.owning.opaque, b"") == b"y":
            upper.marked.add(path)
            upper.hidden.add(path)
        elif parent_of(path) in upper.hidden:
            upper.hidden.add(path)
    if names := [name for name in xattrs if name.startswith(_FOREIGN)]:
        upper.stripped[path] = names
    if entry.hardlink is not None:
        upper.links[path] = entry.hardlink
        entry.hardlink = None


def _leave_out_stubs(here: dict[str, Entry], below: Tree, stubs: Iterable[Stub]) -> None:
    """Take from `here` what was made for the step alone and left as it was."""
    made: set[str] = set()
    laid: dict[str, Entry] = {}
    for stub in stubs:
        if isinstance(stub, Entry):
            laid[stub.path] = stub
        try:
            path = below.resolve(stub.path if isinstance(stub, Entry) else stub)
        except TooManyLinks:
            continue
        while path not in (".", *KEPT_FOLDERS) and below.get(path) is None:
            made.add(path)
            path = parent_of(path)
    if not made:
        return
    holding = {parent_of(path) for path in here if path not in made}
    for path in sorted(made, key=order, reverse=True):
        entry = here.get(path)
        if entry is None:
            continue
        is_stub = entry.size == 0 or (path in laid and _is_as_laid(entry, laid[path]))
        if (entry.kind == FILE and is_stub) or (entry.kind == FOLDER and path not in holding):
            del here[path]
        else:
            holding.add(parent_of(path))


def _is_as_laid(entry: Entry, laid: Entry) -> bool:
    """Whether a file is the one that was there when the step began."""
    now, then = (entry.size, entry.mtime, entry.mode), (laid.size, laid.mtime, laid.mode)
    return now == then and (entry.uid, entry.gid) == (laid.uid, laid.gid)


def _find_gone(upper: Upper, here: dict[str, Entry], below: Tree) -> set[str]:
    """The paths that were below and are no more, outermost only."""
    gone = {path for path, entry in upper.entries.items() if entry.kind == WHITEOUT}
    gone |= upper.dropped | upper.missing
    gone = {path for path in gone if below.get(path) is not None}
    for path in upper.hidden:
        node = below.nodes.get(path)
        if path in here and node is not None and node.entry.kind == FOLDER:
            gone.update(child for child in below.children(path) if child not in here)
    return gone


def _is_same(entry: Entry, node: Node | None, same_bytes: SameBytes) -> bool:
    """Whether a path is as it was below; of a folder, its time does not count."""
    if node is None:
        return False
    was = node.entry
    if entry.kind != was.kind or entry.uid != was.uid or entry.gid != was.gid:
        return False
    if entry.kind == SYMLINK:
        return entry.link == was.link and entry.mtime == was.mtime
    if entry.kind == FOLDER:
        return entry.mode == was.mode
    if entry.mode != was.mode or entry.mtime != was.mtime or entry.device != was.device:
        return False
    if entry.kind != FILE:
        return True
    if entry.size != was.size or entry.xattrs != tuple(x for x in was.xattrs if x[0] == CAPABILITY):
        return False
    return entry.size == 0 or same_bytes(entry.path, node)


def parents(paths: Iterable[str]) -> set[str]:
    """All folders on the way to the paths, but the root."""
    found: set[str] = set()
    for path in paths:
        while (path := parent_of(path)) != "." and path not in found:
            found.add(path)
    return found


def _link(entries: Iterable[Entry], links: dict[str, str]) -> list[Entry]:
    """The entries, each further name of a file pointing to the first name among them."""
    if not links:
        return list(entries)
    leaders: dict[str, str] = {}
    linked = []
    for entry in entries:
        leader = leaders.setdefault(links.get(entry.path, entry.path), entry.path)
        linked.append(entry if leader == entry.path else entry.replace(hardlink=leader))
    return linked


def _remove_unwanted(upper_fd: int, upper: Upper, wanted: dict[str, Entry]) -> set[str]:
    """Remove what is in the folder and not wanted; the folders that were touched."""
    touched: set[str] = set()
    removed: set[str] = set()
    for path in (*upper.entries, *upper.dropped, *upper.others):
        there, entry = upper.entries.get(path), wanted.get(path)
        if there is not None and entry is not None and there.kind == entry.kind:
            continue
        if parent_of(path) not in removed:
            with opened(open_folder(upper_fd, parent_of(path))) as fd:
                remove_at(fd, path.rpartition("/")[2])
            touched.add(parent_of(path))
        removed.add(path)
    return touched


def _make_whiteout(upper_fd: int, path: str) -> None:
    """On overlayfs there can be none, and nobody mounts such a folder: the layer's index has them."""
    with opened(open_folder(upper_fd, parent_of(path))) as fd:
        try:
            os.mknod(path.rpartition("/")[2], stat.S_IFCHR, os.makedev(0, 0), dir_fd=fd)
        except PermissionError:
            if filesystem_type(f"/proc/self/fd/{fd}") != OVERLAYFS_MAGIC:
                raise


def _settle_record(upper_fd: int, upper: Upper, entry: Entry) -> None:
    """Let a file or folder carry the record that its entry calls for, whatever the step wrote there."""
    kind = _DEVICES.get(entry.kind, 0)
    right = upper.owning.record_for(entry.uid, entry.gid, kind, os.makedev(*entry.device))
    if upper.records.get(entry.path) == right:
        return
    if right is None:
        _strip(upper_fd, entry.path, [STAT_XATTR])
        return
    with opened(open_folder(upper_fd, parent_of(entry.path))) as fd:
        place = f"/proc/self/fd/{fd}/{entry.path.rpartition('/')[2]}"
        os.setxattr(place, STAT_XATTR, right, follow_symlinks=False)


def _strip(upper_fd: int, path: str, names: Iterable[str]) -> None:
    """Remove xattrs. The file system may guard some that nobody but itself sets: those stay."""
    with opened(open_folder(upper_fd, parent_of(path))) as fd:
        place = f"/proc/self/fd/{fd}/{path.rpartition('/')[2]}"
        for name in names:
            try:
                os.removexattr(place, name, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM):
                    raise
