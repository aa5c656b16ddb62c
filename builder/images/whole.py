"""An image of the store as it goes to others: its documents' exact bytes and its layers' names.

Of an index that lists more than the store has (it was pulled for one platform), what is there goes along,
under the index as it is.
"""

from __future__ import annotations

import msgspec

from builder import digest as digests
from builder.errors import ImageError
from builder.oci import documents
from builder.oci.finished import Finished
from builder.oci.held import MAX_NESTING
from builder.oci.names import Row
from builder.oci.spec import Descriptor, Index, Manifest
from builder.store.root import Store


def read_whole(store: Store, row: Row, name: str, depth: int = 0) -> Finished:
    """All that an entry of the store's table, or of an index, stands for. Raises ImageError, StoreError."""
    bare: Row = {key: row[key] for key in ("mediaType", "digest", "size", "platform") if key in row}
    data = store.blobs.read(digests.parse(row["digest"]), documents.MAX_MANIFEST)
    document = documents.parse_manifest_or_index(data, str(row.get("mediaType") or ""), name, further=None)
    bare = {**bare, "mediaType": document.media_type, "size": len(data)}
    if isinstance(document, Index):
        return _index(store, bare, data, document, name, depth)
    config = store.blobs.read(digests.parse(document.config.digest), documents.MAX_CONFIG)
    return Finished(
        row=bare,
        manifest_bytes=data,
        config=document.config.digest,
        config_bytes=config,
        layers=[layer.digest for layer in document.layers],
        created=_created(document, config, name),
        size=len(data) + len(config) + sum(layer.size for layer in document.layers),
    )


def _index(store: Store, row: Row, data: bytes, index: Index, name: str, depth: int) -> Finished:
    if depth >= MAX_NESTING:
        raise ImageError(f"{name} is an index of indexes without end", code="invalid-index")
    children = [
        read_whole(store, msgspec.to_builtins(entry), name, depth + 1)
        for entry in index.manifests
        if _is_there(store, entry, name)
    ]
    if not children:
        raise ImageError(f"{name} has no image in the store", code="image-not-found")
    return Finished.index(row, data, children)


def _is_there(store: Store, entry: Descriptor, name: str) -> bool:
    """Whether the store has what an index lists, as far as its documents go."""
    if store.blobs.stat(digests.parse(entry.digest)) is None:
        return False
    data = store.blobs.read(digests.parse(entry.digest), documents.MAX_MANIFEST)
    document = documents.parse_manifest_or_index(data, entry.media_type, name, further=None)
    return isinstance(document, Index) or store.blobs.stat(digests.parse(document.config.digest)) is not None


def _created(manifest: Manifest, config: bytes, name: str) -> str:
    if manifest.config.media_type not in documents.CONFIG_TYPES or config == b"{}":
        return ""
    return documents.parse_config(config, name).created
