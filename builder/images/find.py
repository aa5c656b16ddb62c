"""Which image of the store a text means, and which of its platforms' images: read, never changed.

An image is named as people type it: a reference, an id (its config's, as docker has it; that of an image of
several platforms is its index's digest) or a digest (of a manifest), whole or its beginning. Of an index the
image for a platform is taken: the one asked for, else the machine's, else the first that is there. What an
index lists as unknown/unknown (attestations) is never taken.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from builder import digest as digests
from builder.digest import Digest
from builder.errors import ImageError, StoreError
from builder.oci import documents, reference
from builder.oci.held import Held, choose_held, images_of
from builder.oci.names import Names, Row, name_of
from builder.oci.reference import InvalidReference
from builder.oci.spec import Descriptor, ImageConfig, Index, Manifest, Platform
from builder.prepare import machine_platform
from builder.store.root import Store

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})")


@dataclass(frozen=True, slots=True)
class Found:
    """row: the entry of the store's table; descriptor: of the image that was taken, with its platform: the
    entry's own, or one of its index's; manifest, config: the image's."""

    row: Row
    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig

    @property
    def is_in_index(self) -> bool:
        """Whether the entry is an index."""
        return str(self.row["digest"]) != self.descriptor.digest


def find(store: Store, wanted: str, platform: Platform | None = None) -> tuple[Row, Manifest]:
    """The image that a text names: its entry in the store's table and its manifest. Raises ImageError."""
    found = find_image(store, wanted, platform)
    return found.row, found.manifest


def find_image(store: Store, wanted: str, platform: Platform | None = None) -> Found:
    """The same with all that its documents say.

    platform: the image has to be for it (else an error with the code "platform-not-found"); None: the
    machine's, where there is one, else the first that the store has. Raises ImageError.
    """
    return image_of(store, find_row(store, wanted), wanted, platform)


def find_row(store: Store, wanted: str) -> Row:
    """The entry that a text names; for the digest or id of one image of an index, that image's own.

    Of an id that several entries have one that has a name. Raises ImageError.
    """
    found = find_rows(store, wanted)
    return next((row for row in found if name_of(row) is not None), found[0])


def find_rows(store: Store, wanted: str) -> list[Row]:
    """The entries that a text names, one a digest: of an id there are several where the same config came with
    layers in several forms, as a build made them and as `docker save` writes them. Raises ImageError.
    """
    rows = Names(store).rows()
    by_id = _ID.fullmatch(wanted)
    try:
        name = reference.parse(wanted)
    except InvalidReference:
        if by_id is None:
            raise
        name = None
    if name is not None and name.familiar_name() != "sha256":  # else an id, which no name can hide
        row = _by_digest(store, rows, name.digest) if name.digest else Names(store).find(name)
        if row is not None:
            return [row]
    if by_id is not None and (found := _by_id(store, rows, by_id[1], wanted)):
        return found
    raise ImageError(
        f"image {wanted} is not in the store", code="image-not-found", hint=_nearest(wanted, rows)
    )


def image_of(store: Store, row: Row, name: str, platform: Platform | None = None) -> Found:
    """The image of an entry, for the platform where there is a choice. Raises ImageError, StoreError."""
    held = choose_held(images_of(store.blobs, row, name), platform, this_machine(), name)
    return _read(store, row, held, name)


def every_image_of(store: Store, row: Row, name: str) -> list[Found]:
    """All images of an entry that are in the store, in the index's order; of one platform it is one."""
    return [_read(store, row, held, name) for held in images_of(store.blobs, row, name)]


def entries_of(store: Store, row: Row, name: str) -> tuple[Descriptor, ...]:
    """What an entry's index lists; () of a single image."""
    document = _document(store, row["digest"], str(row.get("mediaType") or ""), name)
    return document.manifests if isinstance(document, Index) else ()


def names_of(store: Store, digest: str) -> list[str]:
    """The names of an image."""
    rows = Names(store).rows()
    return [name for row in rows if row["digest"] == digest and (name := name_of(row)) is not None]


def id_of(found: Found) -> str:
    """What docker calls the image's id: the config's digest, an index's own of several."""
    return str(found.row["digest"]) if found.is_in_index else found.manifest.config.digest


def size_of(manifest: Manifest) -> int:
    """Compressed bytes of config and layers."""
    return manifest.config.size + sum(layer.size for layer in manifest.layers)


def this_machine() -> Platform:
    """The platform of this machine."""
    architecture, variant = machine_platform()
    return Platform(architecture, "linux", variant)


# ── finding ──────────────────────────────────────────────────────────────────────────────────────────────


def _by_digest(store: Store, rows: Sequence[Row], digest: Digest) -> Row | None:
    found = next((row for row in rows if row["digest"] == digest), None)
    return found or next((row for row in _inner_rows(store, rows) if row["digest"] == digest), None)


def _by_id(store: Store, rows: Sequence[Row], prefix: str, wanted: str) -> list[Row]:
    """The entries of the one id, or of the one manifest, that begins like this; of an index, if no other."""
    for candidates in (rows, list(_inner_rows(store, rows))):
        found: dict[str, Row] = {}
        meant: set[str] = set()
        for row in candidates:
            known = [each for each in _digests_of(store, row, wanted) if each.startswith(f"sha256:{prefix}")]
            if known:
                found.setdefault(row["digest"], row)
                meant.add(known[-1])
        if len(meant) > 1:
            raise ImageError(
                f"id {wanted} is the beginning of {len(meant)} images",
                code="ambiguous-image",
                hint="give more of it",
            )
        if found:
            return list(found.values())
    return []


def _digests_of(store: Store, row: Row, name: str) -> list[str]:
    """What an entry is known by: its digest, and its config's where it is no index."""
    known = [row["digest"]]
    with contextlib.suppress(ImageError, StoreError):  # damaged: still named by its manifest's digest
        document = _document(store, row["digest"], str(row.get("mediaType") or ""), name)
        if isinstance(document, Manifest):
            known.append(document.config.digest)
    return known


def _inner_rows(store: Store, rows: Sequence[Row]) -> Iterator[Row]:
    """The images in the table's indexes, as entries of their own, without names."""
    for row in rows:
        if row.get("mediaType") not in documents.INDEX_TYPES:
            continue
        with contextlib.suppress(ImageError, StoreError):
            for held in images_of(store.blobs, row, row["digest"]):
                yield msgspec.to_builtins(held.descriptor)


def _nearest(wanted: str, rows: Sequence[Row]) -> str | None:
    known = sorted({name for row in rows if (name := name_of(row)) is not None})
    near = difflib.get_close_matches(wanted, known, 3, 0.5)
    return f"did you mean {' or '.join(near)}?" if near else None


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────


def _document(store: Store, digest: str, media_type: str, name: str) -> Manifest | Index:
    data = store.blobs.read(digests.parse(digest), documents.MAX_MANIFEST)
    return documents.parse_manifest_or_index(data, media_type, name)


def _read(store: Store, row: Row, held: Held, name: str) -> Found:
    data = store.blobs.read(digests.parse(held.manifest.config.digest), documents.MAX_CONFIG)
    descriptor = msgspec.structs.replace(held.descriptor, platform=held.platform)
    return Found(row, descriptor, held.manifest, documents.parse_config(data, name))
