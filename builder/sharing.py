"""A store beside the user's, with the base images that that one has: their blobs, by hard links.

Blobs never change and are verified by their digests, so two stores can share them: whoever removes one takes
a name away. The cache, layers and records are not shared: what is built there begins with nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from builder.digest import Digest, parse
from builder.errors import BuildError
from builder.oci import reference
from builder.oci.names import Names
from builder.store.root import open_store

if TYPE_CHECKING:
    from builder.compiler.program import BaseImage, ImageRequest
    from builder.store.root import Store

MAX_DOCUMENT = 4 << 20


def make_store(folder: str, own: Store, bases: Iterable[tuple[ImageRequest, BaseImage]]) -> None:
    """Make the store, with what `own` has of the bases. Raises StoreError."""
    new = open_store(folder)
    for request, base in bases:
        if request.locator.startswith("oci-layout://"):
            continue  # it is read from its layout again
        meant = reference.parse(request.locator)
        row = Names(own).find(meant)
        remembered = Names(own).recall(str(meant), str(request.platform))
        named = [parse(found["digest"]) for found in (row, remembered) if found]
        for digest in (base.digest, *named, *([meant.digest] if meant.digest else [])):
            _share(own, new, digest)
        if row is not None:
            Names(new).add({key: value for key, value in row.items() if key != "annotations"}, [meant])
        if remembered is not None:
            Names(new).remember(str(meant), str(request.platform), remembered)


def _share(own: Store, new: Store, digest: Digest) -> None:
    """Share a document and all that it names, as far as it is there."""
    if not _link(own, new, digest):
        return
    try:
        document = json.loads(own.blobs.read(digest, MAX_DOCUMENT))
    except (BuildError, ValueError):
        return
    if not isinstance(document, dict):
        return
    for row in document.get("manifests") or ():
        _share(own, new, parse(row["digest"]))
    config = document.get("config")
    for row in (*(document.get("layers") or ()), *([config] if isinstance(config, dict) else [])):
        if "digest" in row:
            _link(own, new, parse(row["digest"]))


def _link(own: Store, new: Store, digest: Digest) -> bool:
    source, target = own.blobs.path(digest), new.blobs.path(digest)
    if own.blobs.stat(digest) is None:
        return False
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return True
    except OSError:  # another file system, or one without links
        with own.blobs.open(digest) as file, new.blobs.ingest() as ingest:
            while data := file.read(1 << 20):
                ingest.write(data)
            ingest.commit(expected=digest)
    return True
