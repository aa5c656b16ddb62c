"""The store's own files and its tables: VERSION, oci-layout, index.json, and remembered references.

An image of the table must be there whole: its documents, its layers' blobs with the sizes that they should
have, and a descriptor that tells of it what is so. Whether blobs' bytes are right is known already.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from builder import digest as digests
from builder.errors import BuildError
from builder.fsck.finding import (
    FORGET_IMAGE,
    FORGET_REFERENCE,
    RESTORE_NAMES,
    WRITE_LAYOUT,
    WRITE_VERSION,
    Counts,
    Finding,
)
from builder.oci import documents
from builder.oci.names import INDEX_TYPE, Row, is_copied, name_of, read_copy, read_rows
from builder.oci.spec import Index, Manifest
from builder.store.root import FORMAT, LAYOUT

if TYPE_CHECKING:
    from builder.oci.spec import Descriptor
    from builder.store.root import Store

INDEX, PULLED = "index.json", os.path.join("cache", "pulled.json")
COPIED = ("digest", "size", "mediaType", "annotations", "platform")


def check_files(store: Store) -> Iterator[Finding]:
    """VERSION and oci-layout."""
    version = _json(os.path.join(store.folder, "VERSION"))
    if not isinstance(version, dict) or version.get("format") != FORMAT or "uid" not in version:
        yield Finding("store", "VERSION", "it does not say what this store is", WRITE_VERSION)
    if _json(os.path.join(store.folder, "oci-layout")) != json.loads(LAYOUT):
        yield Finding("store", "oci-layout", "it does not say that this is an image layout", WRITE_LAYOUT)


def check_tables(store: Store, damaged: Collection[str], counts: Counts) -> Iterator[Finding]:
    """index.json and the table of references. damaged: the paths, below ROOT, of blobs with wrong bytes."""
    try:
        rows = read_rows(store.folder)
        document = _json(os.path.join(store.folder, INDEX))
        if not isinstance(document, dict):
            yield Finding("names", INDEX, "it is not there", RESTORE_NAMES)
        elif (document.get("schemaVersion"), document.get("mediaType", INDEX_TYPE)) != (2, INDEX_TYPE) or (
            is_copied(store.folder) and not document.keys() >= {"mediaType", "manifests"}  # as it was written
        ):
            yield Finding("names", INDEX, "it does not say that it is an index", RESTORE_NAMES)
    except BuildError:
        yield Finding("names", INDEX, "it cannot be read", RESTORE_NAMES)
        rows = []
    copied = read_copy(store.folder) if is_copied(store.folder) else None
    copy = {json.dumps(row, sort_keys=True) for row in copied or ()}
    for row in rows:
        counts.images += 1
        problem = image_problem(store, row, damaged)
        as_written = not copy or json.dumps(row, sort_keys=True) in copy
        if problem and not as_written:
            yield Finding(
                "names", INDEX, f"the entry of {_shown(row)} is not as it was written", RESTORE_NAMES
            )
        elif problem:
            path = f"{INDEX} {_shown(row)}"
            yield Finding("image", path, problem, FORGET_IMAGE, str(row["digest"]))
        elif not as_written:
            yield Finding(
                "names", INDEX, f"the entry of {_shown(row)} is not as it was written", RESTORE_NAMES
            )
    yield from _check_pulled(store, damaged)


def _check_pulled(store: Store, damaged: Collection[str]) -> Iterator[Finding]:
    path = os.path.join(store.folder, PULLED)
    if not os.path.exists(path):
        return
    table = _json(path)
    if not isinstance(table, dict):
        yield Finding("references", PULLED, "it cannot be read")
        return
    for key, row in table.items():
        try:
            digest, size = digests.parse(row["digest"]), row["size"]
        except (ValueError, LookupError, TypeError, AttributeError):
            yield Finding("reference", f"{PULLED} {key}", "it means no image", FORGET_REFERENCE, key)
            continue
        there = _size(store, digest)
        if there is not None and there != size:
            yield Finding("reference", f"{PULLED} {key}", "its size is another", FORGET_REFERENCE, key)
        elif there is None or _path(digest) in damaged:
            yield Finding("reference", f"{PULLED} {key}", "its image is not there", FORGET_REFERENCE, key)


def image_problem(store: Store, row: Row, damaged: Collection[str]) -> str:
    """Why an entry's image is not whole; "" where it is."""
    try:
        digest = digests.parse(row["digest"])
    except ValueError:
        return "its digest is none"
    data = _read(store, digest)
    if data is None or _path(digest) in damaged:
        return "its manifest is not there, or damaged"
    if len(data) != row.get("size"):
        return "its manifest has another size"
    try:
        document = documents.parse_manifest_or_index(
            data, str(row.get("mediaType") or ""), str(digest), further=None
        )
    except BuildError as error:
        return f"its manifest is none: {error.message}"
    if isinstance(document, Index):
        children = [child for child in document.manifests if _size(store, child.digest) is not None]
        problems = [_child_problem(store, child, damaged) for child in children]
        return next((problem for problem in problems if problem), "" if children else "it has no image here")
    return _lacking(store, document, damaged)


def _child_problem(store: Store, child: Descriptor, damaged: Collection[str]) -> str:
    row = {"digest": child.digest, "size": child.size, "mediaType": child.media_type}
    return image_problem(store, row, damaged) if child.media_type in documents.TREE_TYPES else ""


def _lacking(store: Store, manifest: Manifest, damaged: Collection[str]) -> str:
    for descriptor in (manifest.config, *manifest.layers):
        there = _size(store, descriptor.digest)
        if there is None:
            return f"{descriptor.digest[:19]} is not there"
        if there != descriptor.size or _path(descriptor.digest) in damaged:
            return f"{descriptor.digest[:19]} is damaged"
    return ""


def _shown(row: Row) -> str:
    return name_of(row) or str(row.get("digest"))[:19]


def _path(digest: str) -> str:
    return os.path.join("blobs", *digest.split(":", 1))


def _size(store: Store, digest: str) -> int | None:
    try:
        return os.stat(os.path.join(store.folder, _path(digests.parse(digest)))).st_size
    except (OSError, ValueError):
        return None


def _read(store: Store, digest: str) -> bytes | None:
    try:
        with open(os.path.join(store.folder, _path(digest)), "rb") as file:
            return file.read(documents.MAX_MANIFEST + 1)
    except OSError:
        return None


def _json(path: str) -> Any:
    """What a file of JSON holds, None for what is none."""
    try:
        with open(path, "rb") as file:
            return json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return None
