"""Images of the store to registries: `pybuild push`.

What a name means in the store it shall mean in its registry, the very documents, an index with all that it
lists. Of an index of which only some images are here the one for this machine goes alone, as docker does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from builder.digest import Digest
from builder.errors import ImageError, StoreError
from builder.images.find import find_image, find_row, this_machine
from builder.oci import documents, reference
from builder.oci.beside import subject_of
from builder.oci.held import choose_held, images_of
from builder.oci.names import Names, Row, name_of
from builder.oci.parcel import INDEXES, Parcel, pack
from builder.oci.reference import InvalidReference, Reference
from builder.pushing import Pushing
from builder.store import locks
from builder.store.leases import leased

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.oci.spec import Platform
    from builder.oci.transport import Transport
    from builder.store.root import Store


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a name means in its registry now. size: of the document, in bytes; note: what of the image did not
    go along, "" where all did."""

    name: Reference
    digest: Digest
    size: int
    note: str = ""


async def push(
    store: Store,
    source: str,
    names: Sequence[Reference],
    platform: Platform | None,
    transport: Transport,
    emit: Emit,
) -> list[Pushed]:
    """Push the image that a text names under these names. platform: one image of an index, alone.

    Raises ImageError or StoreError.
    """
    with locks.shared(store.folder, locks.BUILDS), leased(store):
        parcel, note = _parcel(store, source, platform)
        pushing = Pushing(store, transport, emit)
        await pushing.push(parcel, names)
        for tag, beside in _beside(store, parcel):
            await pushing.push_beside(tag, beside, names)
    root = parcel.root
    return [Pushed(name, root.digest, len(root.data), note) for name in names]


def _beside(store: Store, parcel: Parcel) -> list[tuple[str, Parcel]]:
    """What the store has that refers to what is pushed, by its tag: each once."""
    there = {document.digest for document in parcel.documents()}
    found = {}
    for row in Names(store).rows():
        name = name_of(row) or ""
        if subject_of(name) in there:
            found[name.rpartition(":")[2], row["digest"]] = row
    return [(tag, _pack(store, row)) for (tag, _), row in found.items()]


def names_of_repository(store: Store, text: str) -> list[Reference]:
    """All tagged names that the store has of the repository that a text names. Raises ImageError for none."""
    wanted = reference.parse(text).name
    found = []
    for row in Names(store).rows():
        try:
            name = reference.parse(name_of(row) or "")
        except InvalidReference:
            continue
        if name.name == wanted and name.tag is not None and subject_of(name.tag) is None:
            found.append(name)
    if not found:
        raise ImageError(f"the store has no image of the name {text}", code="image-not-found")
    return found


def _parcel(store: Store, source: str, platform: Platform | None) -> tuple[Parcel, str]:
    """What is to be pushed, and what not."""
    row = find_row(store, source)
    if platform is not None:
        return _pack(store, _alone(find_image(store, source, platform).descriptor)), ""
    try:
        parcel = _pack(store, row)
        if all(store.blobs.stat(blob.digest) is not None for blob in parcel.blobs):
            return parcel, ""
    except StoreError as error:
        if error.code != "blob-not-found":
            raise
    if row.get("mediaType") not in INDEXES:
        return _pack(store, row), ""  # what is missing is told when it is sent
    held = choose_held(images_of(store.blobs, row, source), None, this_machine(), source)
    note = f"not all platforms of {source} are in the store, so only the image for {held.platform} was pushed"
    return _pack(store, _alone(held.descriptor)), f"{note}: {row['digest']} -> {held.descriptor.digest}"


def _pack(store: Store, row: Row) -> Parcel:
    return pack(row, lambda digest: store.blobs.read(digest, documents.MAX_MANIFEST))


def _alone(descriptor: object) -> Row:
    row: Row = msgspec.to_builtins(descriptor)
    return {key: row[key] for key in ("mediaType", "digest", "size") if key in row}
