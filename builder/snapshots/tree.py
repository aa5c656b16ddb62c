"""A tree: what a snapshot looks like, from its layers' entries alone.

Nothing is mounted or unpacked to ask it. Symlinks are resolved inside the tree, as the kernel would
with the tree as its root. A `Tree` is immutable once made; `plus` makes the one with a layer on top.
"""

from __future__ import annotations

from builder.snapshots.snapshot import FOLDER, OPAQUE, SYMLINK, WHITEOUT, Entry, LayerId, parent_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_LINKS = 40  # as the kernel (path_resolution(7))


class Node:
    """An entry that is there, and the layer that has its bytes."""

    __slots__ = ("entry", "layer")

    def __init__(self, entry: Entry, layer: LayerId) -> None:
        self.entry = entry
        self.layer = layer


class TooManyLinks(Exception):
    """A path goes through more symlinks than the kernel follows, or round in a circle."""


class Tree:
    """All paths of a filesystem by name; the root is `.` and may be implied."""

    __slots__ = ("_children", "nodes")

    def __init__(self, nodes: dict[str, Node] | None = None) -> None:
        self.nodes: dict[str, Node] = nodes if nodes is not None else {}
        self._children: dict[str, list[str]] | None = None

    def plus(self, layer: LayerId, entries: Iterable[Entry]) -> Tree:
        """The tree with a layer's entries laid on it."""
        entries = list(entries)
        nodes = dict(self.nodes)
        gone = [e for e in entries if e.kind in (WHITEOUT, OPAQUE)]
        replaced = [
            e
            for e in entries
            if e.kind not in (FOLDER, WHITEOUT, OPAQUE)
            and (below := nodes.get(e.path))
            and below.entry.kind == FOLDER
        ]
        if gone or replaced:
            children = self.children_map()
            for entry in gone + replaced:
                doomed = list(children.get(entry.path, ()))
                if entry.kind == WHITEOUT:
                    nodes.pop(entry.path, None)
                while doomed:
                    path = doomed.pop()
                    nodes.pop(path, None)
                    doomed.extend(children.get(path, ()))
        for entry in entries:
            if entry.kind in (WHITEOUT, OPAQUE):
                continue
            if entry.implied and (there := nodes.get(entry.path)) and there.entry.kind == FOLDER:
                continue
            nodes[entry.path] = Node(entry, layer)
        return Tree(nodes)

    def children_map(self) -> dict[str, list[str]]:
        """Folder -> the paths in it, unsorted."""
        if self._children is None:
            self._children = {}
            for path in self.nodes:
                if path != ".":
                    self._children.setdefault(parent_of(path), []).append(path)
        return self._children

    def get(self, path: str) -> Entry | None:
        """The entry at exactly this path, no symlink followed."""
        node = self.nodes.get(path)
        return node.entry if node else None

    def children(self, path: str) -> list[str]:
        """The paths in a folder, sorted."""
        return sorted(self.children_map().get(path, ()))

    def walk(self, path: str) -> Iterator[Entry]:
        """The entries at and below `path`, folders before what they hold, sorted."""
        pending = [path]
        while pending:
            current = pending.pop()
            if (entry := self.get(current)) is not None:
                yield entry
            pending.extend(reversed(self.children(current)))

    def resolve(self, path: str, *, last: bool = True) -> str:
        """Where `path` (relative, or absolute in the tree) leads once symlinks are followed.

        `..` stays inside the root. With `last` false a symlink in the last place is not followed. What
        is not there is taken as it is written. Raises TooManyLinks.
        """
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        here: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                del here[-1:]
                continue
            here.append(part)
            if not todo and not last:
                break
            node = self.nodes.get("/".join(here))
            if node is None or node.entry.kind != SYMLINK:
                continue
            links += 1
            if links > MAX_LINKS:
                raise TooManyLinks(path)
            here.pop()
            if node.entry.link.startswith("/"):
                here.clear()
            todo.extend(p for p in reversed(node.entry.link.split("/")) if p not in ("", "."))
        return "/".join(here) or "."
