"""How layers of our own come to be: of entries and their bytes, and of what a step changed.

A step writes to folders that `begin` makes. By an overlay the upper one becomes the layer's as it is; of a
copy of all that was below, what differs from how it was made is found (`copies`). `changes` decides what of
it is the layer. Blocking. Must never know: sandboxes, mounts, caches.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.fs.rooted import open_root, opened
from builder.oci.compressed import Compression
from builder.oci.layer import canonical
from builder.snapshots import changes, copies, delta, folders, forms, splice
from builder.snapshots.edit import COPY, Edit, new_id
from builder.snapshots.snapshot import FOLDER
from builder.store.ingest import IngestFolder

if TYPE_CHECKING:
    from builder.snapshots.changes import Stub
    from builder.snapshots.clamp import Clamp
    from builder.snapshots.delta import Delta
    from builder.snapshots.forms import Content
    from builder.snapshots.layers import LayerStore
    from builder.snapshots.snapshot import Entry, LayerId, Snapshot
    from builder.snapshots.tree import Node, Tree


def create(
    store: LayerStore,
    entries: Iterable[Entry],
    content: Content,
    *,
    unpacked: bool,
    model: LayerId | None,
    now: int | None,
) -> LayerId:
    """Make a layer as a folder or as a blob; see `LayerStore.create`."""
    rows = canonical(entries)
    found = _compare(store, rows, model, now)
    if found is not None and model is not None:
        if found.is_nothing:
            return model
        rows = found.rows
    with IngestFolder(store.store) as work:
        folder = os.path.join(work.path, "layer")
        os.mkdir(folder, 0o700)
        if not unpacked:
            rows = _write_blob(store, folder, rows, content, model if found is not None else None)
        elif found is not None and model is not None and found.is_worth_it and store.has_tree(model):
            rows = _write_delta(store, folder, found, content, model)
        else:
            rows = forms.write_folder(Path(folder, store.tree_name), rows, content, store.owning.way)
        return store.place(new_id(), folder, rows)


def _compare(store: LayerStore, rows: list[Entry], model: LayerId | None, now: int | None) -> Delta | None:
    """What tells the rows from the model's, if that is there and it can be told."""
    if model is None or store.is_lent(model) or not store.exists((model,)):
        return None
    return delta.compare(rows, store.entries(model), now=now)


def _write_delta(
    store: LayerStore, folder: str, found: Delta, content: Content, base: LayerId
) -> list[Entry]:
    """Write what is not in the base's folder; the layer's entries with their digests."""
    small = Path(folder, folders.delta_name(store.tree_name))
    written = forms.write_folder(small, found.small, content, store.owning.way)
    os.symlink(base, os.path.join(folder, folders.BASE))
    new = {entry.path: entry for entry in written}
    return [new[row.path] if row.path in found.changed else row for row in found.rows]


def _write_blob(
    store: LayerStore, folder: str, rows: list[Entry], content: Content, model: LayerId | None
) -> list[Entry]:
    """Write the blob, of the model's as far as that goes; the layer's entries with their digests."""
    compression = Compression()
    key = forms.blob_key(compression, None)
    if model is not None and (made := splice.splice(store, rows, model, content, compression, None)):
        blob, rows = made
    else:
        blob, rows = forms.write_blob(store.blobs, rows, content, compression)
    forms.remember_blob(folder, key, blob)
    return rows


def begin(store: LayerStore, below: Snapshot, snapshotter: str) -> Edit:
    """New folders for a step on `below`; see `LayerStore.edit`."""
    tree = store.tree(below)
    ingest = IngestFolder(store.store)
    try:
        edit = Edit(ingest, store.tree_name)
        _make_root(store, edit, tree)
        if snapshotter == COPY:
            store.copy(edit.upper, tree)
            with opened(open_root(edit.upper)) as fd:
                edit.copied = copies.look(fd, edit.work)
    except BaseException:
        ingest.close()
        raise
    return edit


def _make_root(store: LayerStore, edit: Edit, tree: Tree) -> None:
    """Give the upper folder the mode and owner that the tree's root has."""
    root = tree.get(".")
    if root is None or root.kind != FOLDER or root.implied:
        return
    with opened(open_root(edit.upper)) as fd:
        store.owning.give(fd, "/", root.uid, root.gid)
        os.fchmod(fd, root.mode)


def commit(
    store: LayerStore,
    edit: Edit,
    below: Snapshot,
    stubs: Sequence[Stub],
    owners: Mapping[str, tuple[int, int]],
    *,
    as_it_is: bool,
    clamp: Clamp | None = None,
) -> LayerId:
    """Make what changed in the upper folder a layer; see `LayerStore.commit`. The edit is used up."""
    with edit, opened(open_root(edit.upper)) as fd:

        def is_same(path: str, node: Node) -> bool:
            with forms.open_file(fd, path) as new, store.open(node.layer, node.entry) as old:
                return forms.same_bytes(new, old)

        tree = store.tree(below)
        if edit.copied is None:
            upper = changes.read(fd, store.owning)
        else:
            upper = copies.read(fd, edit.copied, tree, store.owning)
        changes.own(upper, tree, owners)
        entries = changes.compare(upper, tree, stubs, is_same, clamp)
        if not as_it_is or edit.copied is not None:
            changes.tidy(fd, upper, entries, tree)
        if clamp is not None and not as_it_is:
            clamp.settle(fd, entries)
        return store.place(edit.id, edit.folder, entries)
