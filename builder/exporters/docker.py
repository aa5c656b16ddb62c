"""`type=docker`: an archive for `docker load`: manifest.json and an OCI index over the same blobs.

Old versions of docker, and podman, read manifest.json; newer ones read the index.
"""

from __future__ import annotations

import msgspec

from builder.exporters import Export
from builder.exporters.destination import open_destination
from builder.exporters.oci import MARKER, blob_files, blob_path, index_of, write_archive, write_folder
from builder.oci.image import Image
from builder.store.blobs import BlobStore


class DockerImage(msgspec.Struct, frozen=True, rename="pascal"):
    """One image in manifest.json."""

    config: str
    repo_tags: tuple[str, ...]
    layers: tuple[str, ...]


def export(image: Image, blobs: BlobStore, wanted: Export) -> None:
    """Write the image where `wanted` says. Raises BuildError."""
    assert wanted.dest is not None
    if wanted.folder:
        write_folder(image, blobs, wanted.names, wanted.dest)
        return
    listed = DockerImage(
        blob_path(image.manifest.config.digest),
        tuple(name.familiar() for name in wanted.names),
        tuple(blob_path(layer.digest) for layer in image.manifest.layers),
    )
    files = [
        *blob_files(image),
        ("index.json", index_of(image, wanted.names)),
        ("manifest.json", msgspec.json.encode([listed])),
        ("oci-layout", MARKER),
    ]
    with open_destination(wanted.dest) as out:
        write_archive(files, blobs, out)
