"""Images that need no push, as their registry has them: found out with next to nothing loaded.

On the path of a fully cached build that pushes, and of a `pybuild push` of what was pushed before.
"""

from __future__ import annotations

from builder.errors import BuildError
from builder.oci.present import Asking, have_it, may_ask
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
    from builder.oci.parcel import pack

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
        return have_it(targets(export, image), parcel_of(image, store))
    except BuildError:
        return False


def find_pushed(
    root: str, source: Reference, names: Sequence[Reference], environ: Mapping[str, str]
) -> Document | None:
    """The document of that image in the store at `root`, if the names mean it in their registries."""
    if source.digest is not None or not may_ask(environ):
        return None
    with Asking(names) as asking:  # which are about to answer, while the image is looked up
        try:
            parcel = _find(root, source)
        except BuildError:
            return None
        return parcel.root if parcel is not None and asking.have_it(parcel) else None


def _find(root: str, source: Reference) -> Parcel | None:
    """What a push of an image brings, if that is the image alone: signatures and the like go along with it,
    and whoever pushes finds out which of them are missing. Raises ImageError or StoreError."""
    from builder.oci.beside import subject_of
    from builder.oci.names import Names, name_of, stored_name
    from builder.oci.parcel import pack
    from builder.store.root import open_store

    store = open_store(root)
    rows = Names(store).rows()
    row = next((row for row in rows if name_of(row) == stored_name(source)), None)
    if row is None:
        return None
    parcel = pack(row, lambda digest: store.blobs.read(digest, MAX_DOCUMENT))
    there = {document.digest for document in parcel.documents()}
    return None if any(subject_of(name_of(other) or "") in there for other in rows) else parcel
