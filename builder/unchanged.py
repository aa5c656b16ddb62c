"""Images that need no push, as their registry has them: found out with next to nothing loaded.

On the path of a fully cached build that pushes, and of a `pybuild push` of what was pushed before.
"""

from __future__ import annotations

from builder.errors import BuildError
from builder.oci.beside import subject_of
from builder.oci.names import Names, name_of, stored_name
from builder.oci.parcel import pack
from builder.oci.present import has_all, may_ask
from builder.oci.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.digest import Digest
    from builder.exporters import Export
    from builder.oci.finished import Finished
    from builder.oci.parcel import Document, Parcel
    from builder.store.root import Store

MAX_DOCUMENT = 16 << 20  # bytes


def parcel_of(image: Finished, store: Store) -> Parcel:
    """What a push of a finished image brings. Raises ImageError or StoreError."""
    documents = image.documents()

    def read(digest: Digest) -> bytes:
        return documents.get(digest) or store.blobs.read(digest, MAX_DOCUMENT)

    return pack(image.row, read)


def targets(export: Export, image: Finished) -> list[Reference]:
    """The names under which an output's image is to be found in registries."""
    if not export.push_by_digest:
        return list(export.names)
    return [Reference(name.registry, name.repository, None, image.digest) for name in export.names]


def is_pushed(export: Export, image: Finished, store: Store, environ: Mapping[str, str]) -> bool:
    """Whether all names mean that image in their registries, for all that can be found out easily."""
    if not may_ask(environ):
        return False
    try:
        return has_all(targets(export, image), parcel_of(image, store))
    except BuildError:
        return False


def find_pushed(
    store: Store, source: Reference, names: Sequence[Reference], environ: Mapping[str, str]
) -> Document | None:
    """The document of the store's image of that name, if the others mean it in their registries."""
    if source.digest is not None or not may_ask(environ):
        return None
    try:
        rows = Names(store).rows()
        row = next((row for row in rows if name_of(row) == stored_name(source)), None)
        if row is None:
            return None
        parcel = pack(row, lambda digest: store.blobs.read(digest, MAX_DOCUMENT))
        there = {document.digest for document in parcel.documents()}
        if any(subject_of(name_of(other) or "") in there for other in rows):
            return None  # signatures and the like go along: whoever pushes finds out what is missing
        return parcel.root if has_all(names, parcel) else None
    except BuildError:
        return None
