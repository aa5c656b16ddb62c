"""A step's root where overlayfs is refused: a copy of the snapshot, and afterwards what changed in it.

The one idea: the copy is compared with itself. What is cheap to know of every path (inode, times, size,
mode) is kept when the copy is made; a path of which all of that is as it was has not been touched, as a
step cannot set an inode's change time. All others are suspects, and `changes` decides about them as it does
about what an overlay holds: by what the tree below says, and by bytes where that is not enough. So both
come to the same layer.

Files are copied by the cheapest way that keeps them apart (reflink, copy_file_range), never by hard links to
the store. Names of one file stay names of one file; an overlay would part them on the first write.

Must never know: stores, mounts, tars.
"""

from __future__ import annotations

import os
import stat

from builder.fs.walk import walk
from builder.snapshots import changes
from builder.snapshots.snapshot import FILE, FOLDER, Entry, parent_of
from builder.snapshots.unpack import write_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

    from builder.fs.owning import Owning
    from builder.fs.walk import Found
    from builder.snapshots.changes import Upper
    from builder.snapshots.snapshot import LayerId
    from builder.snapshots.tree import Tree

    Open = Callable[[LayerId, Entry], BinaryIO]

CLOCK = "clock"


class Copied:
    """What a copy looked like when it was made: path -> facts; `until`: the change time (ns) from which on
    a change may be one that the facts do not show, as the clock of a file system ticks in steps."""

    __slots__ = ("facts", "until")

    def __init__(self, facts: dict[str, tuple[int, ...]], until: int) -> None:
        self.facts = facts
        self.until = until

    def is_untouched(self, found: Found) -> bool:
        """Whether a path is for sure as it was copied."""
        facts = self.facts.get(found.path)
        return facts == _facts(found.status) and found.status.st_ctime_ns < self.until


def copy(folder: str | os.PathLike[str], tree: Tree, top: str, open_file: Open, way: str) -> str:
    """Make the folder (which may exist, empty) hold what the tree has below the folder `top`, with the
    owner and mode of that; a `top` that is no folder is in it by its last name. Returns the path in the
    folder of what `top` was. Raises OSError, BuildError.
    """
    start = tree.get(top)
    above = top if start is None or start.kind == FOLDER else parent_of(top)
    entries, sources = _entries_below(tree, top, above)

    def content(entry: Entry) -> BinaryIO:
        node = tree.nodes[sources[entry.path]]
        return open_file(node.layer, node.entry)

    write_tree(folder, entries, content, way=way)
    return "." if above == top else top.rpartition("/")[2]


def look(folder_fd: int, scratch: str | os.PathLike[str]) -> Copied:
    """What the copy looks like now. `scratch`: a folder on the same file system. Raises OSError."""
    facts = {found.path: _facts(found.status) for found in walk(folder_fd, file_xattrs=())}
    clock = os.path.join(scratch, CLOCK)
    os.close(os.open(clock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return Copied(facts, os.stat(clock).st_ctime_ns)


def read(folder_fd: int, copied: Copied, below: Tree, owning: Owning) -> Upper:
    """What changed since `look`, as if it had been read of an overlay's upper folder.

    Raises OSError, and BuildError for a path that is too long to be used.
    """
    upper = changes.Upper(owning)
    kept: list[Found] = []  # folders, and what may have changed
    suspects: set[str] = set()
    folders: set[str] = set()
    there: list[str] = []
    for found in walk(folder_fd, file_xattrs=None, folder_xattrs=None):
        changes.check_length(found.path)
        is_folder = stat.S_ISDIR(found.status.st_mode)
        if is_folder:
            folders.add(found.path)
        if found.path == ".":
            continue
        there.append(found.path)
        untouched = copied.is_untouched(found)
        if is_folder or not untouched:
            kept.append(found)
        if not untouched:
            suspects.add(found.path)
    upper.missing = _find_missing(below, set(there), folders)
    needed = suspects | changes.parents(suspects | upper.missing)
    for found in kept:
        if found.path in needed:
            changes.note(upper, found, marks=False)
    upper.others = [path for path in there if path not in upper.entries and path not in upper.dropped]
    return upper


def _facts(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_mode


def _find_missing(below: Tree, there: set[str], folders: set[str]) -> set[str]:
    """The paths of the tree below that are not there, outermost only."""
    return {path for path in below.nodes if path not in there and path != "." and parent_of(path) in folders}


def _entries_below(tree: Tree, top: str, above: str) -> tuple[Iterable[Entry], dict[str, str]]:
    """Entries for a copy of what is at and below `top` into what stands for `above`, and the path in the
    tree of each. What were names of one file in its layer are so in the copy."""
    offset = 0 if above == "." else len(above) + 1
    entries, sources = [], {}
    leaders: dict[tuple[str, str], str] = {}
    for entry in tree.walk(top):
        path = entry.path[offset:] if entry.path != above else "."
        if path == "." and entry.implied:
            continue
        changed = entry.replace(path=path, digest=None, implied=False)
        if entry.kind == FILE:
            inode = tree.nodes[entry.path].layer, entry.hardlink or entry.path
            leader = leaders.setdefault(inode, path)
            changed.hardlink = None if leader == path else leader
        entries.append(changed)
        sources[path] = entry.path
    return entries, sources
