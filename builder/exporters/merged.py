"""A tree as one set of entries: what `type=tar` and `type=local` write.

The one hard thing is hard links: their first name may be gone, replaced by an upper layer, or sorted
behind the others. The names of a file that are left are linked anew to the first of them. The trees of
several platforms lie in a folder each (linux_arm64), or all in one place. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO, Protocol

from builder.errors import BuildError
from builder.snapshots.snapshot import FILE, FOLDER, Entry, LayerId
from builder.snapshots.tree import Tree

SECOND = 1_000_000_000
Open = Callable[[LayerId, Entry], BinaryIO]


class Files(Protocol):
    """What can be written: `entries` in canonical order, and `content` for the bytes of a FILE among them
    that is no further name of another."""

    entries: list[Entry]

    def content(self, entry: Entry) -> BinaryIO: ...


# Puts more files beside those of a platform, by its number and name.
Wrap = Callable[[int, str, Files], Files]


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


class _Joined:
    """Entries of several trees, by the paths that they have now."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._sources: dict[str, tuple[Files, Entry]] = {}

    def add(self, files: Files, entry: Entry, folder: str = "") -> None:
        """Add an entry, below a folder where one is given."""
        path = f"{folder}/{entry.path}" if folder else entry.path
        first = entry.hardlink
        if first is not None and folder:
            first = f"{folder}/{first}"
        self.entries.append(entry.replace(path=path, hardlink=first))
        self._sources[path] = (files, entry)

    def content(self, entry: Entry) -> BinaryIO:
        """See Files."""
        files, original = self._sources[entry.path]
        return files.content(original)


def together(trees: Sequence[tuple[str, Files]], *, split: bool) -> Files:
    """The trees of all platforms: each in a folder of its platform's name, or with split=False in one place.

    Raises BuildError where two platforms have the same file and no folders.
    """
    return _side_by_side(trees) if split else _on_top(trees)


def dated(files: Files, epoch: int) -> Files:
    """The same files, all of one time (seconds): that of SOURCE_DATE_EPOCH, as BuildKit hands out trees."""
    joined = _Joined()
    for entry in files.entries:
        joined.add(files, entry)
        joined.entries[-1].mtime = epoch * SECOND
    return joined


def folder_of(platform: str) -> str:
    """What a platform's folder is called."""
    return platform.replace("/", "_")


def _side_by_side(trees: Sequence[tuple[str, Files]]) -> Files:
    joined = _Joined()
    for platform, files in sorted(trees, key=lambda tree: folder_of(tree[0])):
        folder = folder_of(platform)
        joined.add(files, Entry(folder, FOLDER, 0o755))
        for entry in files.entries:
            if entry.path != ".":
                joined.add(files, entry, folder)
    return joined


def _on_top(trees: Sequence[tuple[str, Files]]) -> Files:
    if len(trees) == 1:
        return trees[0][1]
    joined, taken = _Joined(), dict[str, tuple[str, str]]()
    for platform, files in trees:
        for entry in files.entries:
            kind, other = taken.setdefault(entry.path, (entry.kind, platform))
            if other == platform:
                joined.add(files, entry)
            elif not kind == entry.kind == FOLDER:
                raise BuildError(
                    f"/{entry.path} is there for {other} and for {platform}, and both would be in one place",
                    code="export-failed",
                    hint="leave platform-split=false out, or give the files different names",
                )
    joined.entries.sort(key=lambda entry: entry.path.split("/"))
    return joined
