"""`type=oci`: an OCI image layout, as a tar archive or as a folder (image-spec, image-layout.md).

index.json names the image as BuildKit does: one entry per name, with the tag in OCI's annotation and the
whole name in containerd's. Archives depend on the image and its names alone, not on the time. On the path
of a fully cached build: plain data, and blobs that only the kernel touches.
"""

from __future__ import annotations

import os

from builder import digest as digests
from builder import plainjson, stop
from builder.errors import BuildError, ImageError, reason_of
from builder.exporters import names_beside
from builder.exporters.destination import Destination
from builder.fs.whole import write_whole
from builder.oci import tar
from builder.oci.names import CREATED, IMAGE_NAME, INDEX_TYPE, REF_NAME
from builder.oci.tar_header import padding
from builder.snapshots.snapshot import FILE, FOLDER, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from builder.exporters import Export
    from builder.oci.finished import Finished
    from builder.oci.names import Row
    from builder.oci.reference import Reference
    from builder.store.blobs import BlobStore

    # A file of a layout: its path, and its bytes or the digest of the blob that has them.
    File = tuple[str, bytes | str]

NAMELESS = "latest"  # what an image without a name is called in a folder that may have several
LOCK_PAUSE = 0.05  # seconds
MARKER = b'{"imageLayoutVersion":"1.0.0"}'


def export(image: Finished, blobs: BlobStore, wanted: Export) -> None:
    """Write the image where `wanted` says. Raises BuildError."""
    assert wanted.dest is not None
    if wanted.folder:
        write_folder(image, blobs, wanted.names, wanted.dest)
        return
    files = [*blob_files(image), ("index.json", index_of(image, wanted.names)), ("oci-layout", MARKER)]
    with Destination(wanted.dest) as out:
        write_archive(files, blobs, out)


def index_of(
    image: Finished, names: Sequence[Reference], others: Iterable[Row] = (), nameless: str = ""
) -> bytes:
    """index.json with the image under its names, behind `others`; without any under the tag `nameless`."""
    entries = [_named(image, name) for name in names]
    entries = entries or [_dated(image, {REF_NAME: nameless} if nameless else {})]
    entries += _beside(image, names)
    return encode({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [*others, *entries]})


def encode(document: object) -> bytes:
    """Plain data as JSON, as OCI's documents are written: no spaces, in the order given."""
    return plainjson.dumps(document, compact=True, ascii_only=False).encode()


def blob_files(image: Finished) -> list[File]:
    """The blobs of an image as files of a layout, each once, in the order manifest, config, layers."""
    files: dict[str, bytes | str] = {blob_path(name): data for name, data in image.documents().items()}
    for layer in image.all_layers():
        files.setdefault(blob_path(layer), layer)
    return list(files.items())


def blob_path(digest: str) -> str:
    """Where a layout has a blob."""
    return f"blobs/sha256/{digests.hex_of(digests.parse(digest))}"


def write_archive(files: Sequence[File], blobs: BlobStore, out: Destination) -> None:
    """Write files as a tar archive, with the folders that they need, all of time 0.

    Raises StoreError for a blob whose bytes are not what its digest says: none leaves the store unseen.
    """
    folders: set[str] = set()
    for path, data in files:
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder not in folders:
                folders.add(folder)
                out.write(tar.head_of(Entry(folder, FOLDER, 0o755)))
        size = len(data) if isinstance(data, bytes) else _size(blobs, data)
        out.write(tar.head_of(Entry(path, FILE, 0o644, size=size)))
        if isinstance(data, bytes):
            out.write(data)
        else:
            _verify(blobs, data)
            with blobs.open(digests.parse(data)) as blob:
                out.copy(blob, size)
        out.write(bytes(padding(size)))
    out.write(tar.END)


def write_folder(image: Finished, blobs: BlobStore, names: Sequence[Reference], dest: str) -> None:
    """Write, or add to, a layout in a folder; its index.json changes last, by rename.

    The folder's lock is held meanwhile, as by who writes a cache there (remotecache.folder).
    """
    try:
        os.makedirs(os.path.join(dest, "blobs", "sha256"), exist_ok=True)
        fd = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _hold(fd)
            _write_files(image, blobs, names, dest)
        finally:
            os.close(fd)
    except OSError as error:
        message = f"writing the image layout {dest} failed: {reason_of(error)}"
        raise BuildError(message, code="export-failed") from error


