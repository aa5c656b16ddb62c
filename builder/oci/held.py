"""The images that an entry of the store's table stands for: itself, or those that its index lists.

What of an index the store lacks is not there (an index that was pulled for one platform lists others, too),
and what is no image (an attestation has the platform unknown/unknown) is none. Reads documents of the store,
and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from builder import digest as digests
from builder.errors import ImageError
from builder.oci import documents
from builder.oci.image import platform_of
from builder.oci.platform import canonical, runnable
from builder.oci.spec import Descriptor, Manifest, Platform

if TYPE_CHECKING:
    from builder.oci.names import Row
    from builder.store.blobs import BlobStore

MAX_NESTING = 3  # an index may list indexes, but not for ever
UNKNOWN = "unknown"  # the os and architecture of what is listed among images and is none


class Held(msgspec.Struct, frozen=True):
    """An image of the store: its manifest, the descriptor that names that, and the platform it is for."""

    descriptor: Descriptor
    manifest: Manifest
    platform: Platform


def images_of(blobs: BlobStore, row: Row, name: str) -> list[Held]:
    """The images of an entry that the store has, in the order of its index; of a single image, that one.

    name: for messages. Raises ImageError and StoreError for a document that is damaged.
    """
    platform = row.get("platform")
    descriptor = Descriptor(
        str(row.get("mediaType") or ""),
        row["digest"],
        row["size"],
        platform=msgspec.convert(platform, Platform) if platform else None,
    )
    return list(_images_below(blobs, descriptor, name, 0))


def _images_below(blobs: BlobStore, descriptor: Descriptor, name: str, depth: int) -> Iterator[Held]:
    data = blobs.read(digests.parse(descriptor.digest), documents.MAX_MANIFEST)
    document = documents.parse_manifest_or_index(data, descriptor.media_type, name)
    if isinstance(document, Manifest):
        platform = descriptor.platform or _config_platform(blobs, document, name)
        whole = msgspec.structs.replace(descriptor, media_type=document.media_type, size=len(data))
        yield Held(whole, document, platform)
        return
    for child in document.manifests if depth < MAX_NESTING else ():
        is_other = child.media_type not in ("", *documents.TREE_TYPES) or is_attestation(child)
        if not is_other and blobs.stat(digests.parse(child.digest)) is not None:
            yield from _images_below(blobs, child, name, depth + 1)


def is_attestation(listed: Descriptor) -> bool:
    """Whether an entry of an index is no image, but tells of one."""
    return listed.platform is not None and listed.platform.os == UNKNOWN


def _config_platform(blobs: BlobStore, manifest: Manifest, name: str) -> Platform:
    data = blobs.read(digests.parse(manifest.config.digest), documents.MAX_CONFIG)
    return platform_of(documents.parse_config(data, name))


def find_for(images: Sequence[Held], wanted: Platform) -> Held | None:
    """The image that fits a platform best, the first of equals; None where none does."""
    order = {platform: rank for rank, platform in enumerate(runnable(wanted))}
    ranked = [(order[canonical(held.platform)], held) for held in images if canonical(held.platform) in order]
    return min(ranked, key=lambda found: found[0])[1] if ranked else None


def choose_held(images: Sequence[Held], wanted: Platform | None, machine: Platform, name: str) -> Held:
    """The image for a platform; without one that for this machine, else the first. Raises ImageError."""
    chosen = find_for(images, wanted or machine)
    if chosen is None and wanted is None and images:
        return images[0]
    if chosen is not None:
        return chosen
    there = ", ".join(dict.fromkeys(str(held.platform) for held in images))
    if wanted is None:
        raise ImageError(f"{name} has no image in the store", code="image-not-found")
    raise ImageError(
        f"{name} is not in the store for {wanted}",
        code="platform-not-found",
        hint=f"it is there for {there}" if there else None,
    )
