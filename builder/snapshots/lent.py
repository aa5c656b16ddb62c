"""Layers of one process alone: contexts, whose bytes lie in folders of the user's.

Where a folder that overlayfs can mount is needed, the entries are copied to one in ROOT/ingest, which lives
as long as the store's object. Blocking. On the path of a fully cached build, which copies nothing.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from builder.snapshots.layers import LayerStore
    from builder.snapshots.snapshot import LayerId
    from builder.store.ingest import IngestFolder


class Lent:
    """The lent layers of a store. `folders`: where the bytes of each are."""

    __slots__ = ("_scratch", "_store", "_unpacked", "folders")

    def __init__(self, store: LayerStore) -> None:
        self._store = store
        self.folders: dict[str, str] = {}
        self._unpacked: set[str] = set()
        self._scratch: IngestFolder | None = None

    def unpacked(self, layer: LayerId) -> Path:
        """The layer's entries as a folder of their own, made now if it is not there."""
        from pathlib import Path

        from builder.snapshots import forms
        from builder.store.ingest import IngestFolder

        store = self._store
        with store.lock("lent", ""):
            if self._scratch is None:
                self._scratch = IngestFolder(store.store)
            tree = Path(self._scratch.path, layer)
        with store.lock("tree", layer):
            if layer not in self._unpacked:
                entries, way = store.entries(layer), store.owning.way
                forms.write_folder(tree, entries, lambda entry: store.open(layer, entry), way)
                self._unpacked.add(layer)
        return tree

    def adopt(self, lent: LayerId) -> LayerId:
        """Make a lent layer one of the store; see `LayerStore.adopt`."""
        from builder.snapshots.edit import new_id
        from builder.store.ingest import IngestFolder

        store = self._store
        with IngestFolder(store.store) as work:
            tree = self.unpacked(lent)
            folder = os.path.join(work.path, "layer")
            os.mkdir(folder, 0o700)
            os.rename(tree, os.path.join(folder, store.tree_name))
            self._unpacked.discard(lent)
            return store.place(new_id(), folder, store.entries(lent))

    def close(self) -> None:
        """Remove the copies."""
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None
