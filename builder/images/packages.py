"""The packages that an image's package managers know of, as they are compared: by manager and name.

What they are read from is held as the image's layers pass (`contents`), so only small files can be: those of
dpkg, apk, rpm, Python and npm, and not the programs that Go leaves its modules in.
"""

from __future__ import annotations

import io
from typing import BinaryIO, NamedTuple

from builder.attest.packages import apk, dpkg, npm, python, rpm, system
from builder.attest.packages.find import find_packages as find_all
from builder.attest.packages.package import Unreadable
from builder.images.contents import Contents
from builder.snapshots.snapshot import Entry, LayerId
from builder.snapshots.tree import Tree

NAMES = {"deb": "dpkg", "pypi": "python"}  # what kinds are called here, where that is another word
_FILES = frozenset((dpkg.STATUS, *apk.PLACES, rpm.MANIFEST, *system.PLACES))
_FOLDERS = tuple(f"{folder}/" for folder in (dpkg.FOLDER, *rpm.FOLDERS))


class Package(NamedTuple):
    """kind: dpkg, apk, rpm, python or npm; name: as its manager has it."""

    kind: str
    name: str


def is_database(path: str) -> bool:
    """Whether a path is one that packages are read from."""
    if path in _FILES or path.startswith(_FOLDERS):
        return True
    return python.is_metadata(path) or npm.is_manifest(path) or npm.is_lock(path)


def find_packages(contents: Contents, tree: Tree) -> dict[Package, str]:
    """Package -> version (several, parted by ", ", where it is there more than once)."""

    def opened(layer: LayerId, entry: Entry) -> BinaryIO:
        data = contents.layers[int(layer) - 1].texts.get(entry.hardlink or entry.path)
        if data is None:
            raise Unreadable("it is not looked into")
        return io.BytesIO(data)

    found: dict[Package, dict[str, None]] = {}
    for package in find_all(tree, opened).packages:
        key = Package(NAMES.get(package.kind, package.kind), package.name)
        found.setdefault(key, {})[package.version] = None
    return {package: ", ".join(versions) for package, versions in sorted(found.items())}
