"""eStargz: layers of which a runtime can fetch single files (containerd/stargz-snapshotter, docs/estargz.md).

A blob is one gzip stream of many members. One begins at the bytes of each file, and one every 4 MiB within
large ones, so that each can be had by itself; the headers that follow a file are in its member. A landmark
at the beginning says that no file is to be fetched early. The last file of the tar is the table of contents
(the TOC), in a member of its own, and behind it comes an empty member that says where the TOC is.

So the tar in the blob is not the one that was given: it has two more files, and no two blocks of zeros before
the last. Its diff id is that of the whole. The digest of the TOC is an annotation of the layer's descriptor.
The bytes are a function of the tar and the level. Must never know: where blobs and layers are kept.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING

import msgspec

from builder import digest as digests
from builder.digest import Digest
from builder.errors import BuildError, ImageError
from builder.oci import spec, tar
from builder.oci import tar_header as th
from builder.oci.compression import GZIP_MAGIC, open_reader
from builder.oci.gzip_members import Members
from builder.oci.image import rfc3339
from builder.snapshots.snapshot import BLOCK, CHAR, FIFO, FILE, FOLDER, SYMLINK, Entry

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from builder.oci.layer import Hashed
    from builder.oci.tar import Writable

LANDMARK_BYTES = b"\x0f"
CHUNK = 4 << 20  # bytes of a file in one member
FOOTER = 51  # bytes

_TYPES = {FILE: "reg", FOLDER: "dir", SYMLINK: "symlink", CHAR: "char", BLOCK: "block", FIFO: "fifo"}


class TocEntry(msgspec.Struct, rename="camel", gc=False):
    """One file, or one further chunk of a large one. `offset`: of its gzip member in the blob."""

    name: str
    type: str
    mode: int
    uid: int
    gid: int
    size: int | msgspec.UnsetType = msgspec.UNSET
    modtime: str | msgspec.UnsetType = msgspec.UNSET
    link_name: str | msgspec.UnsetType = msgspec.UNSET
    dev_major: int | msgspec.UnsetType = msgspec.UNSET
    dev_minor: int | msgspec.UnsetType = msgspec.UNSET
    xattrs: dict[str, bytes] | msgspec.UnsetType = msgspec.UNSET
    digest: str | msgspec.UnsetType = msgspec.UNSET
    offset: int | msgspec.UnsetType = msgspec.UNSET
    chunk_offset: int | msgspec.UnsetType = msgspec.UNSET
    chunk_size: int | msgspec.UnsetType = msgspec.UNSET
    chunk_digest: str | msgspec.UnsetType = msgspec.UNSET


class Toc(msgspec.Struct):
    """The table of contents."""

    version: int
    entries: list[TocEntry]


def pack(
    write: Callable[[Writable], None], out: Hashed, level: int | None, threads: int | None = None
) -> spec.LayerBlob:
    """Write the blob of a tar that `write` writes; what it came to be, annotations and all.

    Raises BuildError for a tar with a file that eStargz would take for its own, ImageError for one that is
    damaged, or has sparse files.
    """
    writer = Writer(out, level, threads)
    try:
        write(writer)
        toc_digest = writer.finish()
    finally:
        writer.abort()
    annotations = {spec.TOC_DIGEST: toc_digest, spec.UNCOMPRESSED_SIZE: str(writer.size)}
    descriptor = spec.Descriptor(spec.OCI_LAYER_GZIP, out.digest(), out.size, annotations)
    return spec.LayerBlob(descriptor, writer.digest(), writer.size)


class Writer:
    """Takes a tar in pieces of any size and writes the blob; `finish` ends it, `abort` lets go of it.

    size: bytes of the tar in the blob so far.
    """

    def __init__(self, out: Writable, level: int | None, threads: int | None = None) -> None:
        self._out = out
        self._level = level
        self._threads = threads
        self._sha = hashlib.sha256()
        self.size = 0
        self._entries: list[TocEntry] = []
        self._file: _File | None = None
        self._body = 0  # bytes of a file that are still to come
        self._plain = 0  # bytes that go on as they are: padding, and what has no entry
        self._block = bytearray()  # a header, or an extended one with its data, as far as it has come
        self._wanted = th.BLOCK
        self._extended: th.Header | None = None
        self._pax: dict[str, bytes] = {}
        self._gnu: dict[bytes, bytes] = {}
        self._ended = False
        self._members = Members(out, level, threads)
        self._members.begin()
        self.write(tar.head_of(Entry(spec.LANDMARK, FILE, 0o644, size=len(LANDMARK_BYTES))), own=True)
        self.write(LANDMARK_BYTES + bytes(th.padding(len(LANDMARK_BYTES))))

    def write(self, data: bytes | memoryview, /, *, own: bool = False) -> int:
        """Take bytes of the tar. own: whether the names that are the format's are to be let pass."""
        rest = memoryview(data)
        while rest and not self._ended:
            if self._body:
                taken = rest[: self._body]
                self._take_body(taken)
            elif self._plain:
                taken = rest[: self._plain]
                self._plain -= len(taken)
                self._pass(taken)
            else:
                taken = rest[: self._wanted - len(self._block)]
                self._block += taken
                if len(self._block) == self._wanted:
                    block, self._block = bytes(self._block), bytearray()
                    self._take_block(block, own=own)
            rest = rest[len(taken) :]
        return len(data)

    def finish(self) -> Digest:
        """Write the table and the footer; the table's digest. Raises ImageError for half a tar."""
        if self._body or self._plain or self._block or self._extended or self._pax or self._gnu:
            raise th.damaged("it is cut off")
        offsets = self._members.close()
        for entry in self._entries:
            if entry.offset is not msgspec.UNSET:
                entry.offset = offsets[entry.offset]  # it was the member's number until now
        table = msgspec.json.encode(Toc(1, self._entries))
        last = Members(self._out, self._level, self._threads)
        last.begin()
        for data in (
            tar.head_of(Entry(spec.TOC, FILE, 0o644, size=len(table))),
            table,
            bytes(th.padding(len(table))) + tar.END,
        ):
            self._note(data)
            last.write(data)
        last.close()
        self._out.write(footer(self._members.size))
        return digests.of_bytes(table)

    def abort(self) -> None:
        """End the threads; again is no error."""
        self._members.abort()

    def digest(self) -> Digest:
        """The digest of the tar in the blob."""
        return digests.from_hex(self._sha.hexdigest())

    # ── headers ──────────────────────────────────────────────────────────────────────────────────────────

    def _take_block(self, block: bytes, *, own: bool) -> None:
        """A whole header, or a whole extended one."""
        if self._extended is not None:
            self._take_extended(self._extended, block)
            return
        if block.count(0) == th.BLOCK:
            self._ended = True
            return
        header = th.Header(block)
        if header.type in (th.PAX, th.SOLARIS_PAX, th.PAX_GLOBAL, th.GNU_NAME, th.GNU_LINK):
            if header.size > th.MAX_RECORD:
                raise th.damaged(f"an extended header of {header.size} bytes")
            self._pass(block)
            self._extended, self._wanted = header, header.size + th.padding(header.size)
            if not self._wanted:
                self._take_extended(header, b"")
            return
        self._pass(block)
        if header.type == th.GNU_VOLUME:
            self._plain = header.size + th.padding(header.size)
            return
        self._take_entry(header, own=own)

    def _take_extended(self, header: th.Header, data: bytes) -> None:
        self._pass(data)
        self._extended, self._wanted = None, th.BLOCK
        record = data[: header.size]
        if header.type in (th.GNU_NAME, th.GNU_LINK):
            self._gnu[header.type] = th.until_nul(record)
        elif header.type == th.PAX_GLOBAL:
            th.parse_pax(record)
        else:
            self._pax = th.parse_pax(record)

    def _take_entry(self, header: th.Header, *, own: bool) -> None:
        is_sparse = header.type == th.GNU_SPARSE or any(key.startswith("GNU.sparse.") for key in self._pax)
        entry = tar.describe(header, self._pax, self._gnu)
        self._pax, self._gnu = {}, {}
        if is_sparse:
            raise ImageError(
                f"{entry.path!r} is kept as a sparse file, which eStargz has no form for",
                code="estargz-impossible",
                hint="leave out force-compression=true, or take another compression",
            )
        if entry.path in spec.ESTARGZ_FILES and not own:
            raise BuildError(
                f"the layer has a file {entry.path!r}, which eStargz takes for its own",
                code="estargz-impossible",
                hint="give it another name, or take another compression",
            )
        described = _described(entry, header)
        self._entries.append(described)
        if entry.kind == FILE and entry.hardlink is None:
            self._file = _File(described, self._entries)
            self._body = entry.size
            if not entry.size:
                self._file.finish()

    # ── bytes of files ───────────────────────────────────────────────────────────────────────────────────

    def _take_body(self, data: memoryview) -> None:
        assert self._file is not None
        self._body -= len(data)
        while data:
            if self._file.wants_chunk:
                self._file.begin_chunk(self._members.begin())
            taken = data[: self._file.room]
            self._file.feed(taken)
            self._pass(taken)
            data = data[len(taken) :]
        if not self._body:
            self._plain = th.padding(self._file.finish())

    def _pass(self, data: bytes | memoryview) -> None:
        self._note(data)
        self._members.write(data)

    def _note(self, data: bytes | memoryview) -> None:
        self._sha.update(data)
        self.size += len(data)


