"""A canvas: a tree with changes going onto it, one after the other, and the layer that they come to.

Later changes see earlier ones, as if each were written to disk. `finish` tells the difference to what is
below: nothing that is equal, all parent folders of what is not, whiteouts for what was taken out and is
not covered by a file. Those names of one file that are in the layer stay names of one file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from builder.errors import BuildError
from builder.snapshots.selection import bytes_of, capability_of
from builder.snapshots.snapshot import (
    BLOCK,
    CHAR,
    FIFO,
    FILE,
    FOLDER,
    SYMLINK,
    WHITEOUT,
    Entry,
    LayerId,
    order,
    parent_of,
)
from builder.snapshots.tree import Node, TooManyLinks, Tree, resolve

if TYPE_CHECKING:
    from builder.snapshots.selection import DigestOf

Origin = tuple[LayerId, Entry] | bytes | None
SET_GROUP_ID = 0o2000
MAX_NAME = 255  # bytes; NAME_MAX of limits.h
KINDS = {
    FILE: "a file", FOLDER: "a folder", SYMLINK: "a symbolic link", CHAR: "a device", BLOCK: "a device",
    FIFO: "a pipe",
}  # fmt: skip


class Planned(msgspec.Struct, frozen=True):
    """An entry of a layer to be, and where a FILE's bytes are: an entry of a layer, or the bytes.

    Further names of a file (`entry.hardlink`) and all that is no FILE have no origin.
    """

    entry: Entry
    origin: Origin


class _Draft:
    """What a path became; drafts of one `inode` are names of one file."""

    __slots__ = ("entry", "inode", "origin")

    def __init__(self, entry: Entry, origin: Origin, inode: object) -> None:
        self.entry = entry
        self.origin = origin
        self.inode = inode


class Canvas:
    """`below` with changes. Paths are those of entries; parents must be there before what they hold.

    touched: mtime in nanoseconds of folders in which names came or went, as a disk would give them; None
    keeps what they had, so that the same COPY gives the same layer at any time.
    """

    def __init__(self, below: Tree, digest_of: DigestOf, touched: int | None = None) -> None:
        self._below = below
        self._digest_of = digest_of
        self._touched = touched
        self._times: dict[str, int] = {}  # of folders: where it is not what their entry says
        self._drafts: dict[str, _Draft | None] = {}  # None: taken out
        self._names: dict[object, list[str]] = {}  # by inode, also names that became something else

    def get(self, path: str) -> Entry | None:
        """What is at this path now, no symlink followed; the root may be implied."""
        if path in self._drafts:
            draft = self._drafts[path]
            return draft.entry if draft is not None else None
        return self._below.get(path)

    def is_folder(self, path: str) -> bool:
        """Whether a folder is at this very path; the root always is one."""
        entry = self.get(path)
        return path == "." or (entry is not None and entry.kind == FOLDER)

    def resolve(self, path: str) -> str:
        """Where a path leads, symlinks followed; raises BuildError for a circle of them and a long name."""
        for name in path.split("/"):
            if len(name) > MAX_NAME // 4 and len(name.encode("utf-8", "surrogateescape")) > MAX_NAME:
                raise BuildError(
                    f"a file name has more than {MAX_NAME} bytes: {name[:60]}…", code="name-too-long"
                )
        try:
            return resolve(path, self.get)
        except TooManyLinks as error:
            raise BuildError(f"too many symbolic links on the way to '{path}'", code="link-loop") from error

    def make_folders(self, path: str, mode: int, owner: tuple[int, int] | None, now: int) -> None:
        """Make the folders that are missing down to `path` (resolved); raises BuildError at a file.

        In a set-group-ID folder they are so too and, without an `owner`, of its group, as mkdir(2) has it.
        """
        missing: list[str] = []
        while not self.is_folder(path):
            if (entry := self.get(path)) is not None:
                raise BuildError(
                    f"cannot make a folder of '{shown(path)}': it is {KINDS[entry.kind]}", code="not-a-folder"
                )
            missing.append(path)
            path = parent_of(path)
        if missing and (above := self.get(path)) is not None and above.mode & SET_GROUP_ID:
            mode |= SET_GROUP_ID
            owner = owner or (0, above.gid)
        for path in reversed(missing):
            self.put(Entry(path, FOLDER, mode, *(owner or (0, 0)), 0, now), None)

    def put_folder(self, entry: Entry) -> None:
        """A folder, new or with new attributes; raises BuildError where something else is."""
        there = self.get(entry.path)
        if there is not None and there.kind != FOLDER:
            raise BuildError(
                f"cannot copy a folder onto '{shown(entry.path)}': it is {KINDS[there.kind]}",
                code="not-a-folder",
            )
        self.put(entry, None)

    def put_file(self, entry: Entry, origin: Origin, inode: object = None) -> None:
        """Anything but a folder, in place of what is there; raises BuildError where that is a folder."""
        if self.is_folder(entry.path):
            raise BuildError(
                f"cannot copy {KINDS[entry.kind]} onto '{shown(entry.path)}': it is a folder",
                code="is-a-folder",
            )
        self.put(entry, origin, inode)

    def put(self, entry: Entry, origin: Origin, inode: object = None) -> None:
        """An entry in place of one of the same kind, or of none that holds others.

        Raises BuildError for a device 0:0, by which overlayfs tells that something was removed: in a layer it
        would hide what is below it.
        """
        if entry.kind == CHAR and entry.device == (0, 0):
            raise BuildError(
                f"cannot make '{shown(entry.path)}': a device 0:0 is the removal of a file to an image",
                code="removal-device",
                hint="leave it out, by .dockerignore or --exclude",
            )
        if entry.kind != FOLDER or not self.is_folder(entry.path):
            self._touch(parent_of(entry.path))
        self._times.pop(entry.path, None)
        self._drafts[entry.path] = _Draft(entry, origin, inode)
        if inode is not None:
            self._names.setdefault(inode, []).append(entry.path)

    def stamp(self, path: str, mtime: int) -> None:
        """Give a folder a time, for good if nothing in it changes after this. That alone is no change."""
        self._times[path] = mtime

    def _touch(self, folder: str) -> None:
        if self._touched is not None:
            self._times[folder] = self._touched

    def remove(self, path: str) -> None:
        """Take out a path and all below it."""
        if self.is_folder(path):
            inside = path + "/"
            for other in [other for other in self._drafts if other.startswith(inside)]:
                self._drafts[other] = None
            pending = list(self._below.children_map().get(path, ()))
            while pending:
                gone = pending.pop()
                self._drafts[gone] = None
                pending.extend(self._below.children_map().get(gone, ()))
        self._drafts[path] = None
        self._times.pop(path, None)
        self._touch(parent_of(path))

    def link(self, first: str, entry: Entry) -> None:
        """Make `entry` a further name of the file at `first`, all names taking its mode, owner and time."""
        draft = self._drafts.get(first)
        if draft is None:
            node = self._below.nodes[first]
            draft = _Draft(node.entry, (node.layer, bytes_of(self._below, node)), None)
            self._drafts[first] = draft
        if draft.inode is None:
            draft.inode = object()
            self._names[draft.inode] = [first]
        for name in self._names[draft.inode]:
            if (other := self._drafts.get(name)) is not None and other.inode == draft.inode:
                other.entry = other.entry.replace(
                    mode=entry.mode, uid=entry.uid, gid=entry.gid, mtime=entry.mtime, hardlink=None
                )
        self.put(draft.entry.replace(path=entry.path), draft.origin, draft.inode)

    def finish(self, now: int) -> list[Planned]:
        """The layer, sorted, folders before what they hold; `now` is for folders that are only implied."""
        drafts = {path: draft for path, draft in self._drafts.items() if draft is not None}
        changed = {path for path, draft in drafts.items() if not self._is_same(path, draft)}
        first_names: dict[str, str] = {}
        for names in self._names_of_files(drafts):
            new = [name for name in names if name in changed]
            first_names.update((name, new[0]) for name in new[1:])
        # In the order of the drafts, which are mostly sorted.
        layer = [self._planned(drafts[path], first_names.get(path)) for path in drafts if path in changed]
        whiteouts = self._whiteouts()
        layer += [Planned(Entry(path, WHITEOUT), None) for path in whiteouts]
        layer += [Planned(self._parent(path, now), None) for path in _parents(changed, whiteouts)]
        return sorted(layer, key=lambda planned: order(planned.entry.path))

    def _planned(self, draft: _Draft, first_name: str | None) -> Planned:
        if first_name is not None:
            return Planned(draft.entry.replace(hardlink=first_name), None)
        return Planned(self._timed(draft.entry), draft.origin)

    def _timed(self, entry: Entry) -> Entry:
        if entry.kind == FOLDER and (time := self._times.get(entry.path)) is not None:
            return entry.replace(mtime=time)
        return entry

    def _parent(self, path: str, now: int) -> Entry:
        entry = self.get(path)
        if entry is None:
            return self._timed(Entry(path, FOLDER, 0o755, 0, 0, 0, now))
        return self._timed(entry.replace(implied=False) if entry.implied else entry)

    def _whiteouts(self) -> list[str]:
        """What was taken out of folders that are still there and were below."""
        return [
            path
            for path, draft in self._drafts.items()
            if draft is None and self._below.get(path) is not None and self._is_old_folder(parent_of(path))
        ]

    def _is_old_folder(self, path: str) -> bool:
        below = self._below.get(path)
        return self.is_folder(path) and (path == "." or (below is not None and below.kind == FOLDER))

    def _names_of_files(self, drafts: dict[str, _Draft]) -> Iterator[list[str]]:
        """The sorted names of each file that has several."""
        for file, paths in self._names.items():
            if len(paths) == 1:
                continue
            names = {path for path in paths if path in drafts and drafts[path].inode == file}
            if len(names) > 1:
                yield sorted(names, key=order)

    def _is_same(self, path: str, draft: _Draft) -> bool:
        """Whether the draft is what is below already. Of a folder, its time alone is no change."""
        node = self._below.nodes.get(path)
        if node is None:
            return False
        new, old = draft.entry, node.entry
        if new is old:
            return True
        if (new.kind, new.uid, new.gid, new.link, new.device) != (
            old.kind, old.uid, old.gid, old.link, old.device
        ):  # fmt: skip
            return False
        if new.kind != SYMLINK and new.mode != old.mode:
            return False
        if capability_of(new) != capability_of(old):
            return False
        if new.kind == FOLDER:
            return True
        if new.mtime != old.mtime or (new.kind == FILE and new.size != old.size):
            return False
        return new.kind != FILE or self._same_bytes(draft, node)

    def _same_bytes(self, draft: _Draft, node: Node) -> bool:
        there = bytes_of(self._below, node)
        origin = draft.origin
        if isinstance(origin, tuple) and origin[0] == node.layer and origin[1].path == there.path:
            return True
        if draft.entry.digest is None and isinstance(origin, tuple):
            draft.entry.digest = self._digest_of(*origin)
        return draft.entry.digest == (there.digest or self._digest_of(node.layer, there))


def join(folder: str, name: str) -> str:
    """The path of `name` (maybe itself a path) in a folder."""
    if folder == ".":
        return name
    return folder if name == "." else f"{folder}/{name}"


def shown(path: str) -> str:
    """A path as people know it."""
    return "/" if path == "." else "/" + path


def _parents(changed: Iterable[str], whiteouts: Iterable[str]) -> list[str]:
    """The folders above these paths, but for the root, that are not among them."""
    known = {*changed, *whiteouts, "."}
    parents: list[str] = []
    for path in [*changed, *whiteouts]:
        parent = parent_of(path)
        while parent not in known:
            known.add(parent)
            parents.append(parent)
            parent = parent_of(parent)
    return parents
