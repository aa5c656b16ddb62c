"""What tells a layer from one that the same instruction made before: most often, next to nothing.

The one idea: a COPY of two thousand files of which one has changed need not write two thousand files. Its
folder is the earlier layer's with a small one laid over it, which holds what differs, the folders on the way
to that, and whiteouts of what is no more; both are lower folders of an overlay. `compare` tells what the
small one holds, `fits_over` where the two show just what a whole folder would show.

What a step could see of it is what would differ: so names of one file (hard links) are all in one of the
two folders, what changed its kind is no case for this, and a whiteout may only lie where nothing lies below
(it would hide that, too). A folder that lies in both has the link count that overlayfs gives to merged ones.

Pure: entries in, entries out. Must never know: stores, disks, instructions.
"""

from __future__ import annotations

from builder.snapshots.snapshot import FILE, FOLDER, OPAQUE, WHITEOUT, Entry, order, parent_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from builder.snapshots.tree import Tree

WORTH = 64  # of `weight`: what is less is written in no time
SHARE = 4  # a small folder has at most this part of the whole one's weight
BYTES = 1 << 17  # that weigh as much as the making of a file


class Delta:
    """rows: the layer's entries, in order, those that are the same being the earlier layer's own (with their
    digests); changed: the paths of the others; small: what the small folder holds; removed: the outermost
    paths that only the earlier layer has. Paths in `small` that are in neither are folders on the way."""

    __slots__ = ("changed", "removed", "rows", "small")

    def __init__(
        self, rows: list[Entry], changed: set[str], removed: tuple[str, ...], small: list[Entry]
    ) -> None:
        self.rows = rows
        self.changed = changed
        self.removed = removed
        self.small = small

    @property
    def is_nothing(self) -> bool:
        """Whether the two layers are the same."""
        return not self.changed and not self.removed

    @property
    def is_worth_it(self) -> bool:
        """Whether the small folder spares most of the work of making the whole one."""
        whole = weight(self.rows)
        return whole >= WORTH and weight(self.small) * SHARE <= whole


def compare(rows: Sequence[Entry], earlier: Sequence[Entry], *, now: int | None = None) -> Delta | None:
    """What tells a layer's entries from an earlier layer's, both in canonical order.

    Files of equal digests are equal; one without a digest is new. `now`: the time that was given to what has
    none of its own: where that alone differs, the earlier time stays. None where a delta cannot tell it: a
    path became another kind of thing, or one of the layers removes something.
    """
    old = {entry.path: entry for entry in earlier}
    if any(entry.kind in (WHITEOUT, OPAQUE) for entry in earlier):
        return None
    result: list[Entry] = []
    changed: set[str] = set()
    for row in rows:
        there = old.get(row.path)
        if row.kind in (WHITEOUT, OPAQUE) or (there is not None and there.kind != row.kind):
            return None
        if there is not None and is_same(row, there, now):
            result.append(there)
        else:
            result.append(row)
            changed.add(row.path)
    gone = old.keys() - {row.path for row in rows}
    if "." in gone:
        return None
    _add_links(result, earlier, changed, gone)
    removed = tuple(path for path in gone if parent_of(path) not in gone)
    return Delta(result, changed, removed, _small(result, changed, removed))


def fits_over(removed: Iterable[str], below: Tree) -> bool:
    """Whether the whiteouts of a small folder hide nothing but the earlier layer's own over `below`."""
    return all(below.get(path) is None for path in removed)


def removed_paths(rows: Sequence[Entry], earlier: Sequence[Entry]) -> tuple[str, ...]:
    """`Delta.removed` of two layers of which one lies over the other."""
    kept = {row.path for row in rows}
    gone = {entry.path for entry in earlier if entry.path not in kept}
    return tuple(path for path in gone if parent_of(path) not in gone)


def weight(entries: Iterable[Entry]) -> int:
    """What making a folder of them costs, in files."""
    return sum(1 + (entry.size // BYTES if entry.hardlink is None else 0) for entry in entries)


def is_same(row: Entry, there: Entry, now: int | None = None) -> bool:
    """Whether all that can be seen of two entries of one path and kind is the same; `now` as of `compare`."""
    if row is there:
        return True
    if row.mtime != there.mtime and (now is None or row.mtime != now or row.kind not in (FOLDER, FILE)):
        return False
    return (
        row.digest == there.digest
        and (row.digest is not None or row.kind != FILE or row.size == 0 or row.hardlink is not None)
        and row.size == there.size
        and row.mode == there.mode
        and row.uid == there.uid
        and row.gid == there.gid
        and row.hardlink == there.hardlink
        and row.link == there.link
        and row.xattrs == there.xattrs
        and row.device == there.device
        and row.implied == there.implied
    )


def _add_links(rows: Sequence[Entry], earlier: Sequence[Entry], changed: set[str], gone: set[str]) -> None:
    """Take all names of a file into `changed` where one of them is, or where they are not those it had."""
    now, before = _names(rows), _names(earlier)
    if not now and not before:
        return
    for first in now.keys() | before.keys():
        names, former = now.get(first, set()), before.get(first, set())
        if names != former or not changed.isdisjoint(names):
            changed |= (names | former) - gone


def _names(entries: Iterable[Entry]) -> dict[str, set[str]]:
    """Of each file with several names, by the first: all names."""
    found: dict[str, set[str]] = {}
    for entry in entries:
        if entry.hardlink is not None:
            found.setdefault(entry.hardlink, {entry.hardlink}).add(entry.path)
    return found


def _small(rows: Sequence[Entry], changed: set[str], removed: Iterable[str]) -> list[Entry]:
    """The entries of the small folder, in order."""
    wanted = set(changed)
    for path in (*changed, *removed):
        while (path := parent_of(path)) != "." and path not in wanted:
            wanted.add(path)
    small = [row for row in rows if row.path in wanted]
    whiteouts = [Entry(path, WHITEOUT) for path in removed]
    return sorted([*small, *whiteouts], key=lambda entry: order(entry.path)) if whiteouts else small
