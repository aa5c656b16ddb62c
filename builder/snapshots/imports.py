"""Layers of foreign images: from a blob in the store to a layer, and layers to a snapshot.

A foreign tar may hold `a/b` without a header for `a`. Such a folder is implied: over a folder it leaves
that as it is. A tree of entries knows that; a folder on disk, mounted above others, would show its own
mode and owner instead. And it may remove what is not there: overlayfs lists that name in a folder which
only this layer has. `settle` therefore gives implied folders the attributes of what lies below, and leaves
out removals of nothing, by a variant of the layer where that changes it, so that the overlay shows what the
entries say.

Layers are shared by all images with the same diff id, and variants by all that need the same. Must never
know: where a blob came from, images, mounts.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from builder.digest import Digest, hex_of, of_value, parse
from builder.errors import ImageError
from builder.oci.layer import canonical
from builder.snapshots import forms
from builder.snapshots.edit import new_id
from builder.snapshots.snapshot import FOLDER, OPAQUE, WHITEOUT, Entry, LayerId, is_settled
from builder.snapshots.tree import Tree
from builder.store.ingest import IngestFolder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from builder.oci.spec import LayerBlob
    from builder.snapshots.layers import LayerStore
    from builder.snapshots.snapshot import Snapshot
    from builder.store.growing import Growing


def import_blob(store: LayerStore, blob: LayerBlob, *, unpacked: bool) -> LayerId:
    """The layer of a foreign blob; the one that is there, or a new one. Raises ImageError."""
    diff_id = _parse_diff_id(blob)
    blob = forms.as_imported(store.blobs, blob)
    if (layer := _find(store, diff_id)) is not None:
        _remember(store, layer, blob)
        if unpacked:
            store.unpacked(layer)
        return layer
    digest = parse(blob.descriptor.digest)
    with forms.sound(store.blobs, digest), store.blobs.open(digest) as stream:
        return _read(store, blob, diff_id, stream, unpacked=unpacked)


def import_growing(store: LayerStore, blob: LayerBlob, growing: Growing, *, unpacked: bool) -> LayerId | None:
    """The same of a blob that is still on its way; None where the layer is there already.

    Raises CutShort where it does not come to a good end, and ImageError.
    """
    diff_id = _parse_diff_id(blob)
    if _find(store, diff_id) is not None:
        return None
    if unpacked and store.workers.are_worth(blob.descriptor.size):
        with contextlib.suppress(OSError):  # then there can be no process for it
            return _have_read(store, blob, diff_id, growing)
    return _read(store, blob, diff_id, growing, unpacked=unpacked)


def _have_read(store: LayerStore, blob: LayerBlob, diff_id: Digest, growing: Growing) -> LayerId:
    """Have the layer of a blob made by another process."""
    with IngestFolder(store.store) as work:
        folder = os.path.join(os.path.abspath(work.path), "layer")
        os.mkdir(folder, 0o700)
        job = {
            "tree": os.path.join(folder, store.tree_name),
            "folder": folder,
            "way": store.owning.way,
            "name": f"layer {blob.descriptor.digest}",
            "many": True,
        }
        done = store.workers.unpack(growing, job, work.fileno())
        _check_diff_id(blob, done.diff_id)
        forms.remember_blob(folder, forms.IMPORTED, forms.as_imported(store.blobs, blob))
        layer = store.place_indexed(new_id(), folder, done.size)
    if done.settled:
        store.settled.add(layer)
    _note(store, diff_id, layer)
    return layer


def _read(
    store: LayerStore, blob: LayerBlob, diff_id: Digest, stream: Growing | BinaryIO, *, unpacked: bool
) -> LayerId:
    """Make the layer of a blob's bytes, which are in the store once they have all been read."""
    with IngestFolder(store.store) as work:
        folder = os.path.join(work.path, "layer")
        os.mkdir(folder, 0o700)
        tree = Path(folder, store.tree_name) if unpacked else None
        entries, found = forms.read_blob(stream, blob, tree, store.owning.way)
        while stream.read(forms.CHUNK):
            pass
        _check_diff_id(blob, found)
        forms.remember_blob(folder, forms.IMPORTED, forms.as_imported(store.blobs, blob))
        layer = store.place(new_id(), folder, entries)
    _note(store, diff_id, layer)
    return layer


