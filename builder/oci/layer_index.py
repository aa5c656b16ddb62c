"""The paths of a layer while its tar passes: what is where, after all that came so far.

Keys are canonical paths (every folder on the way is a FOLDER of the index), so a name whose parent is in
it as a folder needs no resolving. Memory and time are bounded by what each path weighs (`weight`): members,
folders that are only implied, links that are followed.

Must never know: tar, whiteout names, disks.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from builder.errors import ImageError
from builder.oci.weight import Weight
from builder.snapshots.snapshot import FILE, FOLDER, OPAQUE, SYMLINK, WHITEOUT, Entry, parent_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.fs.copy import Readable
    from builder.oci.layer import Sink

MAX_LINKS = 40
CHUNK = 1 << 18


class LayerIndex:
    """Entries by path, in the order of the tar; each is passed on to the sink as it comes.

    Names that begin with `reserved` cannot come to be by way of a symlink either. consumed: see `weight`.
    """

    def __init__(
        self, sink: Sink | None, reserved: str = "", consumed: Callable[[], int] | None = None
    ) -> None:
        self._sink = sink
        self._reserved = reserved
        self._entries: dict[str, Entry] = {}
        self._children: dict[str, list[str]] = {}
        self._gone: dict[str, None] = {}
        self._opaque: dict[str, None] = {}
        self._groups: dict[str, list[Entry]] = {}
        self._all_groups: list[list[Entry]] = []
        self._weight = Weight(consumed)

    def add(self, entry: Entry) -> None:
        """Take an entry without bytes of its own."""
        self._weight.add(entry.path, len(entry.path) + len(entry.link))
        entry.path = self._place(entry.path)
        if entry.hardlink is not None:
            entry = self._link(entry, entry.hardlink)
        else:
            self._put(entry)
        self._tell(entry, None)

    def add_file(self, entry: Entry, body: Readable) -> None:
        """Take a FILE: the sink reads its bytes (or nobody does), and the entry gets their digest."""
        self._weight.add(entry.path, len(entry.path))
        entry.path = self._place(entry.path)
        self._put(entry)
        hashed = _HashedBody(body)
        self._tell(entry, hashed)
        while hashed.read(CHUNK):
            pass
        entry.digest = "sha256:" + hashed.sha.hexdigest()

    def remove(self, path: str) -> None:
        """Note that a path of the layers below is gone."""
        path = self._place(path)
        if path == ".":
            raise ImageError("the layer removes the root", code="damaged-archive")
        self._weight.add(path, len(path))
        if path not in self._gone:
            self._gone[path] = None
            self._tell(Entry(path, WHITEOUT), None)

    def make_opaque(self, path: str) -> None:
        """Note that all former children of a folder are gone."""
        self._weight.add(path, len(path))
        path = self._folder(path)
        if path not in self._opaque:
            self._opaque[path] = None
            self._tell(Entry(path, OPAQUE), None)

    def finish(self) -> list[Entry]:
        """All entries, unsorted; of each hard link group that is left the first name has the bytes."""
        for group in self._all_groups:
            left = [entry for entry in group if self._entries.get(entry.path) is entry]
            for entry in left:
                entry.hardlink = None if entry is left[0] else left[0].path
        whiteouts = []
        for path in self._gone:
            new = self._entries.get(path)
            if new is None and self._is_folder(parent_of(path)):
                whiteouts.append(Entry(path, WHITEOUT))
            elif new is not None and new.kind == FOLDER:
                new.implied = False
                self._opaque[path] = None
        opaque = [Entry(path, OPAQUE) for path in self._opaque if self._is_folder(path)]
        return [*self._entries.values(), *whiteouts, *opaque]

    def _is_folder(self, path: str) -> bool:
        return path == "." or ((entry := self._entries.get(path)) is not None and entry.kind == FOLDER)

    def _tell(self, entry: Entry, reader: Readable | None) -> None:
        if self._sink is not None:
            self._sink.add(entry, reader)

    def _place(self, path: str) -> str:
        """Where a path lies once its parent is resolved and made; the last name is not followed."""
        if path == ".":
            return path
        parent, _, name = path.rpartition("/")
        if not parent or self._is_folder(parent):
            return path
        parent = self._folder(parent)
        return name if parent == "." else f"{parent}/{name}"

    def _folder(self, path: str, *, make: bool = True) -> str:
        """A folder's own path, links followed inside the layer.

        What is missing is made as implied; with `make` false it is taken as it is written.
        """
        if self._is_folder(path):
            return path
        todo = path.split("/")[::-1]
        here = "."
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", ".", ".."):
                here = parent_of(here) if part == ".." else here
                continue
            below = part if here == "." else f"{here}/{part}"
            entry = self._entries.get(below)
            if entry is None and make:
                if self._reserved and part.startswith(self._reserved):
                    raise ImageError(f"the layer has a link to {below!r}", code="damaged-archive")
                entry = Entry(below, FOLDER, 0o755, implied=True)
                self._weight.add(below, len(below))
                self._put(entry)
                self._tell(entry, None)
            if entry is None or entry.kind == FOLDER:
                here = below
                continue
            links += 1
            if entry.kind != SYMLINK or links > MAX_LINKS:
                reason = "is no folder" if entry.kind != SYMLINK else "is a link without end"
                raise ImageError(f"the layer has {path!r}, but {below!r} {reason}", code="damaged-archive")
            self._weight.add(path, len(entry.link))
            here = "." if entry.link.startswith("/") else here
            todo.extend(reversed(entry.link.split("/")))
        return here

    def _link(self, entry: Entry, to: str) -> Entry:
        """Put a hard link: what it links to, under the new name."""
        parent = self._folder(parent_of(to), make=False)
        name = to.rpartition("/")[2]
        path = name if parent == "." else f"{parent}/{name}"
        target = self._entries.get(path)
        group: list[Entry] | None = None
        if target is None:
            linked = entry.replace(hardlink=path)
        elif target.kind != FILE or (target.hardlink is not None and path not in self._groups):
            linked = target.replace(path=entry.path)
        else:
            if (group := self._groups.get(path)) is None:
                group = self._groups[path] = [target]
                self._all_groups.append(group)
            linked = target.replace(path=entry.path, hardlink=path)
            group.append(linked)
        self._put(linked)
        if path in (".", entry.path) or linked.kind == FOLDER or self._entries.get(path) is not target:
            raise ImageError(f"the layer has a hard link {entry.path!r} to {to!r}", code="damaged-archive")
        if group is not None:
            self._groups[entry.path] = group
        return linked

    def _put(self, entry: Entry) -> None:
        """Set the entry at its path; what it replaces goes with all that it holds, folders merge."""
        former = self._entries.get(entry.path)
        if former is None:
            if entry.path != ".":
                self._children.setdefault(parent_of(entry.path), []).append(entry.path)
        else:
            self._groups.pop(entry.path, None)
            if former.kind == FOLDER != entry.kind:
                self._drop_below(entry.path)
        self._entries[entry.path] = entry

    def _drop_below(self, path: str) -> None:
        """Forget all that a folder of the layer holds."""
        self._opaque.pop(path, None)
        doomed = self._children.pop(path, [])
        while doomed:
            gone = doomed.pop()
            doomed.extend(self._children.pop(gone, ()))
            self._entries.pop(gone, None)
            self._groups.pop(gone, None)


class _HashedBody:
    """Passes a file's bytes on and hashes them."""

    __slots__ = ("_body", "sha")

    def __init__(self, body: Readable) -> None:
        self._body = body
        self.sha = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._body.read(size)
        self.sha.update(data)
        return data
