"""The two forms of a layer's bytes, a folder that overlayfs can mount and a tar blob, and the ways between.

Entries and bytes become a folder or a blob (and each file is hashed as it passes); a folder becomes a
blob; a blob becomes a folder, or a blob of another compression. Whatever is made here is made aside:
its caller puts it into place.

Also here: `blob.json`, which remembers the blobs that a layer has. Must never know: ids, snapshots, what
lies below a layer.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, cast

import msgspec

from builder import digest as digests
from builder import stop
from builder.errors import BuildError, ImageError, reason_of
from builder.fs.rooted import open_in, open_root, opened
from builder.fs.spread import MANY
from builder.fs.syscalls import clone_file
from builder.fs.unlock import open_own
from builder.fs.whole import write_whole
from builder.oci import spec
from builder.oci.compressed import Compression
from builder.oci.compression import NO_LIMITS, open_reader, open_writer
from builder.oci.documents import compression_of
from builder.oci.layer import MEDIA_TYPES, pack, pack_tar, scan
from builder.snapshots import index
from builder.snapshots.index import BLOBS
from builder.snapshots.snapshot import FILE, OPAQUE, WHITEOUT, Entry
from builder.snapshots.unpack import TreeWriter, regular_file, write_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from builder.fs.copy import Readable
    from builder.oci.tar import Writable
    from builder.store.blobs import BlobStore

    Content = Callable[[Entry], BinaryIO]

IMPORTED = "imported"
CHUNK = 1 << 20
LARGE = 1 << 20  # bytes of a blob that may well hold many files

_DOCKER_TYPES = {
    spec.DOCKER_LAYER: spec.OCI_LAYER,
    spec.DOCKER_LAYER_GZIP: spec.OCI_LAYER_GZIP,
    spec.DOCKER_LAYER_ZSTD: spec.OCI_LAYER_ZSTD,
}


# ── from entries and bytes ───────────────────────────────────────────────────────────────────────────────


def write_folder(
    folder: Path, entries: Sequence[Entry], content: Content, way: str | None = None
) -> list[Entry]:
    """Make a layer's folder; the entries with their digests. `way`: see TreeWriter.

    Raises BuildError (changed-during-build) where the bytes are not those of an entry's digest.
    """
    checked = CheckedContent(content)
    wanted = {entry.path: entry for entry in entries}
    write_tree(folder, _without_digests(entries), lambda entry: checked(wanted[entry.path]), way=way)
    return checked.fill(entries)


def write_blob(
    blobs: BlobStore,
    entries: Sequence[Entry],
    content: Content,
    compression: Compression,
    clamp: int | None = None,
) -> tuple[spec.LayerBlob, list[Entry]]:
    """Make a layer's blob; it, and the entries with their digests. Raises as `write_folder`."""
    checked = CheckedContent(content)
    wanted = {entry.path: entry for entry in entries}
    bare = _without_digests(entries)
    blob = _pack_into(blobs, bare, lambda entry: checked(wanted[entry.path]), compression, clamp)
    return blob, checked.fill(entries)


def _without_digests(entries: Iterable[Entry]) -> list[Entry]:
    """The entries for who would hash bytes again that are hashed, or vouched for, already."""
    return [entry if entry.digest is None else entry.replace(digest=None) for entry in entries]


