"""Whether two snapshots are the same to a step that runs on them: a digest of their layers.

It holds all that an image's layer does: paths, kinds, modes, owners, times, link targets, hard links,
bytes, devices, capabilities, what is hidden, and how all this is divided into layers, as the image of who is
spared has those of the other. Never ids, and of the disk neither inodes nor times of access. A layer that
came from elsewhere is known by its diff id, which is the digest of all that. Blocking.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

from builder.digest import Digest, from_hex, of_value
from builder.snapshots import forms
from builder.snapshots.selection import capability_of
from builder.snapshots.snapshot import FILE

if TYPE_CHECKING:
    from typing import Protocol

    from builder.snapshots.layers import LayerStore
    from builder.snapshots.snapshot import Entry, LayerId, Snapshot

    class Memory(Protocol):
        """What keeps texts under names from one process to the next; solver.cache is one."""

        def recall(self, kind: str, name: Digest) -> str | None: ...

        def remember(self, kind: str, name: Digest, text: str) -> str: ...


KIND = "content"  # of what is remembered


def digest(layers: LayerStore, memory: Memory, snapshot: Snapshot) -> Digest:
    """The digest of a snapshot. Raises StoreError if a layer is not there, or has lost its bytes."""
    return of_value(["snapshot", 1, [_remembered(layers, memory, layer) for layer in snapshot]])


def _remembered(layers: LayerStore, memory: Memory, layer: LayerId) -> Digest:
    """A layer never changes, so its digest is found once; one of this process alone is not worth a note."""
    if layers.is_lent(layer):
        return _of_layer(layers, layer)
    name = of_value(["layer", layer])
    return Digest(memory.recall(KIND, name) or memory.remember(KIND, name, _of_layer(layers, layer)))


def _of_layer(layers: LayerStore, layer: LayerId) -> Digest:
    if not layers.is_lent(layer):
        imported = forms.read_blobs(layers.path(layer)).get(forms.IMPORTED)
        if imported is not None:
            return of_value(["diff", imported.diff_id])
    hasher = sha256(b"layer 1\n")
    encode = json.JSONEncoder(separators=(",", ":")).encode
    for entry in layers.entries(layer):
        hasher.update(encode(_row(layers, layer, entry)).encode("ascii") + b"\n")
    return from_hex(hasher.hexdigest())


def _row(layers: LayerStore, layer: LayerId, entry: Entry) -> list[object]:
    found = layers.digest(layer, entry) if entry.kind == FILE else None
    return entry.replace(digest=found, xattrs=capability_of(entry)).plain()
