"""All packages of a filesystem: its tree is walked once, and whoever knows a path reads it.

What cannot be read is noted, and the rest is told all the same: an SBOM says what it does not know. What is
read of hostile files is bounded, as is what is told of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import msgspec

from builder import stop
from builder.attest.packages import apk, dpkg, golang, npm, python, rpm
from builder.attest.packages.package import Files, Package, System, Unreadable, bounded
from builder.attest.packages.system import read_system
from builder.snapshots.snapshot import FILE, FOLDER, Entry, LayerId
from builder.snapshots.tree import TooManyLinks, Tree

MOST_PACKAGES = 50_000
MOST_TEXT = 32 << 20  # characters of all that packages say of themselves
MOST_NOTES = 100
MOST_FILES = 200_000  # files that are looked into

Open = Callable[[LayerId, Entry], BinaryIO]


class Inventory(msgspec.Struct, frozen=True):
    """What was found. notes: what could not be read, or was left out, in words for people."""

    system: System
    packages: tuple[Package, ...]
    notes: tuple[str, ...]


class TreeFiles:
    """The files of a tree."""

    def __init__(self, tree: Tree, open_file: Open) -> None:
        self.tree = tree
        self._open = open_file

    def read(self, path: str, limit: int) -> bytes | None:
        """See package.Files."""
        file = self.open(path)
        if file is None:
            return None
        with file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise Unreadable(f"it has more than {limit >> 10} KiB")
        return data

    def listed(self, folder: str) -> list[str]:
        """See package.Files."""
        place = self._resolved(folder)
        entry = self.tree.get(place) if place else None
        if place is None or entry is None or entry.kind != FOLDER:
            return []
        return [path.rpartition("/")[2] for path in self.tree.children(place)]

    def open(self, path: str) -> BinaryIO | None:
        """See package.Files."""
        place = self._resolved(path)
        node = self.tree.nodes.get(place) if place else None
        if node is None or node.entry.kind != FILE:
            return None
        return self._open(node.layer, node.entry)

    def _resolved(self, path: str) -> str | None:
        try:
            return self.tree.resolve(path)
        except TooManyLinks:
            return None


def find_packages(tree: Tree, open_file: Open) -> Inventory:
    """The packages in a tree, sorted, each once. Raises StoreError where the store has lost what it held."""
    files = TreeFiles(tree, open_file)
    finding = _Finding(files)
    for reader in (dpkg.read, apk.read, rpm.read):
        finding.take_system(reader)
    finding.walk()
    return finding.inventory()


class _Finding:
    def __init__(self, files: TreeFiles) -> None:
        self.files = files
        self.system = read_system(files)
        self.found: dict[tuple[str, str], Package] = {}
        self.notes: list[str] = []
        self.looked = 0
        self.room = MOST_TEXT

    def take_system(self, reader: Callable[[Files, System], Iterator[Package]]) -> None:
        """The packages of a distribution."""
        name = reader.__module__.rpartition(".")[2]
        self._take(f"the packages of {name}", reader(self.files, self.system))

    def walk(self) -> None:
        """The packages of languages, and programs."""
        for path, node in sorted(self.files.tree.nodes.items()):
            entry = node.entry
            if entry.kind != FILE or entry.hardlink is not None:
                continue
            stop.check()
            if reader := _reader_of(self.files, path, entry):
                self.looked += 1
                if self.looked > MOST_FILES:
                    self._note(f"only {MOST_FILES} files were looked into")
                    return
                self._take(path, reader)

    def inventory(self) -> Inventory:
        """What was found."""
        packages = sorted(self.found.values(), key=_place)
        return Inventory(self.system, tuple(packages), tuple(self.notes))

    def _take(self, what: str, packages: Iterable[Package]) -> None:
        try:
            for package in packages:
                if len(self.found) >= MOST_PACKAGES:
                    self._note(f"only {MOST_PACKAGES} packages are told of")
                    return
                one = bounded(package)
                key = (one.purl, one.found)  # of one version there may be several architectures
                if key in self.found:
                    continue
                self.room -= sum(len(str(text)) for text in msgspec.structs.astuple(one))
                if self.room < 0:
                    self._note("packages say more of themselves than is told")
                    return
                self.found[key] = one
        except Unreadable as error:
            self._note(f"{what} could not be read: {error}")

    def _note(self, text: str) -> None:
        clean = "".join(mark if mark.isprintable() else "?" for mark in text[:500])
        if clean not in self.notes and len(self.notes) < MOST_NOTES:
            self.notes.append(clean.encode("utf-8", "replace").decode("utf-8"))


def _place(one: Package) -> tuple[str, ...]:
    """Where a package stands among others."""
    return one.kind, one.name, one.version, one.found, one.purl


def _reader_of(files: TreeFiles, path: str, entry: Entry) -> Iterator[Package] | None:
    """What reads a file of this path; None for one that tells of no packages."""
    if path.endswith((".json", "METADATA", "PKG-INFO", ".egg-info")):
        if npm.is_manifest(path):
            return npm.read(files, path)
        if npm.is_lock(path):
            return npm.read_lock(files, path)
        if python.is_metadata(path):
            return python.read(files, path)
        return None
    return _program(files, path) if golang.is_program(path, entry.mode, entry.size) else None


def _program(files: TreeFiles, path: str) -> Iterator[Package]:
    file = files.open(path)
    if file is not None:
        with file:
            yield from golang.read(file, path)
