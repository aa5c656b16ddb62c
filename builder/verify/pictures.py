"""An image of a store as what is compared: its config, its history, and its layers, read when asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from builder import digest as digests
from builder.errors import ImageError
from builder.images.contents import scan_layer
from builder.oci import documents
from builder.oci.held import Held, images_of
from builder.oci.platform import canonical
from builder.verify.compare import Layer, Picture, Step

if TYPE_CHECKING:
    from builder.oci.names import Row
    from builder.store.blobs import BlobStore

# What a config has besides the image: a cache within it speaks of other builds.
CACHES = ("org.pybuild.cache.v1", "moby.buildkit.cache.v0")


def pictures_of(blobs: BlobStore, row: Row, name: str) -> dict[str, Picture]:
    """The images of an entry by their platforms. Raises ImageError and StoreError for what is damaged."""
    return {
        "/".join(filter(None, canonical(held.platform))): _picture(blobs, held, name)
        for held in images_of(blobs, row, name)
    }


def _picture(blobs: BlobStore, held: Held, name: str) -> Picture:
    data = blobs.read(digests.parse(held.manifest.config.digest), documents.MAX_CONFIG)
    diff_ids = documents.parse_config(data, name).rootfs.diff_ids
    config: dict[str, Any] = json.loads(data)
    history = config.pop("history", None) or []
    for field in ("rootfs", *CACHES):
        config.pop(field, None)
    if len(diff_ids) != len(held.manifest.layers):
        raise ImageError(f"{name} has another number of layers than its config says", code="invalid-manifest")
    layers = [
        Layer(diff_id, descriptor.digest, partial(scan_layer, blobs, descriptor, diff_id, name))
        for diff_id, descriptor in zip(diff_ids, held.manifest.layers, strict=True)
    ]
    return Picture(held.descriptor.digest, config, list(_steps(history, layers)))


def _steps(history: Sequence[dict[str, Any]], layers: Sequence[Layer]) -> Iterator[Step]:
    """The history with its layers; those that it does not tell of are steps of their own."""
    left = iter(layers)
    for entry in history:
        yield Step(entry, None if entry.get("empty_layer") else next(left, None))
    yield from (Step({}, layer) for layer in left)
