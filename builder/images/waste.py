"""What each layer of an image adds, and what of it nobody sees any more: `pybuild layers`.

A file that a later layer replaces or removes stays in the image's layers, and is carried, stored and unpacked
for nothing: its bytes are wasted. The efficiency is the part of all bytes in files that is seen in the end.
Pure, on what `contents` has read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from builder.images.contents import Contents, Layer, size_of_entry
from builder.snapshots.snapshot import FILE, FOLDER, OPAQUE, WHITEOUT, Entry, parent_of
from builder.snapshots.tree import Tree

ADDED, CHANGED, REMOVED = "added", "changed", "removed"


@dataclass(frozen=True, slots=True)
class Wasted:
    """What a layer holds and a later one hid: at a path (a folder's stands for all below it) so many files.

    size: their bytes; layer, by: the numbers of the two; how: changed or removed.
    """

    path: str
    size: int
    files: int
    layer: int
    by: int
    how: str


@dataclass(frozen=True, slots=True)
class Change:
    """What a layer does to a path; size: of the bytes that it adds; hidden: of those that it hides."""

    path: str
    kind: str
    how: str
    size: int
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer. size: bytes of the files in it; wasted: of those that later layers hide."""

    layer: Layer
    size: int
    wasted: int
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Report:
    """An image's layers, bottom first; wasted: largest first. total: bytes of all files in all layers."""

    layers: Sequence[LayerReport]
    wasted: Sequence[Wasted]
    total: int

    @property
    def wasted_bytes(self) -> int:
        """Bytes that are in a layer and not in the image."""
        return sum(each.size for each in self.wasted)

    @property
    def efficiency(self) -> float:
        """The part of the bytes in layers that is seen, 0 to 1; 1 where there are none."""
        return 1 - self.wasted_bytes / self.total if self.total else 1.0


def report(contents: Contents) -> Report:
    """What an image's layers add, and waste."""
    wasted: list[Wasted] = []
    changes: list[list[Change]] = []
    for layer, before, after in contents.stacked():
        done = _changes(layer, before)
        hidden = _hidden(contents, layer, before, after, done)
        lost: dict[str, int] = {}
        for each in hidden:
            lost[each.path] = lost.get(each.path, 0) + each.size
        wasted += hidden
        changes.append(
            [Change(c.path, c.kind, c.how, c.size, lost.get(f"/{c.path}", 0)) for c in done.values()]
        )
    sizes = [sum(map(size_of_entry, layer.entries)) for layer in contents.layers]
    layers = [
        LayerReport(layer, size, sum(w.size for w in wasted if w.layer == layer.number), done)
        for layer, size, done in zip(contents.layers, sizes, changes, strict=True)
    ]
    wasted.sort(key=lambda each: (-each.size, each.path, each.layer))
    return Report(layers, wasted, sum(sizes))


# ── what a layer does ────────────────────────────────────────────────────────────────────────────────────


def _changes(layer: Layer, before: Tree) -> dict[str, Change]:
    """What a layer does, by path, in order. Folders that it only passes through are left out."""
    own = {entry.path: entry.kind for entry in layer.entries if entry.kind not in (WHITEOUT, OPAQUE)}
    done: dict[str, Change] = {}
    for entry in layer.entries:
        there = before.get(entry.path)
        if entry.kind == OPAQUE:
            for path in _emptied(entry.path, before, own):
                done[path] = Change(path, before.nodes[path].entry.kind, REMOVED, 0)
        elif entry.kind == WHITEOUT:
            if there is not None:
                done[entry.path] = Change(entry.path, there.kind, REMOVED, 0)
        elif there is None:
            done[entry.path] = Change(entry.path, entry.kind, ADDED, size_of_entry(entry))
        elif entry.kind != FOLDER or _differs(entry, there):
            done[entry.path] = Change(entry.path, entry.kind, CHANGED, size_of_entry(entry))
    return done


def _emptied(folder: str, before: Tree, own: Mapping[str, str]) -> Iterator[str]:
    """What goes with all that was in a folder: in folders that the layer makes anew, too. own: path -> kind
    of what the layer has."""
    pending = [folder]
    while pending:
        for path in before.children(pending.pop()):
            if path not in own:
                yield path
            elif own[path] == FOLDER:
                pending.append(path)


def _differs(entry: Entry, there: Entry) -> bool:
    if entry.implied:
        return there.kind != FOLDER
    return (entry.kind, entry.mode, entry.uid, entry.gid) != (there.kind, there.mode, there.uid, there.gid)


# ── what it hides ────────────────────────────────────────────────────────────────────────────────────────


def _hidden(
    contents: Contents, layer: Layer, before: Tree, after: Tree, done: dict[str, Change]
) -> list[Wasted]:
    """What was seen before a layer and is not with it, by the path that the layer changed or removed."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for held, path, size in _gone(contents, before, after):
        owner = _owner(path, done)
        total, files = found.get((owner, held), (0, 0))
        found[owner, held] = (total + size, files + 1)
    return [
        Wasted(f"/{path}", size, files, held, layer.number, done[path].how if path in done else CHANGED)
        for (path, held), (size, files) in found.items()
    ]


def _owner(path: str, done: dict[str, Change]) -> str:
    """The path by which a layer hid another: that one, or a folder above that it removed or replaced."""
    here = path
    while here != ".":
        change = done.get(here)
        if change is not None and (here == path or change.how == REMOVED or change.kind != FOLDER):
            return here
        here = parent_of(here)
    return path


def _gone(contents: Contents, before: Tree, after: Tree) -> Iterator[tuple[int, str, int]]:
    """(layer, path, bytes) of files that are seen no more.

    A file with several names is there until the last of them has gone.
    """
    lost: dict[tuple[str, str], tuple[str, int]] = {}
    for path, node in before.nodes.items():
        if node.entry.kind == FILE and after.nodes.get(path) is not node:
            lost.setdefault((node.layer, node.entry.hardlink or path), (path, node.entry.size))
    for held in {held for held, _ in lost}:
        for entry in contents.layers[int(held) - 1].entries:
            node_after = after.nodes.get(entry.path)
            if entry.kind == FILE and node_after is not None and node_after.layer == held:
                lost.pop((held, entry.hardlink or entry.path), None)
    for (held, _), (path, size) in lost.items():
        yield int(held), path, size


# ── as a tree ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Branch:
    """A path of a layer's tree. how: what was done to it, "" where it was only passed through.

    size, hidden: bytes added and hidden at it and below; paths: how many changes that are.
    """

    name: str
    how: str = ""
    kind: str = FOLDER
    size: int = 0
    hidden: int = 0
    paths: int = 0
    below: dict[str, Branch] = field(default_factory=dict)


def grow(changes: Sequence[Change], depth: int) -> Branch:
    """The tree of a layer's changes, so many folders deep; what is deeper counts where it begins."""
    root = Branch("/")
    for change in changes:
        here = root
        parts = [] if change.path == "." else change.path.split("/", depth)
        for part in ("", *parts[:depth]):
            here = here.below.setdefault(part, Branch(part)) if part else here
            here.size += change.size
            here.hidden += change.hidden
            here.paths += 1
        if len(parts) <= depth:
            here.how, here.kind = change.how, change.kind
    return root
