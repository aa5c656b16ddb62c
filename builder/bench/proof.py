"""Whether two images hold the same files: read of their blobs, times left aside. Blocking.

Two orders of one Dockerfile are two builds, and two runs of one step may write other bytes (logs, dates,
caches). So what differs in its bytes alone is told apart from what is there or not, or is of another kind,
mode or owner.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from builder.digest import parse
from builder.oci.layer import scan
from builder.snapshots.selection import bytes_of, capability_of
from builder.snapshots.snapshot import FILE, SYMLINK, Entry, LayerId
from builder.snapshots.tree import Node, Tree
from builder.store.root import open_store

MAX_DOCUMENT = 4 << 20


@dataclass(frozen=True, slots=True)
class Difference:
    """files: how many paths there are; others: those that differ in more than bytes; bytes: in bytes."""

    files: int
    others: tuple[str, ...]
    bytes: tuple[str, ...]


def compare(folder: str, one: str, two: str) -> Difference:
    """How two images of a store differ, by the digests of their manifests. Raises BuildError."""
    known: dict[str, list[Entry]] = {}
    first, second = (_tree(folder, digest, known) for digest in (one, two))
    others, contents = [], []
    for path in sorted(first.nodes.keys() | second.nodes.keys()):
        here, there = first.nodes.get(path), second.nodes.get(path)
        if here is None or there is None or _row(here) != _row(there):
            others.append(path)
        elif _bytes(first, here) != _bytes(second, there):
            contents.append(path)
    return Difference(len(first.nodes), tuple(others), tuple(contents))


def _tree(folder: str, image: str, known: dict[str, list[Entry]]) -> Tree:
    """The files of an image; each blob is read once."""
    blobs = open_store(folder).blobs
    manifest = json.loads(blobs.read(parse(image), MAX_DOCUMENT))
    tree = Tree()
    for number, layer in enumerate(manifest["layers"]):
        digest = layer["digest"]
        if digest not in known:
            with blobs.open(parse(digest)) as stream:
                known[digest] = scan(stream, name=f"layer {digest}")[0]
        tree = tree.plus(LayerId(f"{number} {digest}"), known[digest])
    return tree


def _row(node: Node) -> tuple[object, ...]:
    entry = node.entry
    mode = 0 if entry.kind == SYMLINK else entry.mode
    return entry.kind, mode, entry.uid, entry.gid, entry.link, entry.device, capability_of(entry)


def _bytes(tree: Tree, node: Node) -> object:
    return bytes_of(tree, node).digest if node.entry.kind == FILE else None
