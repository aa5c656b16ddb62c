"""The images of the local store: what the commands about images do.

Each function takes an opened store and returns plain values in docker's shapes; nothing is printed. A module
per job:

find, listing, describe, removal    which image a text means; lists; inspect and history; rmi
whole, saving, loading              an image as it goes to others; archives out, and in
importing, changes                  a tarball as an image, and what `--change` makes of its config
contents, packages                  what layers hold, read from their blobs
difference, waste                   what differs between two images; what layers add for nothing
uploads, downloads                  to registries, and from them
"""

from __future__ import annotations

from collections.abc import Sequence

from builder.exporters import parse_name
from builder.images.describe import history, inspect
from builder.images.find import find, this_machine
from builder.images.listing import Listed, list_images
from builder.images.loading import Loaded, load
from builder.images.removal import live_blobs, remove
from builder.oci.names import Names
from builder.store import locks
from builder.store.leases import leased
from builder.store.root import Store

__all__ = [
    "Listed", "Loaded", "find", "history", "inspect", "list_images", "live_blobs", "load", "remove", "tag",
    "this_machine",
]  # fmt: skip


def tag(store: Store, source: str, targets: Sequence[str]) -> None:
    """Give an image more names. Raises ImageError if it is not there, UsageError for a bad name."""
    names = [parse_name(text) for text in targets]
    # An image that loses its other names meanwhile stays whole.
    with locks.shared(store.folder, locks.BUILDS), leased(store):
        row, _ = find(store, source)
        Names(store).add(row, names)
