"""Layers as blobs: entries to a compressed tar, and a compressed tar to entries.

How it works. `pack` sends entries in their canonical order through the tar writer and the compressor in
one pass, and hashes both sides on the way. `scan` is the inverse: one pass over a blob that hashes the
tar (the diff id) and each file, and brings the names into the form of `snapshots.snapshot`: links to
folders inside the layer are followed, folders that the tar only implies are added, a later entry for a
path replaces the former with all below it, hard links point to the one entry that stays. A sink sees
each entry as it passes, so that unpacking costs no second pass.

The index is in `layer_index`. This is one of two modules that know how a removal is written: `.wh.NAME`,
and `.wh..wh..opq` for all of a folder's former children (image-spec, layer.md). A whiteout speaks of the
layers below only, wherever in the tar it stands.

A file may really be called so. In a tar it cannot be told from a removal: it is written as it is, as by
other builders, and means to others what it says to them. Reading a blob of our own again, its index tells.

Must never know: where blobs and layers are kept, overlayfs.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

from builder import digest
from builder.errors import BuildError, ImageError
from builder.oci import compression as comp
from builder.oci import spec, tar
from builder.oci.layer_index import LayerIndex
from builder.oci.readahead import ReadAhead
from builder.snapshots.snapshot import CHAR, FILE, FOLDER, OPAQUE, WHITEOUT, Entry, order, parent_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Protocol

    from builder.fs.copy import Readable
    from builder.oci.compressed import Compression
    from builder.oci.tar import Content, Writable

    class Hashed(Protocol):
        """What takes all the bytes of each write, and tells how many they were and their digest."""

        @property
        def size(self) -> int: ...
        def write(self, data: bytes, /) -> object: ...
        def digest(self) -> digest.Digest: ...

    class Sink(Protocol):
        """Takes entries as they pass; the reader, of a FILE with bytes of its own, is good for the call."""

        def add(self, entry: Entry, reader: Readable | None) -> None: ...


WHITEOUT_PREFIX = ".wh."
AUFS_PREFIX = ".wh..wh."
OPAQUE_NAME = ".wh..wh..opq"
UNREADABLE = (".wh.", ".wh..", ".wh...")  # removals of "", "." and ".."
KEPT_XATTRS = ("security.capability",)
CAPABILITY_SIZES = (12, 20, 24)  # of struct vfs_cap_data, by its revisions (linux/capability.h)
CHUNK = 1 << 18

MEDIA_TYPES = {
    "gzip": spec.OCI_LAYER_GZIP,
    "estargz": spec.OCI_LAYER_GZIP,
    "zstd": spec.OCI_LAYER_ZSTD,
    "none": spec.OCI_LAYER,
}
_RANK = {WHITEOUT: 0, OPAQUE: 2}


# ── packing ──────────────────────────────────────────────────────────────────────────────────────────────


def pack(
    entries: Iterable[Entry],
    content: Content,
    out: Hashed,
    compression: Compression,
    *,
    clamp: int | None = None,
) -> spec.LayerBlob:
    """Write the layer's blob to `out`; what it came to be.

    The order of the entries given does not matter; implied folders are left out. `clamp`, in nanoseconds,
    is the latest mtime written. Raises BuildError where a file's bytes are not those of its entry, and
    for names that a layer cannot hold.
    """
    return pack_tar(lambda raw: tar.write(tar_entries(entries), content, raw, clamp=clamp), out, compression)


def pack_tar(write: Callable[[Writable], None], out: Hashed, compression: Compression) -> spec.LayerBlob:
    """The same of a tar that `write` writes; eStargz adds files of its own to it."""
    if compression.kind == "estargz":
        from builder.oci import estargz

        return estargz.pack(write, out, compression.level)
    with comp.open_writer(out, compression) as writer:
        raw = Counted(writer)
        write(raw)
    return spec.LayerBlob(
        spec.Descriptor(MEDIA_TYPES[compression.kind], out.digest(), out.size), raw.digest(), raw.size
    )


class Counted:
    """Passes writes on, counts and hashes them."""

    def __init__(self, out: Writable) -> None:
        self._out = out
        self._sha = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, /) -> int:
        self._sha.update(data)
        self.size += len(data)
        self._out.write(data)
        return len(data)

    def digest(self) -> digest.Digest:
        """The digest of what was written so far."""
        return digest.from_hex(self._sha.hexdigest())


def canonical(entries: Iterable[Entry]) -> list[Entry]:
    """The entries in the order of a layer: folders before what they hold, whiteouts before what is new."""
    return sorted(entries, key=lambda entry: (order(entry.path), _RANK.get(entry.kind, 1)))


def tar_entries(entries: Iterable[Entry], *, in_order: bool = False) -> Iterator[Entry]:
    """The entries in order, whiteouts as the files that say so, a hard link after what it links to.

    in_order: whether they are given in canonical order.
    """
    written: set[str] = set()
    waiting: dict[str, list[Entry]] = {}
    entries = [entry for entry in entries if not entry.implied]
    if not in_order:
        entries = canonical(entries)
    own = _Own(entries)
    for entry in entries:
        if entry.kind in (WHITEOUT, OPAQUE):
            name = removal_name(entry)
            if name not in own.literal:  # a file of that name says it, too
                yield Entry(name, FILE)
            continue
        if entry.path.rpartition("/")[2] in UNREADABLE:
            raise BuildError(
                f"{entry.path!r} cannot be in an image: it would be the removal of nothing that has a name",
                code="reserved-name",
            )
        if entry.hardlink is not None and entry.hardlink not in written:
            waiting.setdefault(entry.hardlink, []).append(entry)
            continue
        yield entry
        if entry.kind == FILE:
            written.add(entry.path)
            yield from waiting.pop(entry.path, ())
    for links in waiting.values():
        yield from links


def removal_name(entry: Entry) -> str:
    """The path of the file that says what a WHITEOUT or OPAQUE does."""
    if entry.kind == OPAQUE:
        return OPAQUE_NAME if entry.path == "." else f"{entry.path}/{OPAQUE_NAME}"
    folder, slash, name = entry.path.rpartition("/")
    return f"{folder}{slash}{WHITEOUT_PREFIX}{name}"


class _Own:
    """What the index of a layer tells of its names: those that are `literal`, and removals by their names."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.literal: set[str] = set()
        self.removals: dict[str, Entry] = {}
        for entry in entries:
            if entry.kind in (WHITEOUT, OPAQUE):
                self.removals[removal_name(entry)] = entry
            elif WHITEOUT_PREFIX in entry.path and entry.path.rpartition("/")[2].startswith(WHITEOUT_PREFIX):
                self.literal.add(entry.path)


