"""Several layers of a snapshot as one: what `--squash` makes of those above the base.

The one idea: a layer is what tells two trees apart. What the layers above the base have left is written,
what they have taken away from the base is a removal, and what one of them made and a later one removed is
gone. The layer is none of the store's: its blob goes into an image, and no cache asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.snapshots import forms
from builder.snapshots.snapshot import FILE, FOLDER, WHITEOUT, Entry, LayerId, parent_of

if TYPE_CHECKING:
    from typing import BinaryIO

    from builder.oci.compressed import Compression
    from builder.oci.spec import LayerBlob
    from builder.snapshots.layers import LayerStore
    from builder.snapshots.snapshot import Snapshot
    from builder.snapshots.tree import Tree

    Sources = dict[str, tuple[LayerId, Entry]]


def squash(base: Tree, whole: Tree, layers: Snapshot) -> tuple[list[Entry], Sources]:
    """The entries, in canonical order, of the one layer that makes `whole` of `base`, as these layers do
    together; and for each file that has bytes there, where they are. Pure.

    Names of one file stay links to each other, to the first of them that is left.
    """
    above = frozenset(layers)
    entries, sources = _removals(base, whole), dict[str, tuple[LayerId, Entry]]()
    first: dict[tuple[LayerId, str], str] = {}
    for entry in whole.walk("."):
        layer = whole.nodes[entry.path].layer
        if layer not in above:
            continue
        if entry.kind != FILE:
            entries.append(entry)
            continue
        original = entry.hardlink if entry.hardlink is not None else entry.path
        known = first.setdefault((layer, original), entry.path)
        if known == entry.path:
            sources[entry.path] = (layer, entry.replace(path=original, hardlink=None))
            entries.append(entry.replace(hardlink=None))
        else:
            entries.append(entry.replace(hardlink=known))
    return entries, sources


def _removals(base: Tree, whole: Tree) -> list[Entry]:
    """What is gone from the base, topmost paths only; what has another kind now is replaced, not gone."""
    gone = []
    for path in base.nodes:
        if path == "." or path in whole.nodes:
            continue
        above = whole.get(parent_of(path))
        if parent_of(path) == "." or (above is not None and above.kind == FOLDER):
            was = base.get(parent_of(path))
            if was is None or was.kind == FOLDER:
                gone.append(Entry(path, WHITEOUT))
    return gone


def pack(
    store: LayerStore, snapshot: Snapshot, below: int, compression: Compression, clamp: int | None
) -> LayerBlob:
    """The blob of all but the lowest `below` layers as one; see `forms.write_blob`. Blocking."""
    entries, sources = squash(store.tree(snapshot[:below]), store.tree(snapshot), snapshot[below:])

    def content(entry: Entry) -> BinaryIO:
        return store.open(*sources[entry.path])

    return forms.write_blob(store.blobs, entries, content, compression, clamp)[0]