def _hold(fd: int) -> None:
    """Wait until nobody else writes to a folder, and keep others from it; as far as its disk has locks."""
    import fcntl
    import time

    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stop.check()
            time.sleep(LOCK_PAUSE)
        except OSError:
            return
        else:
            return


def _write_files(image: Finished, blobs: BlobStore, names: Sequence[Reference], dest: str) -> None:
    others = _kept(dest, image, names)
    for path, data in blob_files(image):
        target = os.path.join(dest, path)
        if isinstance(data, bytes):
            write_whole(target, data, 0o666)
        elif not os.path.exists(target) or os.path.getsize(target) != _size(blobs, data):
            _copy_blob(blobs, data, target)
    write_whole(os.path.join(dest, "oci-layout"), MARKER, 0o666)
    write_whole(os.path.join(dest, "index.json"), index_of(image, names, others, NAMELESS), 0o666)


def _kept(dest: str, image: Finished, names: Sequence[Reference]) -> list[Row]:
    """The entries of an index.json that is there already and stay: those of other names."""
    path = os.path.join(dest, "index.json")
    if not os.path.lexists(path):
        return []
    import msgspec

    from builder.oci import documents

    try:
        with open(path, "rb") as file:
            index = documents.parse_index(file.read(documents.MAX_MANIFEST + 1), path)
    except ImageError as error:
        raise BuildError(f"{dest} has an index.json that is not valid", code="export-failed") from error
    ours = [image, *(one for _, top in image.beside for one in top.whole())]
    taken = {str(name) for tag in ("", *(tag for tag, _ in image.beside)) for name in _tagged(names, tag)}
    return [
        msgspec.to_builtins(entry)
        for entry in index.manifests
        if entry.annotations.get(IMAGE_NAME) not in taken
        and (names or IMAGE_NAME in entry.annotations or entry.annotations.get(REF_NAME) != NAMELESS)
        and (REF_NAME in entry.annotations or all(entry.digest != one.digest for one in ours))
    ]


def _tagged(names: Sequence[Reference], tag: str) -> Sequence[Reference]:
    return names_beside(names, tag) if tag else names


def _beside(image: Finished, names: Sequence[Reference]) -> list[Row]:
    """The entries of what is beside an image: referrers as they are, which say themselves what they refer to;
    signatures under their tag."""
    entries: list[Row] = []
    for tag, one in image.beside:
        if one.children:
            entries += [child.row for child in one.children]
            continue
        named = [_named(one, name) for name in names_beside(names, tag)]
        entries += named or [_dated(one, {REF_NAME: tag})]
    return entries


def _named(image: Finished, name: Reference) -> Row:
    return _dated(image, {IMAGE_NAME: str(name), REF_NAME: name.tag or "latest"})


def _dated(image: Finished, annotations: dict[str, str]) -> Row:
    """The image's entry: its descriptor with annotations, in the order that the documents have."""
    annotations = {**image.row.get("annotations", {}), **annotations}
    if image.created:
        annotations.setdefault(CREATED, image.created)
    row = {key: image.row[key] for key in ("mediaType", "digest", "size")}
    if annotations:
        row["annotations"] = dict(sorted(annotations.items()))
    return row | {key: value for key, value in image.row.items() if key not in row}


def _size(blobs: BlobStore, digest: str) -> int:
    size = blobs.stat(digests.parse(digest))
    if size is None:
        raise ImageError(f"blob {digest} is not in the store", code="blob-not-found")
    return size


def _copy_blob(blobs: BlobStore, digest: str, target: str) -> None:
    """Copy a blob, sharing its blocks where the file systems can."""
    from builder.fs.copy import copy_file

    temporary = f"{target}.{os.getpid()}-{os.urandom(4).hex()}.part"
    try:
        with blobs.open(digests.parse(digest)) as source, open(temporary, "xb", buffering=0) as out:
            copy_file(source.fileno(), out.fileno())
        _verify(blobs, digest)
        os.replace(temporary, target)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise


def _verify(blobs: BlobStore, digest: str) -> None:
    """Read a blob that nobody in this process has written or read whole. Raises StoreError."""
    if not blobs.is_checked(digests.parse(digest)):
        blobs.verify(digests.parse(digest))
