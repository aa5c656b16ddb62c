"""Where else a registry has blobs: the repositories that images came from, or went to.

    ROOT/cache/origins/ab/abcd…   the repository of a registry that was seen to have a blob; one is enough

A registry can take a blob from another repository of its own ("mount"), if it is told which. A wrong guess
costs nothing, as the registry then asks for the bytes; so names that were never pushed count as guesses, too.
It asks no registry.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from builder.digest import Digest, of_value
from builder.errors import ImageError, StoreError
from builder.oci import documents, reference
from builder.oci.names import Names, Row, name_of, read_pulled
from builder.oci.parcel import pack
from builder.oci.reference import InvalidReference, Reference
from builder.solver.cache import Cache
from builder.store.root import Store

KIND = "origins"


def note(store: Store, where: Reference, blobs: Iterable[str]) -> None:
    """Remember that the reference's repository has these blobs."""
    cache = _cache(store)
    for digest in blobs:
        name = _name(where, digest)
        if cache.recall(KIND, name) != where.repository:
            cache.remember(KIND, name, where.repository)


def find(store: Store, blobs: Iterable[str], where: Reference) -> dict[str, str]:
    """Of blobs, by digest, a repository of the reference's registry, besides its own, that may have them."""
    cache, found = _cache(store), dict[str, str]()
    for digest in blobs:
        known = cache.recall(KIND, _name(where, digest))
        if known and known != where.repository:
            found[digest] = known
    return {**_by_names(store, where), **found}


def _by_names(store: Store, where: Reference) -> dict[str, str]:
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


def _cache(store: Store) -> Cache:
    return Cache(os.path.join(store.folder, "cache"), lambda _snapshot: False)


def _name(where: Reference, digest: str) -> Digest:
    return of_value([KIND, where.registry, digest])