class _File:
    """The chunks of the file whose bytes are passing; the first is told of by the file's own entry."""

    def __init__(self, entry: TocEntry, entries: list[TocEntry]) -> None:
        self._whole = hashlib.sha256()
        self._chunk = hashlib.sha256()
        self._entry = self._current = entry
        self._entries = entries
        self._passed = 0
        self._size = int(entry.size or 0)
        self.room = 0

    @property
    def wants_chunk(self) -> bool:
        """Whether what comes next is in a chunk of its own."""
        return self.room == 0

    def begin_chunk(self, member: int) -> None:
        """Let the next bytes be in a member of this number."""
        if self._passed:
            self._end_chunk()
            first = self._entry
            self._current = TocEntry(first.name, "chunk", first.mode, first.uid, first.gid)
            self._current.chunk_offset = self._passed
            self._entries.append(self._current)
        self.room = min(CHUNK, self._size - self._passed)
        self._current.offset = member
        if self._passed + self.room < self._size:  # the last chunk's is left out
            self._current.chunk_size = self.room

    def feed(self, data: memoryview) -> None:
        """Take bytes of the chunk."""
        self._whole.update(data)
        self._chunk.update(data)
        self._passed += len(data)
        self.room -= len(data)

    def finish(self) -> int:
        """All bytes have passed: how many."""
        if self._size:
            self._end_chunk()
        self._entry.digest = digests.from_hex(self._whole.hexdigest())
        return self._size

    def _end_chunk(self) -> None:
        self._current.chunk_digest = digests.from_hex(self._chunk.hexdigest())
        self._chunk = hashlib.sha256()