class CheckedContent:
    """Content that is hashed as it is read, and refused where it is not what its entry says."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._digests: dict[str, digests.Digest] = {}

    def __call__(self, entry: Entry) -> BinaryIO:
        """A reader of exactly `entry.size` bytes. Raises BuildError."""
        try:
            source = self._content(entry)
        except OSError as error:
            raise BuildError(f"cannot read {entry.path!r}: {reason_of(error)}") from error
        return cast(BinaryIO, _CheckedReader(source, entry, self._digests))

    def fill(self, entries: Iterable[Entry]) -> list[Entry]:
        """The entries with the digests that were found."""
        filled = []
        for entry in entries:
            if entry.kind == FILE and entry.digest is None:
                digest = self._digests.get(entry.hardlink or entry.path)
                if digest is None and entry.size == 0:
                    digest = digests.of_bytes(b"")
                entry = entry.replace(digest=digest)
            filled.append(entry)
        return filled


class _CheckedReader(io.RawIOBase):
    """Passes a file's bytes on and hashes them; at their end it knows whether they are the right ones."""

    def __init__(self, source: BinaryIO, entry: Entry, found: dict[str, digests.Digest]) -> None:
        super().__init__()
        self._source = source
        self._entry = entry
        self._found = found
        self._hash = hashlib.sha256()
        self._left = entry.size
        self._finished = False

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes. Raises BuildError (changed-during-build)."""
        if self._left == 0:
            if not self._finished:
                self._finish()
            return b""
        want = self._left if size is None or size < 0 else min(size, self._left)
        data = self._source.read(want)
        if not data and want:
            raise changed(self._entry)
        self._hash.update(data)
        self._left -= len(data)
        if self._left == 0:
            self._finish()
        return data

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """See io.RawIOBase."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def clone_into(self, target_fd: int) -> bool:
        """Let an empty file have the blocks of the source, where both can share them; what it has then is
        hashed. False where nothing was done. Raises BuildError (changed-during-build), OSError."""
        source = regular_file(self._source)
        if source is None or self._left != self._entry.size or not clone_file(source, target_fd):
            return False
        if os.fstat(target_fd).st_size != self._left:
            raise changed(self._entry)
        while self._left and (data := os.pread(target_fd, CHUNK, self._entry.size - self._left)):
            stop.check()
            self._hash.update(data)
            self._left -= len(data)
        self._finish()
        return True

    def close(self) -> None:
        """Close the source, too."""
        if not self.closed:
            self._source.close()
        super().close()

    def _finish(self) -> None:
        self._finished = True
        digest = digests.from_hex(self._hash.hexdigest())
        if self._entry.digest not in (None, digest):
            raise changed(self._entry)
        self._found[self._entry.path] = digest


def changed(entry: Entry) -> BuildError:
    """The error for a file that is not what it was when it was looked at."""
    return BuildError(f"{entry.path!r} changed during the build", code="changed-during-build")


# ── from folder to blob, from blob to folder or blob ─────────────────────────────────────────────────────


def pack_folder(
    blobs: BlobStore, root_fd: int, entries: Iterable[Entry], compression: Compression, clamp: int | None
) -> spec.LayerBlob:
    """Make the blob of a layer's folder."""
    bare = _without_digests(entries)
    return _pack_into(blobs, bare, lambda entry: open_stored(root_fd, entry.path), compression, clamp)


@contextlib.contextmanager
def sound(blobs: BlobStore, digest: digests.Digest) -> Iterator[None]:
    """A block that reads a blob. An ImageError there is the store's fault where the blob's bytes are not what
    its digest says: it is dropped then, so that it can be had anew, and a StoreError says so."""
    try:
        yield
    except ImageError as error:
        if blobs.has_its_bytes(digest):
            raise
        raise blobs.damaged(digest) from error


def recompress(blobs: BlobStore, blob: spec.LayerBlob, compression: Compression) -> spec.LayerBlob:
    """Make the same tar with another compression; eStargz adds its own files to it."""
    digest = digests.parse(blob.descriptor.digest)
    sha = hashlib.sha256()

    def copy(raw: Writable) -> None:
        reader = open_reader(stream, name=f"blob {digest}", limits=NO_LIMITS)
        while data := reader.read(CHUNK):
            stop.check()
            sha.update(data)
            raw.write(data)
        if digests.from_hex(sha.hexdigest()) != blob.diff_id:
            raise blobs.damaged(digest)

    with sound(blobs, digest), blobs.ingest() as out, blobs.open(digest) as stream:
        if compression.kind == "estargz":
            made = pack_tar(copy, out, compression)
        else:
            with open_writer(out, compression) as writer:
                copy(writer)
            descriptor = spec.Descriptor(MEDIA_TYPES[compression.kind], out.digest(), out.size)
            made = spec.LayerBlob(descriptor, blob.diff_id, blob.size)
        out.commit()
    return made


