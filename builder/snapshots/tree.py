"""A tree: what a snapshot looks like, from its layers' entries alone.

Nothing is mounted or unpacked to ask it. Symlinks are resolved inside the tree, as the kernel would
with the tree as its root. A `Tree` is immutable once made; `plus` makes the one with a layer on top.
"""

from __future__ import annotations

from builder.snapshots.snapshot import FOLDER, OPAQUE, SYMLINK, WHITEOUT, Entry, LayerId, parent_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

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
        self._children: dict[str, set[str]] | None = None

    def plus(self, layer: LayerId, entries: Iterable[Entry]) -> Tree:
        """The tree with a layer's entries laid on it."""
        edit = _Edit(self)
        entries = list(entries)
        nodes = self.nodes
        for entry in entries:
            if entry.kind == WHITEOUT:
                edit.remove(entry.path)
            elif entry.kind == OPAQUE or (
                entry.kind != FOLDER and (there := nodes.get(entry.path)) and there.entry.kind == FOLDER
            ):
                edit.empty(entry.path)
        for entry in entries:
            if entry.kind not in (WHITEOUT, OPAQUE):
                edit.add(entry, layer)
        return edit.result()

    def children_map(self) -> Mapping[str, AbstractSet[str]]:
        """Folder -> the paths in it."""
        return self._listed()

    def _listed(self) -> dict[str, set[str]]:
        if self._children is None:
            children: dict[str, set[str]] = {}
            for path in self.nodes:
                if path != ".":
                    children.setdefault(parent_of(path), set()).add(path)
            self._children = children
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
        """Where `path` leads in this tree; see `resolve`."""
        return resolve(path, self.get, last=last)


def resolve(path: str, get: Callable[[str], Entry | None], *, last: bool = True) -> str:
    """Where `path` (relative, or absolute in the tree) leads once symlinks are followed.

    `get` tells what is at a path itself (at one that goes through a symlink is nothing). `..` stays inside
    the root. With `last` false a symlink in the last place is not followed. What is not there is taken as it
    is written. Raises TooManyLinks.
    """
    here: list[str] = []
    folder, _, name = path.strip("/").rpartition("/")
    # What is a folder by its very path has folders alone above it: nothing is to be followed up to there,
    # and a deep path costs no more than a look.
    if name not in (".", "..") and folder and (there := get(folder)) is not None and there.kind == FOLDER:
        here, path = folder.split("/"), name
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            del here[-1:]
            continue
        here.append(part)
        if not todo and not last:
            break
        entry = get("/".join(here))
        if entry is None or entry.kind != SYMLINK:
            continue
        links += 1
        if links > MAX_LINKS:
            raise TooManyLinks(path)
        here.pop()
        if entry.link.startswith("/"):
            here.clear()
        todo.extend(p for p in reversed(entry.link.split("/")) if p not in ("", "."))
    return "/".join(here) or "."


class _Edit:
    """A layer going onto a tree: the tree that was is left alone, and what is in a folder stays known."""

    __slots__ = ("_children", "_own", "_tree", "nodes")

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.nodes = dict(tree.nodes)
        self._children: dict[str, set[str]] | None = None
        self._own: set[str] = set()  # the folders whose set of children is this edit's
        if tree._children is not None:
            self._children = dict(tree._children)

    def remove(self, path: str) -> None:
        """Take out a path and all below it."""
        self.empty(path)
        if self.nodes.pop(path, None) is not None and self._children is not None:
            self._siblings(path).discard(path)

    def empty(self, path: str) -> None:
        """Take out all below a path."""
        if self._children is None:
            self._children = dict(self._tree._listed())
        doomed = list(self._children.pop(path, ()))
        while doomed:
            gone = doomed.pop()
            self.nodes.pop(gone, None)
            doomed.extend(self._children.pop(gone, ()))

    def add(self, entry: Entry, layer: LayerId) -> None:
        """Put in an entry; an implied folder leaves one that is there as it is."""
        path = entry.path
        there = self.nodes.get(path)
        if entry.implied and there is not None and there.entry.kind == FOLDER:
            return
        self.nodes[path] = Node(entry, layer)
        if there is None and self._children is not None and path != ".":
            self._siblings(path).add(path)

    def result(self) -> Tree:
        """The tree as it is now; the edit is not to be used any more."""
        tree = Tree(self.nodes)
        tree._children = self._children
        return tree

    def _siblings(self, path: str) -> set[str]:
        assert self._children is not None
        folder = parent_of(path)
        if folder not in self._own or folder not in self._children:
            self._own.add(folder)
            self._children[folder] = set(self._children.get(folder, ()))
        return self._children[folder]