def _described(entry: Entry, header: th.Header) -> TocEntry:
    """What the table says of an entry; names are as the tar has them, as far as they are UTF-8."""
    name = header.name.decode("utf-8", "replace")
    told = TocEntry(name, _TYPES[entry.kind], entry.mode, entry.uid, entry.gid)
    if entry.mtime >= th.NANO:
        told.modtime = rfc3339(entry.mtime // th.NANO)
    if entry.hardlink is not None:
        told.type = "hardlink"
    if entry.hardlink is not None or entry.kind == SYMLINK:
        told.link_name = header.link.decode("utf-8", "replace")
    elif entry.kind == FILE and entry.size:
        told.size = entry.size
    elif entry.kind in (CHAR, BLOCK):
        told.dev_major, told.dev_minor = entry.device
    if entry.xattrs:
        told.xattrs = dict(entry.xattrs)
    return told


def footer(toc_offset: int) -> bytes:
    """The empty gzip member that says where the TOC's member begins."""
    field = b"%016xSTARGZ" % toc_offset
    extra = b"SG" + struct.pack("<H", len(field)) + field
    head = GZIP_MAGIC + b"\x04\0\0\0\0\0\xff" + struct.pack("<H", len(extra)) + extra
    return head + b"\x01\0\0\xff\xff" + bytes(8)


def annotations_of(blob: BinaryIO) -> dict[str, str]:
    """What a descriptor has to say of a blob that is eStargz already; nothing, if it is none.

    Of it only its end is read, which is believed as far as it is a TOC. blob: unbuffered.
    """
    size = os.fstat(blob.fileno()).st_size
    offset = _toc_offset(os.pread(blob.fileno(), FOOTER, max(0, size - FOOTER)), size)
    if offset is None:
        return {}
    blob.seek(offset)
    try:
        entries = tar.read(open_reader(blob))
        entry, body = next(entries)
        if entry.path != spec.TOC or entry.kind != FILE:
            return {}
        sha = hashlib.sha256()
        while data := body.read(tar.CHUNK):
            sha.update(data)
        if next(entries, None) is not None:
            return {}
    except (ImageError, StopIteration):
        return {}
    return {spec.TOC_DIGEST: digests.from_hex(sha.hexdigest())}


def _toc_offset(end: bytes, size: int) -> int | None:
    """Where the TOC is, by what may be a footer."""
    try:
        offset = int(end[16:32], 16)
    except ValueError:
        return None
    return offset if offset < size - FOOTER and end == footer(offset) else None
