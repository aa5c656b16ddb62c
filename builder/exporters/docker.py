"""`type=docker`: an archive for `docker load`: manifest.json and an OCI index over the same blobs.

Old versions of docker, and podman, read manifest.json; newer ones read the index. On the path of a fully
cached build.
"""

from __future__ import annotations

from builder.exporters.destination import Destination
from builder.exporters.oci import MARKER, blob_files, blob_path, encode, index_of, write_archive, write_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.exporters import Export
    from builder.oci.finished import Finished
    from builder.store.blobs import BlobStore


def export(image: Finished, blobs: BlobStore, wanted: Export) -> None:
    """Write the image where `wanted` says. Raises BuildError."""
    assert wanted.dest is not None
    if wanted.folder:
        write_folder(image, blobs, wanted.names, wanted.dest)
        return
    single = image.children[0] if image.children else image  # what else an index lists, tells of the first
    listed = {
        "Config": blob_path(single.config),
        "RepoTags": [name.familiar() for name in wanted.names],
        "Layers": [blob_path(layer) for layer in single.layers],
    }
    files = [
        *blob_files(image),
        ("index.json", index_of(image, wanted.names)),
        ("manifest.json", encode([listed])),
        ("oci-layout", MARKER),
    ]
    with Destination(wanted.dest) as out:
        write_archive(files, blobs, out)
