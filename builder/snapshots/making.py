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
from builder.oci.compression import Compression
from builder.oci.layer import canonical
from builder.snapshots import changes, copies, forms
from builder.snapshots.edit import COPY, Edit, new_id
from builder.snapshots.snapshot import FOLDER
from builder.store.ingest import IngestFolder

if TYPE_CHECKING:
    from builder.snapshots.changes import Stub
    from builder.snapshots.forms import Content
    from builder.snapshots.layers import LayerStore
    from builder.snapshots.snapshot import Entry, LayerId, Snapshot
    from builder.snapshots.tree import Node, Tree


def create(store: LayerStore, entries: Iterable[Entry], content: Content, *, unpacked: bool) -> LayerId:
    """Make a layer as a folder or as a blob; see `LayerStore.create`."""
    with IngestFolder(store.store) as work:
        folder = os.path.join(work.path, "layer")
        os.mkdir(folder, 0o700)
        rows = canonical(entries)
        if unpacked:
            rows = forms.write_folder(Path(folder, store.tree_name), rows, content, store.owning.way)
        else:
            compression = Compression()
            blob, rows = forms.write_blob(store.blobs, rows, content, compression)
            forms.remember_blob(folder, forms.blob_key(compression, None), blob)
        return store.place(new_id(), folder, rows)


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
        entries = changes.compare(upper, tree, stubs, is_same)
        if not as_it_is or edit.copied is not None:
            changes.tidy(fd, upper, entries, tree)
        return store.place(edit.id, edit.folder, entries)