def fitted(
    blobs: BlobStore, blob: spec.LayerBlob, compression: Compression, *, force: bool
) -> spec.LayerBlob | None:
    """A foreign blob as an image of this compression has it; None where it is to be made again, which is so
    with `force` alone. One that is eStargz already says so in an image that is to be."""
    kind = compression_of(blob.descriptor, "the store")
    if compression.kind == "estargz" and kind == "gzip":
        from builder.oci.estargz import annotations_of

        with blobs.open(digests.parse(blob.descriptor.digest)) as stream:
            told = annotations_of(stream)
        if told:
            told |= {spec.UNCOMPRESSED_SIZE: str(blob.size)} if blob.size else {}  # 0 is not known
            return msgspec.structs.replace(
                blob, descriptor=msgspec.structs.replace(blob.descriptor, annotations=told)
            )
    return blob if kind == compression.kind or not force else None


def unpack_blob(
    blobs: BlobStore, blob: spec.LayerBlob, entries: Iterable[Entry], folder: Path, way: str | None = None
) -> None:
    """Make a layer's folder from its blob; times (cut in the tar) and attributes are those of the entries.

    What eStargz has added to the tar is left out.
    """
    digest = digests.parse(blob.descriptor.digest)
    entries = list(entries)
    many = len(entries) >= MANY
    writing = TreeWriter(folder, way=way, many=many)
    with sound(blobs, digest), blobs.open(digest) as stream, writing as writer:
        sink = _AsIndexed(writer, entries)
        _, diff_id = scan(stream, sink=sink, indexed=entries, name=f"blob {digest}", limits=NO_LIMITS)
    if diff_id != blob.diff_id:
        raise blobs.damaged(digest)


def diff_id_of(blobs: BlobStore, blob: spec.LayerBlob) -> str:
    """The digest of a blob's uncompressed bytes, whatever its diff id is said to be. Raises ImageError."""
    digest = digests.parse(blob.descriptor.digest)
    sha = hashlib.sha256()
    with blobs.open(digest) as stream:
        reader = open_reader(stream, name=f"layer {digest}")
        while data := reader.read(CHUNK):
            sha.update(data)
    return digests.from_hex(sha.hexdigest())


def read_blob(
    stream: Readable, blob: spec.LayerBlob, folder: Path | None, way: str | None = None
) -> tuple[list[Entry], str]:
    """The entries and the diff id of a blob's bytes; on the way they are unpacked to `folder`, if there is
    one. Raises ImageError, and what reading them raises."""
    name = f"layer {blob.descriptor.digest}"
    if folder is None:
        return scan(stream, name=name)
    with TreeWriter(folder, way=way, many=blob.descriptor.size >= LARGE) as writer:
        return scan(stream, sink=writer, name=name)


def open_file(root_fd: int, path: str) -> BinaryIO:
    """The bytes of a regular file in a folder; no link is followed in the last place."""
    fd = open_in(root_fd, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    return cast(BinaryIO, open(fd, "rb", buffering=0))


def open_stored(root_fd: int, path: str) -> BinaryIO:
    """The same in a layer's folder, which is this user's: an image's modes do not keep him from it."""
    try:
        return open_file(root_fd, path)
    except PermissionError:
        if os.geteuid() == 0:
            raise
        return cast(BinaryIO, open(open_own(root_fd, path), "rb", buffering=0))


def open_lent(folder: str, entry: Entry) -> BinaryIO:
    """The bytes of a file of a context, if it is the file that was looked at.

    Raises BuildError: changed-during-build, or that it cannot be read.
    """
    try:
        with opened(open_root(folder)) as fd:
            file = open_file(fd, entry.hardlink or entry.path)
    except PermissionError as error:
        raise BuildError(f"cannot read {entry.path!r}: permission denied") from error
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM):
            raise  # which say nothing of the file
        raise changed(entry) from error
    status = os.fstat(file.fileno())
    if (stat.S_ISREG(status.st_mode), status.st_size, status.st_mtime_ns) != (True, entry.size, entry.mtime):
        file.close()
        raise changed(entry)
    return file


