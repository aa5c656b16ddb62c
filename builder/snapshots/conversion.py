"""The bytes of a layer of the store, from one of their forms to another: a blob unpacked, a folder packed.

`forms` knows how each is written and read; here is which of those that a layer has serves, and where the new
one goes. Blocking; the caller holds the layer's lock. Must never know: keys, images, mounts.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from builder.fs.rooted import open_root, opened
from builder.snapshots import folders, forms, index, splice
from builder.store.ingest import IngestFolder

if TYPE_CHECKING:
    from builder.oci.compressed import Compression
    from builder.oci.spec import LayerBlob
    from builder.snapshots.folders import Stacked
    from builder.snapshots.layers import LayerStore
    from builder.snapshots.snapshot import LayerId


def unpack(store: LayerStore, layer: LayerId) -> None:
    """Make a layer's folder from one of its blobs, or else from the two folders that show it.

    Raises StoreError if it has none.
    """
    folder = store.path(layer)
    entries = store.entries(layer)
    blob = next((blob for blob in forms.read_blobs(folder).values() if store.has_blob(blob)), None)
    stacked = folders.find_stacked(store, layer) if blob is None else None
    if blob is None and stacked is None:
        raise index.lost(layer)
    with IngestFolder(store.store) as work:
        made, tree = os.path.join(work.path, store.tree_name), os.path.join(folder, store.tree_name)
        if blob is not None:
            forms.unpack_blob(store.blobs, blob, entries, Path(made), store.owning.way)
        elif stacked is not None:
            content = partial(folders.open_bytes, stacked)
            forms.write_folder(Path(made), entries, content, store.owning.way)
        index.mark_boot(folder, store.boot, index.tree_boot(store.tree_name))
        store.blobs.grown += index.room_of(entries)
        try:
            os.rename(made, tree)
        except OSError:
            if not os.path.isdir(tree):
                raise  # else another process was faster, and its folder is as good


def pack(
    store: LayerStore,
    layer: LayerId,
    known: dict[str, LayerBlob],
    compression: Compression,
    clamp: int | None,
) -> LayerBlob:
    """Make a blob from the folder, or from one of the `known` blobs, by `forms.blob_key`, that holds the same
    tar if there is no folder. One that came with an image, if it is among them, is there, and the other is
    made of it in any case, as it is to be the same layer. Raises StoreError if the layer has lost its bytes.
    """
    if forms.IMPORTED in known:
        return forms.recompress(store.blobs, known[forms.IMPORTED], compression)
    if not store.is_lent(layer) and not store.has_tree(layer):
        for key, blob in known.items():
            if _holds_same_tar(key, clamp) and store.has_blob(blob):
                return forms.recompress(store.blobs, blob, compression)
        if (stacked := store.stacked(layer)) is not None:
            return _pack_stacked(store, stacked, compression, clamp)
    with opened(open_root(store.unpacked(layer))) as fd:
        return forms.pack_folder(store.blobs, fd, store.entries(layer), compression, clamp)


def _pack_stacked(
    store: LayerStore, stacked: Stacked, compression: Compression, clamp: int | None
) -> LayerBlob:
    """The same from the two folders that show the layer, or from its base's blob and the small one."""
    rows, content = store.entries(stacked.layer), partial(folders.open_bytes, stacked)
    made = splice.splice(store, rows, stacked.base, content, compression, clamp)
    return made[0] if made else forms.write_blob(store.blobs, rows, content, compression, clamp)[0]


def _holds_same_tar(key: str, clamp: int | None) -> bool:
    """Whether a blob of this key differs in its compression only."""
    is_plain = key != forms.IMPORTED and not key.startswith("estargz:")  # which has files of its own
    return is_plain and key.rpartition(":")[2] == ("" if clamp is None else str(clamp))
