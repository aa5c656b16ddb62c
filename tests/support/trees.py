"""Trees written down: what a test lays into a layer, and how it looks at one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from builder.digest import Digest, of_bytes
from builder.snapshots.graft import Planned
from builder.snapshots.snapshot import CHAR, FILE, FOLDER, SYMLINK, Entry, LayerId
from builder.snapshots.tree import Tree

OLD = 1_000_000_000
NOW = 1_700_000_000_000_000_000


def file(
    path: str, content: str = "x", mode: int = 0o644, uid: int = 0, gid: int = 0, **more: object
) -> Entry:
    data = content.encode()
    more.setdefault("mtime", OLD)
    return Entry(path, FILE, mode, uid, gid, len(data), digest=of_bytes(data), **more)  # type: ignore[arg-type]


def folder(path: str, mode: int = 0o755, uid: int = 0, gid: int = 0, mtime: int = OLD) -> Entry:
    return Entry(path, FOLDER, mode, uid, gid, 0, mtime)


def link(path: str, target: str) -> Entry:
    return Entry(path, SYMLINK, 0o777, 0, 0, 0, OLD, link=target)


def device(path: str, kind: str = CHAR, numbers: tuple[int, int] = (1, 3)) -> Entry:
    return Entry(path, kind, 0o600, 0, 0, 0, OLD, device=numbers)


def tree(*entries: Entry | str, layer: str = "src") -> Tree:
    """A tree of entries; a text stands for a file with its own name as content; parents are made."""
    all_entries = [file(e, e.rpartition("/")[2]) if isinstance(e, str) else e for e in entries]
    paths = {e.path for e in all_entries}
    for entry in list(all_entries):
        parts = entry.path.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if parent not in paths:
                paths.add(parent)
                all_entries.append(folder(parent))
    return Tree().plus(LayerId(layer), all_entries)


def laid_on(below: Tree, planned: list[Planned], layer: str = "new") -> Tree:
    return below.plus(LayerId(layer), [item.entry for item in planned])


def paths(planned: list[Planned]) -> list[str]:
    return [item.entry.path for item in planned]


def entries(planned: list[Planned]) -> Mapping[str, Entry]:
    return {item.entry.path: item.entry for item in planned}


def no_digest(layer: LayerId, entry: Entry) -> Digest:
    """Every FILE of these trees has its digest already."""
    raise AssertionError(f"asked for the digest of {entry.path} in {layer}")


def content_digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