def same_bytes(one: BinaryIO, other: BinaryIO) -> bool:
    """Whether two streams give the same bytes; what differs early is known early."""
    while True:
        stop.check()
        ours, theirs = one.read(CHUNK), other.read(CHUNK)
        if ours != theirs:
            return False
        if not ours:
            return True


def _pack_into(
    blobs: BlobStore, entries: Iterable[Entry], content: Content, compression: Compression, clamp: int | None
) -> spec.LayerBlob:
    with blobs.ingest() as out:
        blob = pack(entries, content, out, compression, clamp=clamp)
        out.commit(expected=digests.parse(blob.descriptor.digest), size=blob.descriptor.size)
    return blob


class _AsIndexed:
    """Passes entries on to a writer of trees, with the attributes that the layer's index has for them.

    A removal of which the index tells nothing is left out, and so are the files that eStargz adds.
    """

    def __init__(self, writer: TreeWriter, entries: Sequence[Entry]) -> None:
        self._writer = writer
        self._indexed = {e.path: e for e in entries if e.kind not in (WHITEOUT, OPAQUE)}
        self._removed = {e.path for e in entries if e.kind == WHITEOUT}

    def add(self, entry: Entry, reader: Readable | None) -> None:
        """See oci.layer.Sink."""
        there = self._indexed.get(entry.path)
        if there is None and entry.kind == WHITEOUT and entry.path not in self._removed:
            return
        if there is None and entry.path in spec.ESTARGZ_FILES:
            return
        if there is not None and there.kind == entry.kind:
            entry = entry.replace(mode=there.mode, uid=there.uid, gid=there.gid, mtime=there.mtime)
        self._writer.add(entry, reader)


# ── what blobs a layer has ───────────────────────────────────────────────────────────────────────────────


def blob_key(compression: Compression, clamp: int | None) -> str:
    """The name under which a layer remembers a blob made so."""
    level = "" if compression.level is None else compression.level
    return f"{compression.kind}:{level}:{'' if clamp is None else clamp}"


def read_blobs(folder: str) -> dict[str, spec.LayerBlob]:
    """The blobs that a layer has (or had: who uses one looks for it), by `blob_key` or `imported`."""
    try:
        with open(os.path.join(folder, BLOBS), "rb") as file:
            return msgspec.json.decode(index.without_sum(file.read()), type=dict[str, spec.LayerBlob])
    except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def remember_blob(folder: str, key: str, blob: spec.LayerBlob) -> None:
    """Remember a blob that is in the store already."""
    known = read_blobs(folder)
    if known.get(key) == blob:
        return
    known[key] = blob
    write_whole(os.path.join(folder, BLOBS), index.with_sum(msgspec.json.encode(known)))


def as_imported(blobs: BlobStore, blob: spec.LayerBlob) -> spec.LayerBlob:
    """A foreign blob as ours: the OCI media type of what it is seen to be, no annotations or addresses."""
    media_type = _DOCKER_TYPES.get(blob.descriptor.media_type, blob.descriptor.media_type)
    with blobs.open(digests.parse(blob.descriptor.digest)) as stream:
        media_type = MEDIA_TYPES.get(open_reader(stream).kind, media_type)
    descriptor = spec.Descriptor(media_type, blob.descriptor.digest, blob.descriptor.size)
    return spec.LayerBlob(descriptor, blob.diff_id, blob.size)
