"""Names and images taken away, and what blobs stay: the store's `rmi`.

An image that loses its last name goes, with the blobs that nothing else needs. What images need is told to
whoever sweeps (`live_blobs`).
"""

from __future__ import annotations

from collections.abc import Iterable

from builder import digest as digests
from builder.attest.statement import REFERENCE_DIGEST
from builder.digest import Digest
from builder.errors import ImageError, StoreError
from builder.images.find import Found, entries_of, every_image_of, find_row, find_rows, image_of, names_of
from builder.oci import documents, reference
from builder.oci.beside import subject_of
from builder.oci.held import MAX_NESTING, is_attestation
from builder.oci.names import Names, Row, name_of, read_pulled, stored_name
from builder.oci.reference import InvalidReference, Reference
from builder.oci.spec import Index, Platform
from builder.store.gc import Removed, remove_unreferenced
from builder.store.root import Store


def remove(
    store: Store, wanted: Iterable[str], *, force: bool = False, platform: Platform | None = None
) -> list[dict[str, str]]:
    """Remove names, and images that lose their last one: [{"Untagged": name} | {"Deleted": digest}].

    An id stands for all names of its image; with several it needs `force`. Blobs that other images or the
    cache need stay. platform: of an image of several that one alone, and the others stay under the name.
    Raises ImageError at the first that is not there.
    """
    done: list[dict[str, str]] = []
    for text in wanted:
        if platform is not None and (several := _of_several(store, text, platform)) is not None:
            done += _remove_platform(store, several, text)
        else:
            done += _remove_one(store, text, force=force)
    return done


def live_blobs(store: Store, without: tuple[str, frozenset[str]] = ("", frozenset())) -> set[Digest]:
    """All blobs that images, remembered references and layers need.

    without: an index and some of what it lists, which do not count as listed there.
    """
    from builder.snapshots.layers import LayerStore

    rows = [*Names(store).rows(), *read_pulled(store.folder).values()]
    live: set[Digest] = set()
    for row in rows:
        live |= _blobs_of(store, row, without=without[1] if row["digest"] == without[0] else frozenset())
    layers = LayerStore(store.root / "layers", store.blobs)
    for layer in layers.all():
        live.update(layers.blob_digests(layer))
    return live


def _remove_one(store: Store, wanted: str, *, force: bool) -> list[dict[str, str]]:
    try:
        rows = find_rows(store, wanted)
    except ImageError:
        if forgotten := _forget(store, wanted):
            return forgotten
        raise
    names = Names(store)
    for row in rows:
        _check_is_whole(names, row, wanted)
    held = [name for row in rows for name in names_of(store, row["digest"])]
    named = _meant_name(wanted)
    if named is not None and stored_name(named) in held:
        gone = _names_that_go(named, held)
        for name in gone:
            names.untag(name)
    else:
        if len(held) > 1 and not force:
            raise ImageError(
                f"image {wanted} has several names: {', '.join(held)}",
                code="image-has-names",
                hint="remove them one by one, or use --force",
            )
        for row in rows:
            names.remove(digests.parse(row["digest"]))
        gone = [reference.parse(name) for name in held]
    done = [{"Untagged": stored_name(name)} for name in gone]
    # Else a FROM would go on with what was removed.
    forgotten = [row for name in gone for row in names.forget(str(name))]
    if len(gone) < len(held) and not forgotten:
        return done
    removed = rows if len(gone) == len(held) else []
    blobs = {blob for row in (*removed, *forgotten) for blob in _blobs_of(store, row)}
    if removed:
        blobs |= _remove_beside(store, names, blobs)
    return [*done, *_all_deleted(removed, _sweep(store, blobs))]


def _names_that_go(named: Reference, held: list[str]) -> list[Reference]:
    """The names that go with one of them: with the last tag of a repository what it has by digest, too."""
    others = [reference.parse(name) for name in held if name != stored_name(named)]
    own = [other for other in others if other.name == named.name]
    by_digest = [other for other in own if other.tag is None]
    return [named, *(by_digest if named.tag is not None and len(by_digest) == len(own) else [])]


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


def _of_several(store: Store, wanted: str, platform: Platform) -> Found | None:
    """The image for a platform in an index that has others, too; None where it is all that there is."""
    row = find_row(store, wanted)
    found = image_of(store, row, wanted, platform)
    return found if len(every_image_of(store, row, wanted)) > 1 else None


def _remove_platform(store: Store, found: Found, wanted: str) -> list[dict[str, str]]:
    """Remove an image of an index, and what tells of it, and leave the index as it is."""
    gone = {found.descriptor.digest}
    for entry in entries_of(store, found.row, wanted):
        if is_attestation(entry) and entry.annotations.get(REFERENCE_DIGEST) in gone:
            gone.add(entry.digest)
    names = Names(store)
    for name in names_of(store, str(found.row["digest"])):
        names.forget(str(reference.parse(name)))  # what they meant for a platform would keep it
    without = (str(found.row["digest"]), frozenset(gone))
    blobs = {blob for digest in gone for blob in _blobs_of(store, {"digest": digest})}
    swept = remove_unreferenced(store, sorted(blobs), lambda: live_blobs(store, without))
    if found.descriptor.digest not in swept.digests:
        why = "while a build runs" if swept.busy else "as another image needs it"
        raise ImageError(
            f"image {wanted} for {found.descriptor.platform} cannot be removed {why}", code="image-in-use"
        )
    return _deleted({"digest": found.descriptor.digest}, swept)


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
    swept = _sweep(store, blobs)
    return [{"Untagged": name.familiar()}, *_all_deleted(rows, swept)]


def _sweep(store: Store, candidates: set[Digest]) -> Removed:
    return remove_unreferenced(store, sorted(candidates), lambda: live_blobs(store))


def _deleted(row: Row, swept: Removed) -> list[dict[str, str]]:
    """The manifest first, then its blobs; while a build runs, blobs stay for the next sweep."""
    first = [row["digest"]] if swept.busy or row["digest"] in swept.digests else []
    return [{"Deleted": digest} for digest in dict.fromkeys([*first, *swept.digests])]


def _all_deleted(rows: Iterable[Row], swept: Removed) -> list[dict[str, str]]:
    """The same of several entries, or of none: each blob once."""
    first = [entry["Deleted"] for row in rows for entry in _deleted(row, swept)]
    return [{"Deleted": digest} for digest in dict.fromkeys([*first, *swept.digests])]


def _as_name(text: str) -> Reference | None:
    try:
        return reference.parse(text)
    except InvalidReference:
        return None


def _meant_name(text: str) -> Reference | None:
    """The name that a text is: of what is tagged and digested the one of the digest."""
    name = _as_name(text)
    if name is None or name.digest is None:
        return name
    return Reference(name.registry, name.repository, None, name.digest)


def _blobs_of(store: Store, row: Row, depth: int = 0, without: frozenset[str] = frozenset()) -> set[Digest]:
    """All blobs of an image, those of an index's images included; what is missing or damaged has none.

    without: what an index lists and is not to count.
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
            if child.digest not in without:
                found |= _blobs_of(store, {"digest": child.digest}, depth + 1, without)
        return found
    return found | {digests.parse(d.digest) for d in (document.config, *document.layers)}
