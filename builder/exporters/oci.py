"""`type=oci`: an OCI image layout, as a tar archive or as a folder (image-spec, image-layout.md).

index.json names the image as BuildKit does: one entry per name, with the tag in OCI's annotation and the
whole name in containerd's. Archives depend on the image and its names alone, not on the time.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import msgspec

from builder import digest as digests
from builder import stop
from builder.errors import BuildError, ImageError, reason_of
from builder.exporters import Export
from builder.exporters.destination import open_destination
from builder.fs.whole import write_whole
from builder.oci import documents, spec, tar
from builder.oci.image import Image
from builder.oci.reference import Reference
from builder.oci.spec import Descriptor, Index
from builder.snapshots.snapshot import FILE, FOLDER, Entry
from builder.store.blobs import BlobStore

MARKER = b'{"imageLayoutVersion":"1.0.0"}'
CREATED = "org.opencontainers.image.created"
COPIED = 64 << 20  # bytes asked of one copy_file_range

# A file of a layout: its path, and its bytes or the digest of the blob that has them.
File = tuple[str, bytes | str]


def export(image: Image, blobs: BlobStore, wanted: Export) -> None:
    """Write the image where `wanted` says. Raises BuildError."""
    assert wanted.dest is not None
    if wanted.folder:
        write_folder(image, blobs, wanted.names, wanted.dest)
        return
    files = [*blob_files(image), ("index.json", index_of(image, wanted.names)), ("oci-layout", MARKER)]
    with open_destination(wanted.dest) as out:
        write_archive(files, blobs, out)


def index_of(image: Image, names: Sequence[Reference], others: Iterable[Descriptor] = ()) -> bytes:
    """index.json with the image under its names, behind `others`."""
    entries = [_named(image, name) for name in names] or [_dated(image, {})]
    return spec.encode(Index(manifests=(*others, *entries)))


def blob_files(image: Image) -> list[File]:
    """The blobs of an image as files of a layout, each once, in the order manifest, config, layers."""
    files: dict[str, bytes | str] = {
        blob_path(image.descriptor.digest): image.manifest_bytes,
        blob_path(image.manifest.config.digest): image.config_bytes,
    }
    for layer in image.manifest.layers:
        files.setdefault(blob_path(layer.digest), layer.digest)
    return list(files.items())


def blob_path(digest: str) -> str:
    """Where a layout has a blob."""
    return f"blobs/sha256/{digests.hex_of(digests.parse(digest))}"


def write_archive(files: Sequence[File], blobs: BlobStore, out: BinaryIO) -> None:
    """Write files as a tar archive, with the folders that they need, all of time 0.

    Raises StoreError for a blob whose bytes are not what its digest says: none leaves the store unseen.
    """
    contents = dict(files)

    def entries() -> Iterator[Entry]:
        folders: set[str] = set()
        for path, data in files:
            parts = path.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                folder = "/".join(parts[:depth])
                if folder not in folders:
                    folders.add(folder)
                    yield Entry(folder, FOLDER, 0o755)
            if isinstance(data, bytes):
                yield Entry(path, FILE, 0o644, size=len(data))
            else:
                checked = blobs.is_checked(digests.parse(data))
                yield Entry(path, FILE, 0o644, size=_size(blobs, data), digest=None if checked else data)

    def content(entry: Entry) -> BinaryIO:
        data = contents[entry.path]
        return io.BytesIO(data) if isinstance(data, bytes) else blobs.open(digests.parse(data))

    try:
        tar.write(entries(), content, out)
    except BuildError as error:
        if error.code == "changed-during-build":
            for _, data in files:
                if isinstance(data, str):
                    blobs.verify(digests.parse(data))
        raise


def write_folder(image: Image, blobs: BlobStore, names: Sequence[Reference], dest: str) -> None:
    """Write, or add to, a layout in a folder; its index.json changes last, by rename."""
    try:
        os.makedirs(os.path.join(dest, "blobs", "sha256"), exist_ok=True)
        others = _kept(dest, image, names)
        for path, data in blob_files(image):
            target = os.path.join(dest, path)
            if isinstance(data, bytes):
                write_whole(target, data, 0o666)
            elif not os.path.exists(target) or os.path.getsize(target) != _size(blobs, data):
                _copy_blob(blobs, data, target)
        write_whole(os.path.join(dest, "oci-layout"), MARKER, 0o666)
        write_whole(os.path.join(dest, "index.json"), index_of(image, names, others), 0o666)
    except OSError as error:
        message = f"writing the image layout {dest} failed: {reason_of(error)}"
        raise BuildError(message, code="export-failed") from error


def _kept(dest: str, image: Image, names: Sequence[Reference]) -> list[Descriptor]:
    """The entries of an index.json that is there already and stay: those of other names."""
    path = os.path.join(dest, "index.json")
    try:
        with open(path, "rb") as file:
            index = documents.parse_index(file.read(documents.MAX_MANIFEST + 1), path)
    except FileNotFoundError:
        return []
    except ImageError as error:
        raise BuildError(f"{dest} has an index.json that is not valid", code="export-failed") from error
    taken = {str(name) for name in names}
    return [
        entry
        for entry in index.manifests
        if entry.annotations.get(spec.IMAGE_NAME) not in taken
        and (spec.REF_NAME in entry.annotations or entry.digest != image.descriptor.digest)
    ]


def _named(image: Image, name: Reference) -> Descriptor:
    return _dated(image, {spec.IMAGE_NAME: str(name), spec.REF_NAME: name.tag or "latest"})


def _dated(image: Image, annotations: dict[str, str]) -> Descriptor:
    if image.config.created:
        annotations = {**annotations, CREATED: image.config.created}
    return msgspec.structs.replace(image.descriptor, annotations=annotations)


def _size(blobs: BlobStore, digest: str) -> int:
    size = blobs.stat(digests.parse(digest))
    if size is None:
        raise ImageError(f"blob {digest} is not in the store", code="blob-not-found")
    return size


def _copy_blob(blobs: BlobStore, digest: str, target: str) -> None:
    """Copy a blob, sharing its blocks where the file systems can."""
    temporary = f"{target}.{os.getpid()}-{os.urandom(4).hex()}.part"
    try:
        with blobs.open(digests.parse(digest)) as source, open(temporary, "xb", buffering=0) as out:
            try:
                while os.copy_file_range(source.fileno(), out.fileno(), COPIED):
                    stop.check()
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
                while data := source.read(1 << 20):
                    stop.check()
                    out.write(data)
        if not blobs.is_checked(digests.parse(digest)):
            blobs.verify(digests.parse(digest))
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