def settle(store: LayerStore, layers: Sequence[LayerId]) -> Snapshot:
    """The snapshot of the layers, with variants of those whose folders would show wrongly."""
    settled: list[LayerId] = []
    for layer in layers:
        if layer not in store.settled and not all(map(is_settled, entries := store.entries(layer))):
            right = _right(store.tree(tuple(settled)), layer, entries)
            if right != entries:
                layer = _variant(store, layer, right)
        settled.append(layer)
    return tuple(settled)


def _right(below: Tree, layer: LayerId, entries: list[Entry]) -> list[Entry]:
    """The entries as they are over `below`.

    Implied folders have the attributes of what they lie over, else 0755, 0:0. What removes nothing is gone.
    """
    emptied = below.plus(layer, [entry for entry in entries if entry.kind == OPAQUE])
    needed = [e for e in entries if e.kind != WHITEOUT or emptied.get(e.path) is not None]
    shown = emptied.plus(layer, [entry for entry in needed if entry.kind == WHITEOUT])
    right = []
    for entry in needed:
        if entry.implied and entry.kind == FOLDER:
            there = shown.get(entry.path)
            if there is not None and there.kind == FOLDER:
                entry = entry.replace(mode=there.mode, uid=there.uid, gid=there.gid, mtime=there.mtime)
            else:
                entry = entry.replace(mode=0o755, uid=0, gid=0)
        right.append(entry)
    return right


def _variant(store: LayerStore, layer: LayerId, entries: list[Entry]) -> LayerId:
    """The layer with these entries, whose bytes are those of `layer`; made unless it is there."""
    implied = [[e.path, e.mode, e.uid, e.gid, e.mtime] for e in entries if e.implied]
    removed = [e.path for e in entries if e.kind == WHITEOUT]
    name = of_value(["settled", layer, implied, removed])
    with store.lock("diff", name):
        if (there := _find(store, name)) is not None:
            return there
        with IngestFolder(store.store) as work:
            folder = os.path.join(work.path, "layer")
            os.mkdir(folder, 0o700)
            for key, blob in forms.read_blobs(os.path.join(store.folder, layer)).items():
                forms.remember_blob(folder, key, blob)
            variant = store.place(new_id(), folder, canonical(entries))
        _note(store, name, variant)
    return variant


def _parse_diff_id(blob: LayerBlob) -> Digest:
    try:
        return parse(blob.diff_id)
    except ValueError as error:
        raise ImageError(f"layer {blob.descriptor.digest} has no usable diff id: {error}") from error


def _remember(store: LayerStore, layer: LayerId, blob: LayerBlob) -> None:
    """Remember a blob of a layer that is there. What an image says a blob holds is not believed: a false one
    would go into every image that is made of the layer."""
    folder = os.path.join(store.folder, layer)
    seen = [(known.descriptor.digest, known.diff_id) for known in forms.read_blobs(folder).values()]
    if (blob.descriptor.digest, blob.diff_id) not in seen:
        _check_diff_id(blob, forms.diff_id_of(store.blobs, blob))
    forms.remember_blob(folder, forms.IMPORTED, blob)


def _check_diff_id(blob: LayerBlob, found: str) -> None:
    if found != blob.diff_id:
        raise ImageError(
            f"layer {blob.descriptor.digest} is not what its image says: its diff id is {found}, "
            f"not {blob.diff_id}",
            code="wrong-diff-id",
        )


def _find(store: LayerStore, name: Digest) -> LayerId | None:
    """The layer that is noted under a digest, if it still is one."""
    try:
        layer = LayerId(os.readlink(_place_of(store, name)))
    except FileNotFoundError:
        return None
    return layer if store.exists((layer,)) else None


def _note(store: LayerStore, name: Digest, layer: LayerId) -> None:
    """Note a layer under a digest; of two processes that do so, the later one is remembered."""
    path = _place_of(store, name)
    temporary = f"{path}-{os.getpid()}-{os.urandom(8).hex()}"
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    os.symlink(layer, temporary)
    os.rename(temporary, path)


def _place_of(store: LayerStore, name: Digest) -> str:
    return os.path.join(store.store, "cache", "diffs", hex_of(name))
