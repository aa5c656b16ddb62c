"""The folders that hold a layer's bytes, and those that overlayfs is given for a snapshot.

    ROOT/layers/<id>/tree/     all that the layer holds: it alone shows the layer; see `index` for other names
    ROOT/layers/<id>/delta/    what tells it from another layer, laid over that one's tree (see `delta`); as
                               with trees, delta-mapped/ and so on hold the same with owners kept otherwise
    ROOT/layers/<id>/base      a symlink to nowhere, whose text is the id of that other layer

A delta is made with its layer, never later, and stands on a tree, never on another delta. Where its base has
lost that tree it is no form of the layer any more, and serves again once the base is unpacked again.

On the path of a fully cached build.
"""

from __future__ import annotations

import os

from builder.snapshots import index
from builder.snapshots.edit import is_id
from builder.snapshots.snapshot import LayerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from builder.snapshots.layers import LayerStore
    from builder.snapshots.snapshot import Entry, Snapshot

BASE = "base"
DELTA = "delta"


def delta_name(tree: str) -> str:
    """The name of a layer's small folder, where the whole one has that name."""
    return DELTA + tree.removeprefix("tree")


def base_of(folder: str) -> LayerId | None:
    """The layer that the layer in this folder stands on, be it there or not."""
    try:
        text = os.readlink(os.path.join(folder, BASE))
    except OSError:
        return None
    return LayerId(text) if is_id(text) else None


class Stacked:
    """A layer's two folders: the whole one of its base, and the small one over that.

    removed: the outermost paths of the base that the layer has not, once somebody asked.
    """

    __slots__ = ("base", "delta", "layer", "removed", "tree")

    def __init__(self, layer: LayerId, base: LayerId, tree: str, delta: str) -> None:
        self.layer = layer
        self.base = base
        self.tree = tree
        self.delta = delta
        self.removed: tuple[str, ...] | None = None


def find_stacked(store: LayerStore, layer: LayerId, tree: str = "") -> Stacked | None:
    """The two folders that show a layer, where it has such and both can be trusted.

    tree: what whole folders are called, by default those of the store's own way.
    """
    name = tree or store.tree_name
    delta = os.path.join(store.path(layer), delta_name(name))
    base = base_of(store.path(layer))
    if base is None or not os.path.isdir(delta):
        return None
    whole = os.path.join(store.path(base), name)
    made = index.read_boot(store.path(base))
    if made not in (store.boot, index.PROMOTED) or not index.is_whole(whole, store.boot):
        return None
    return Stacked(layer, base, whole, delta)


def is_present(store: LayerStore, layer: LayerId, *, any_way: bool) -> bool:
    """Whether the layer is there with its bytes. One that a crash may have hurt is dropped.

    any_way: folders of owners kept in whatever way do.
    """
    if not is_id(layer):
        return False
    boot = index.read_boot(store.path(layer))
    if boot is None:
        return False
    if boot not in (store.boot, index.PROMOTED):
        store.delete(layer)
        return False
    if store.has_tree(layer) or find_stacked(store, layer) or (any_way and _is_in_any_folder(store, layer)):
        return True
    return any(store.blobs.stat(digest) is not None for digest in store.blob_digests(layer))


def _is_in_any_folder(store: LayerStore, layer: LayerId) -> bool:
    folder = store.path(layer)
    return any(
        index.is_whole(os.path.join(folder, name), store.boot) or find_stacked(store, layer, name)
        for name in index.TREES
    )


def lower(store: LayerStore, snapshot: Snapshot) -> list[str]:
    """The folders of a snapshot's layers, bottom first, each once as overlayfs wants it; made where they are
    missing. Raises StoreError for a layer that has lost its bytes.

    Of a folder that is there several times (an empty layer's, say) the topmost counts: all that it holds
    and hides, it holds and hides there, too.
    """
    found: list[str] = []
    for number, layer in enumerate(snapshot):
        stacked = store.stacked(layer)
        if stacked is not None and _hides_only_its_own(store, stacked, snapshot[:number]):
            found += (stacked.tree, stacked.delta)
        elif store.is_unpacked(layer):
            found.append(f"{store.folder}/{layer}/{store.tree_name}")
        else:
            found.append(str(store.unpacked(layer)))
    return [*dict.fromkeys(reversed(found))][::-1]


def _hides_only_its_own(store: LayerStore, stacked: Stacked, below: Snapshot) -> bool:
    """Whether what the delta removes from its base is nowhere else below it (as it would be gone, too)."""
    from builder.snapshots.delta import fits_over, removed_paths

    if stacked.removed is None:
        stacked.removed = removed_paths(store.entries(stacked.layer), store.entries(stacked.base))
    return not stacked.removed or fits_over(stacked.removed, store.tree(below))


def open_bytes(stacked: Stacked, entry: Entry) -> BinaryIO:
    """The bytes of a FILE of the layer, from that of the two folders that has them. Raises OSError."""
    from builder.fs.rooted import open_root, opened
    from builder.snapshots.forms import open_stored

    path = entry.hardlink or entry.path
    with opened(open_root(stacked.delta)) as fd:
        try:
            return open_stored(fd, path)
        except FileNotFoundError:
            pass
    with opened(open_root(stacked.tree)) as fd:
        return open_stored(fd, path)
