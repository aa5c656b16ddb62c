"""A tree as one set of entries: what `type=tar` and `type=local` write.

The one hard thing is hard links: their first name may be gone, replaced by an upper layer, or sorted
behind the others. The names of a file that are left are linked anew to the first of them. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from builder.snapshots.snapshot import FILE, Entry, LayerId
from builder.snapshots.tree import Tree

Open = Callable[[LayerId, Entry], BinaryIO]


class Merged:
    """The entries of a tree in canonical order, and `content` for the bytes of its files."""

    def __init__(self, tree: Tree, open_file: Open) -> None:
        self._open = open_file
        self._sources: dict[str, tuple[LayerId, Entry]] = {}
        self.entries: list[Entry] = []
        first: dict[tuple[LayerId, str], str] = {}
        for entry in tree.walk("."):
            if entry.kind != FILE:
                self.entries.append(entry)
                continue
            layer = tree.nodes[entry.path].layer
            original = entry.hardlink if entry.hardlink is not None else entry.path
            known = first.setdefault((layer, original), entry.path)
            if known != entry.path:
                self.entries.append(entry.replace(hardlink=known))
                continue
            self._sources[entry.path] = (layer, entry.replace(path=original, hardlink=None))
            self.entries.append(entry.replace(hardlink=None))

    def content(self, entry: Entry) -> BinaryIO:
        """The bytes of a FILE that is no further name of another."""
        layer, source = self._sources[entry.path]
        return self._open(layer, source)
