"""Names and images taken away, and what blobs stay: the store's `rmi`.

An image that loses its last name goes, with the blobs that nothing else needs. What images need is told to
whoever sweeps (`live_blobs`).
"""

from __future__ import annotations

from collections.abc import Iterable

from builder import digest as digests
from builder.digest import Digest
from builder.errors import ImageError, StoreError
from builder.images.find import find_row, names_of
from builder.oci import documents, reference
from builder.oci.beside import subject_of
from builder.oci.held import MAX_NESTING
from builder.oci.names import Names, Row, name_of, read_pulled, stored_name
from builder.oci.reference import InvalidReference, Reference
from builder.oci.spec import Index
from builder.store.gc import Removed, remove_unreferenced
from builder.store.root import Store


def remove(store: Store, wanted: Iterable[str], *, force: bool = False) -> list[dict[str, str]]:
    """Remove names, and images that lose their last one: [{"Untagged": name} | {"Deleted": digest}].

    An id stands for all names of its image; with several it needs `force`. Blobs that other images or the
    cache need stay. Raises ImageError at the first that is not there.
    """
    done: list[dict[str, str]] = []
    for text in wanted:
        done += _remove_one(store, text, force=force)
    return done


def live_blobs(store: Store) -> set[Digest]:
    """All blobs that images, remembered references and layers need."""
    from builder.snapshots.layers import LayerStore

    rows = [*Names(store).rows(), *read_pulled(store.folder).values()]
    live = {digest for row in rows for digest in _blobs_of(store, row)}
    layers = LayerStore(store.root / "layers", store.blobs)
    for layer in layers.all():
        live.update(layers.blob_digests(layer))
    return live


def _remove_one(store: Store, wanted: str, *, force: bool) -> list[dict[str, str]]:
    try:
        row = find_row(store, wanted)
    except ImageError:
        if forgotten := _forget(store, wanted):
            return forgotten
        raise
    names = Names(store)
    _check_is_whole(names, row, wanted)
    held = names_of(store, row["digest"])
    blobs = _blobs_of(store, row)
    named = _as_name(wanted)
    if named is not None and stored_name(named) in held and named.digest is None:
        names.untag(named)
        done = [{"Untagged": stored_name(named)}]
        if len(held) > 1:
            return done
    else:
        if len(held) > 1 and not force:
            raise ImageError(
                f"image {wanted} has several names: {', '.join(held)}",
                code="image-has-names",
                hint="remove them one by one, or use --force",
            )
        names.remove(digests.parse(row["digest"]))
        done = [{"Untagged": name} for name in held]
    blobs |= _remove_beside(store, names, blobs)
    return done + _deleted(row, _sweep(store, blobs))


def _remove_beside(store: Store, names: Names, gone: set[Digest]) -> set[Digest]:
    """Take away what refers to nothing but images that went; its blobs."""
    rows = names.rows()
    kept = {digest for row in rows if not subject_of(name_of(row) or "") for digest in _blobs_of(store, row)}
    found: set[Digest] = set()
    for row in rows:
        subject = subject_of(name_of(row) or "")
        if subject in gone and subject not in kept:
            found |= _blobs_of(store, row)
            names.untag(reference.parse(name_of(row) or ""))
    return found


def _check_is_whole(names: Names, row: Row, wanted: str) -> None:
    if all(known["digest"] != row["digest"] for known in names.rows()):
        raise ImageError(
            f"image {wanted} is one of an image of several platforms, which goes as a whole",
            code="image-in-index",
            hint="name that one; `pybuild images` lists it",
        )


def _forget(store: Store, wanted: str) -> list[dict[str, str]]:
    """A base image that has no name in the store, but whose reference is remembered."""
    name = _as_name(wanted)
    if name is None or not (rows := Names(store).forget(str(name))):
        return []
    blobs = {digest for row in rows for digest in _blobs_of(store, row)}
    done = [{"Untagged": name.familiar()}]
    swept = _sweep(store, blobs)
    return done + [entry for row in rows for entry in _deleted(row, swept)]


def _sweep(store: Store, candidates: set[Digest]) -> Removed:
    return remove_unreferenced(store, sorted(candidates), lambda: live_blobs(store))


def _deleted(row: Row, swept: Removed) -> list[dict[str, str]]:
    """The manifest first, then its blobs; while a build runs, blobs stay for the next sweep."""
    first = [row["digest"]] if swept.busy or row["digest"] in swept.digests else []
    return [{"Deleted": digest} for digest in dict.fromkeys([*first, *swept.digests])]


def _as_name(text: str) -> Reference | None:
    try:
        return reference.parse(text)
    except InvalidReference:
        return None


def _blobs_of(store: Store, row: Row, depth: int = 0) -> set[Digest]:
    """All blobs of an image, those of an index's images included; what is missing or damaged has none.

    Raises StoreError where the disk or a limit is in the way: what is there needs what it needs.
    """
    try:
        digest = digests.parse(row["digest"])
        data = store.blobs.read(digest, documents.MAX_MANIFEST)
        document = documents.parse_manifest_or_index(data, "", row["digest"], further=None)
    except StoreError as error:
        if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
            raise
        return set()
    except (ImageError, ValueError):
        return set()
    found = {digest}
    if isinstance(document, Index):
        for child in document.manifests if depth < MAX_NESTING else ():
            found |= _blobs_of(store, {"digest": child.digest, "size": child.size}, depth + 1)
        return found
    return found | {digests.parse(d.digest) for d in (document.config, *document.layers)}