# ── scanning ─────────────────────────────────────────────────────────────────────────────────────────────


def scan(
    stream: Readable,
    *,
    sink: Sink | None = None,
    whiteouts: bool = True,
    indexed: Iterable[Entry] = (),
    name: str = "the layer",
    limits: comp.Limits = comp.FOREIGN,
    ahead: bool = True,
) -> tuple[list[Entry], str]:
    """Read a layer's blob of any compression to its end: (entries in canonical order, diff id).

    Every FILE has its digest. A hard link to a path that is not in the layer is kept as it is, without
    digest; what unpacks it has to refuse it. With `whiteouts` false names that begin with .wh. are plain
    names (ADD of an archive). `indexed`: what a blob of our own was made of. ahead: whether a thread of its
    own decompresses. Raises ImageError for what is damaged or hostile, and whatever the sink raises.
    """
    unpacked = comp.open_reader(stream, name=name, limits=limits)
    hashed = _Hashed(unpacked)
    consumed = (lambda: unpacked.consumed) if limits.ratio is not None else None
    index = LayerIndex(sink, WHITEOUT_PREFIX if whiteouts else "", consumed)
    own = _Own(indexed)
    try:
        with ReadAhead(hashed) if ahead else contextlib.nullcontext(hashed) as reader:
            for entry, body in tar.read(reader):
                if whiteouts and _is_removal(entry, index, own):
                    continue
                _tame(entry)
                if entry.kind == FILE and entry.hardlink is None:
                    index.add_file(entry, body)
                else:
                    index.add(entry)
            while reader.read(CHUNK):
                pass
    except ImageError as error:
        if name not in error.message:  # of many layers, say which
            error.message = f"{name}: {error.message}"
        raise
    return canonical(index.finish()), digest.from_hex(hashed.sha.hexdigest())


class _Hashed:
    """Passes reads on and hashes them."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.sha = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self.sha.update(data)
        return data


def _is_removal(entry: Entry, index: LayerIndex, own: _Own) -> bool:
    """Whether the entry's name says what is gone (and that is noted now), or is leftover of aufs."""
    if WHITEOUT_PREFIX not in entry.path:
        return False
    if entry.path in own.literal:
        if (removal := own.removals.get(entry.path)) is not None:
            _note(removal, index)
        return False
    *folders, name = entry.path.split("/")
    for depth, folder in enumerate(folders):
        if "/".join(folders[: depth + 1]) in own.literal:
            continue
        if folder.startswith(AUFS_PREFIX):
            return True
        if folder.startswith(WHITEOUT_PREFIX):
            raise ImageError(f"the layer has {entry.path!r} below a removed path", code="damaged-archive")
    if not name.startswith(WHITEOUT_PREFIX):
        return False
    if name == OPAQUE_NAME:
        index.make_opaque(parent_of(entry.path))
    elif not name.startswith(AUFS_PREFIX):
        gone = name[len(WHITEOUT_PREFIX) :]
        if gone in ("", ".", ".."):
            raise ImageError(f"the layer removes {entry.path!r}, which is no name", code="damaged-archive")
        index.remove("/".join((*folders, gone)))
    return True


def _note(removal: Entry, index: LayerIndex) -> None:
    if removal.kind == OPAQUE:
        index.make_opaque(removal.path)
    else:
        index.remove(removal.path)


def _tame(entry: Entry) -> None:
    """Take from an entry what must not reach a file system: overlayfs's own marks.

    A 0:0 character device is how overlayfs writes a removal, its xattrs redirect and hide; of all xattrs
    only security.capability is part of an image, and that in one of the forms that the kernel knows.
    """
    if entry.kind == CHAR and entry.device == (0, 0):
        raise ImageError(f"the layer has a device 0:0 at {entry.path!r}", code="damaged-archive")
    if entry.path == "." and (entry.kind != FOLDER or entry.hardlink is not None):
        raise ImageError("the layer replaces the root by something else", code="damaged-archive")
    if entry.xattrs:
        kept = KEPT_XATTRS if entry.kind == FILE and entry.hardlink is None else ()
        entry.xattrs = tuple((key, value) for key, value in entry.xattrs if key in kept)
        if any(len(value) not in CAPABILITY_SIZES for _, value in entry.xattrs):
            raise ImageError(
                f"the layer has capabilities at {entry.path!r} that are none", code="damaged-archive"
            )
