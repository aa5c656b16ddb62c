"""Whether a store is what it says: blobs their digests, layers' folders their indexes, names images."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builder.fs.ownership import MAPPED, REAL, RECORDED
from builder.snapshots.index import read_index, tree_name
from builder.snapshots.reading import read_tree
from builder.snapshots.snapshot import FIFO, FILE, SYMLINK, Entry

CACHE_NAME = re.compile(r"[0-9a-f]{32}(-mapped|-recorded)?(\.[0-9]+)?(\.lock)?")


def wrong_in(root: Path) -> list[str]:
    """What is wrong in a store that nobody uses now."""
    return [*_blobs(root), *_names(root), *_layers(root), *_caches(root), *_records(root)]


def _blobs(root: Path) -> Iterator[str]:
    for blob in (root / "blobs" / "sha256").iterdir():
        if hashlib.sha256(blob.read_bytes()).hexdigest() != blob.name:
            yield f"blob {blob.name} has other bytes"


def _names(root: Path) -> Iterator[str]:
    for row in json.loads((root / "index.json").read_bytes())["manifests"]:
        manifest = _document(root, row["digest"])
        if manifest is None:
            yield f"{row} names no manifest"
            continue
        for descriptor in (manifest["config"], *manifest["layers"]):
            if not _blob(root, descriptor["digest"]).exists():
                yield f"{row['digest']} lacks {descriptor['digest']}"


def _document(root: Path, digest: str) -> Any:
    try:
        return json.loads(_blob(root, digest).read_bytes())
    except FileNotFoundError:
        return None


def _blob(root: Path, digest: str) -> Path:
    return root / "blobs" / digest.replace(":", "/")


def _layers(root: Path) -> Iterator[str]:
    failed = set(_failed(root))
    for folder in (root / "layers").iterdir():
        entries = read_index(os.fspath(folder))
        if entries is None:
            yield f"layer {folder.name} has no index"
            continue
        for way in (REAL, MAPPED, RECORDED):
            tree = folder / tree_name(way)
            if tree.exists():
                for row in _compare(tree, entries, way, whole=folder.name not in failed):
                    yield f"layer {folder.name}, {tree.name}: {row}"


def _failed(root: Path) -> Iterator[str]:
    """The layers of failed steps that are kept; a file that a power cut hurt keeps none."""
    for path in root.glob("builds/*/failed.json"):
        try:
            yield json.loads(path.read_bytes())["layer"]
        except ValueError:
            continue


def _compare(tree: Path, entries: list[Entry], way: str, *, whole: bool) -> Iterator[str]:
    """Where they differ; what a step left that failed has more than its index tells (not `whole`)."""
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = {(entry.path, entry.kind): entry for entry in read_tree(fd, way) if entry.path != "."}
    finally:
        os.close(fd)
    expected = {(entry.path, entry.kind): entry for entry in entries if entry.path != "."}
    for key in sorted(found.keys() ^ expected.keys()):
        if whole or key in expected:
            yield f"{key} is in the {'folder' if key in found else 'index'} alone"
    for key in found.keys() & expected.keys():
        here, told = _told(found[key], way), _told(expected[key], way)
        if here != told:
            yield f"{key} is {here}, not {told}"
        digest = expected[key].digest
        if expected[key].kind == FILE and digest and digest != _digest(tree / key[0]):
            yield f"{key} has other bytes"


def _digest(file: Path) -> str:
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def _told(entry: Entry, way: str) -> tuple[object, ...]:
    """What must be equal; not owners of another user namespace, and those that the index alone has."""
    hidden = way == MAPPED or (way == RECORDED and entry.kind in (SYMLINK, FIFO))
    owner = None if hidden else (entry.uid, entry.gid)
    return entry.mode, owner, entry.size, entry.mtime, entry.link, entry.hardlink, entry.device


def _caches(root: Path) -> Iterator[str]:
    folder = root / "cache" / "mounts"
    for name in os.listdir(folder) if folder.exists() else ():
        if not CACHE_NAME.fullmatch(name):
            yield f"cache/mounts has {name}"


def _records(root: Path) -> Iterator[str]:
    """Records of builds: lines of JSON, of which the last may be cut off in a build that was killed."""
    cached = (path for path in root.glob("builds/cached/*") if path.suffix != ".part")
    for path in (*root.glob("builds/*/events.jsonl"), *cached):
        *lines, _last = path.read_bytes().split(b"\n")
        for line in lines:
            try:
                json.loads(line)
            except ValueError:
                yield f"{path} has the line {line[:80]!r}"
