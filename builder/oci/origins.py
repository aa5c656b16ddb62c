"""Where else a registry has blobs: the repositories that images of the store came from, or may have gone to.

A registry can take a blob from another repository of its own ("mount"), if it is told which. What the store
remembers of names is enough to guess: a wrong guess costs nothing, as the registry then asks for the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from builder.errors import ImageError, StoreError
from builder.oci import documents, reference
from builder.oci.names import Names, Row, name_of, read_pulled
from builder.oci.parcel import pack
from builder.oci.reference import InvalidReference, Reference
from builder.store.root import Store


def origins(store: Store, where: Reference) -> dict[str, str]:
    """Of blobs, by digest, a repository of that registry besides `where`'s own that may have them."""
    found: dict[str, str] = {}
    for name, row in _known(store):
        if name.registry != where.registry or name.repository == where.repository:
            continue
        try:
            parcel = pack(row, lambda digest: store.blobs.read(digest, documents.MAX_MANIFEST))
        except (ImageError, StoreError):
            continue  # not all of it is here: so it is no help
        for blob in parcel.blobs:
            found.setdefault(blob.digest, name.repository)
    return found


def _known(store: Store) -> Iterator[tuple[Reference, Row]]:
    """Names and what they mean: first those that a registry was asked for, then those given here."""
    named = [(key.rpartition(" ")[0], row) for key, row in read_pulled(store.folder).items()]
    named += [(name, row) for row in Names(store).rows() if (name := name_of(row)) is not None]
    for text, row in named:
        try:
            yield reference.parse(text), row
        except InvalidReference:
            continue
