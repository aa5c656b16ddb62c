"""A layer store to try things on, and RUN steps as they are to it: a real overlay, and a commit."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from builder.fs import ownership
from builder.snapshots.layers import Edit, LayerStore
from builder.snapshots.snapshot import FILE, FOLDER, WHITEOUT, Entry, LayerId, Snapshot, parent_of
from builder.store.root import open_store

OPTIONS = "redirect_dir=nofollow,metacopy=off,index=off"


def open_layers(tmp_path: Path) -> LayerStore:
    """The layers of a store below `tmp_path`; opened anew by each call, as by another process."""
    store = open_store(tmp_path / "root")
    return LayerStore(os.path.join(store.folder, "layers"), store.blobs)


def bytes_of(files: Mapping[str, bytes]) -> Callable[[Entry], BinaryIO]:
    """Content that lies in memory."""
    return lambda entry: io.BytesIO(files[entry.path])


def make_layer(
    layers: LayerStore,
    files: Mapping[str, bytes | None],
    *,
    unpacked: bool = True,
    mtime: int = 1_500_000_000,
) -> LayerId:
    """A layer of plain files (None: a folder), parents made on the way."""
    entries: dict[str, Entry] = {}
    for path, data in files.items():
        folder = path
        while (folder := parent_of(folder)) != ".":
            entries.setdefault(folder, Entry(folder, FOLDER, 0o755, mtime=mtime * 10**9))
        kind, size = (FOLDER, 0) if data is None else (FILE, len(data))
        mode = 0o755 if data is None else 0o644
        entries[path] = Entry(path, kind, mode, size=size, mtime=mtime * 10**9)
    data = {path: data for path, data in files.items() if data is not None}
    return layers.create(entries.values(), bytes_of(data), unpacked=unpacked)


def run_overlay(layers: LayerStore, below: Snapshot, edit: Edit, script: str) -> None:
    """Run a shell script in the merged folder, in a mount namespace that goes with it."""
    empty, merged = edit.work.parent / "empty", edit.work.parent / "merged"
    empty.mkdir()
    merged.mkdir()
    lower = ":".join(reversed(layers.lower(below))) or str(empty)
    options = f"lowerdir={lower},upperdir={edit.upper},workdir={edit.work},{OPTIONS}"
    if ownership.of_process() != ownership.REAL:
        options += ",userxattr"
    mount = 'mount -t overlay overlay -o "$1" "$2" && cd "$2" && exec sh -euc "$3"'
    subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", mount, "sh", options, str(merged), script],
        check=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def run_step(layers: LayerStore, below: Snapshot, script: str, stubs: Sequence[str] = ()) -> Snapshot:
    """The snapshot after a RUN: `below` and one layer."""
    with layers.edit(below) as edit:
        run_overlay(layers, below, edit, script)
        return (*below, layers.commit(edit, below, stubs))


def shape(layers: LayerStore, layer: LayerId) -> list[str]:
    """The paths of a layer, whiteouts as a tar has them."""
    rows = []
    for entry in layers.entries(layer):
        folder, _, name = entry.path.rpartition("/")
        if entry.kind == WHITEOUT:
            name = ".wh." + name
        rows.append(f"{folder}/{name}" if folder else name)
    return sorted(rows)
