"""Cache mounts as archives, and back.

No key says what is in a cache mount: steps read it as it is, and what they make of it becomes records. So it
travels only by id, as somebody asked for it on both sides, and is taken only from a cache that is named by
its digest or said to be trusted (the command line holds to that). What comes is unpacked as layers are,
within its limit, without devices, in a folder of its own; it gets its name when it is whole, while the mount
is held, and only where there was nothing: what is there already stays as it is.

A cache that starts with a stage's files is named by layers of this store, which mean nothing elsewhere: it
does not travel.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from builder import digest as digests
from builder import stop
from builder.cachemounts import CacheMounts, start_of
from builder.errors import BuildError, ImageError
from builder.fs.owning import Owning
from builder.fs.rooted import open_root, opened
from builder.oci import layer, spec
from builder.oci.compressed import Compression
from builder.oci.compression import Limits
from builder.ops.exec import CacheMount, Exec
from builder.remotecache.document import MOUNT_TYPE
from builder.snapshots import changes, forms
from builder.snapshots.snapshot import BLOCK, CHAR, FILE, OPAQUE, WHITEOUT, Entry
from builder.snapshots.tree import Tree
from builder.snapshots.unpack import TreeWriter
from builder.store.failure import told_as
from builder.store.ingest import IngestFolder
from builder.store.root import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.fs.copy import Readable
    from builder.graph.definition import Vertex
    from builder.oci.spec import LayerBlob
    from builder.remotecache.taking import Remote, Taking

MAX_ENTRIES = 1_000_000
OVERHEAD = 4096  # bytes of an archive for each entry, at most, besides what is in it
LEFT_OUT = (CHAR, BLOCK, WHITEOUT, OPAQUE)


class TooLarge(BuildError):
    """A cache mount has more bytes than it may have."""

    code = "cache-mount-too-large"


def mounts_of(vertices: Iterable[Vertex], ids: Sequence[str]) -> list[tuple[str, list[object]]]:
    """The cache mounts with these ids that the steps have, each once: (id, start)."""
    found = {
        (mount.id, tuple(start_of(mount.mode, mount.uid, mount.gid)))
        for vertex in vertices
        if isinstance(vertex.op, Exec)
        for mount in vertex.op.mounts
        if isinstance(mount, CacheMount) and mount.id in ids and mount.input is None
    }
    return [(name, list(start)) for name, start in sorted(found, key=repr)]


def pack(folder: str, limit: int, out: BinaryIO, compression: Compression) -> LayerBlob:
    """Write an archive of a cache mount's folder, which nobody changes meanwhile. Blocking.

    Raises TooLarge where its files have more than `limit` bytes.
    """
    with opened(open_root(folder)) as fd:
        upper = changes.read(fd, Owning())
        found = changes.compare(upper, Tree(), (), lambda _path, _node: False)
        entries = [entry for entry in found if entry.kind not in LEFT_OUT]
        size = sum(entry.size for entry in entries if entry.kind == FILE and entry.hardlink is None)
        if size > limit:
            raise TooLarge(f"it has {size} bytes, and may have {limit}")
        blob = layer.pack(
            entries, lambda entry: forms.open_stored(fd, entry.path), layer.Counted(out), compression
        )
    suffix = blob.descriptor.media_type.removeprefix(spec.OCI_LAYER)
    descriptor = spec.Descriptor(MOUNT_TYPE + suffix, blob.descriptor.digest, blob.descriptor.size)
    return spec.LayerBlob(descriptor, blob.diff_id, blob.size)


def unpack(stream: BinaryIO, blob: LayerBlob, folder: str, limit: int) -> None:
    """Unpack an archive of a cache mount into a folder that is there and empty. Blocking.

    Raises ImageError for one that is hostile, damaged, or has more than `limit` bytes in its files.
    """
    name = "the archive of a cache mount"
    with TreeWriter(folder) as writer:
        sink = _Filtered(writer, limit)
        limits = Limits(size=limit + sink.overhead)
        _, diff_id = layer.scan(stream, sink=sink, whiteouts=False, name=name, limits=limits)
    if diff_id != blob.diff_id:
        raise ImageError(f"{name} has the diff id {diff_id}, not {blob.diff_id}", code="wrong-diff-id")


class _Filtered:
    """Passes entries on to a writer of trees: no devices, no setuid programs, no more than is allowed."""

    def __init__(self, writer: TreeWriter, limit: int) -> None:
        self.overhead = min(limit + (64 << 20), MAX_ENTRIES * OVERHEAD)
        self._writer = writer
        self._limit = limit
        self._entries = 0
        self._size = 0

    def add(self, entry: Entry, reader: Readable | None) -> None:
        """See oci.layer.Sink."""
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise ImageError(f"a cache mount has more than {MAX_ENTRIES} files", code="cache-mount-too-large")
        if entry.kind in LEFT_OUT or entry.path == ".":
            return
        if entry.kind == FILE:
            self._size += entry.size if entry.hardlink is None else 0
            if self._size > self._limit:
                raise ImageError(
                    f"a cache mount has more than the {self._limit} bytes that it may have",
                    code="cache-mount-too-large",
                )
            entry = entry.replace(mode=entry.mode & ~(stat.S_ISUID | stat.S_ISGID), xattrs=())
        self._writer.add(entry, reader)


class MountsTaken:
    """The cache mounts that a build may take from elsewhere; see `cachemounts.Elsewhere`."""

    def __init__(self, taking: Taking, store: Store) -> None:
        self._taking = taking
        self._store = store
        self._mounts = CacheMounts(store.folder)

    async def bring(
        self, identity: str, start: Sequence[object], path: str, finish: Callable[[str], None]
    ) -> None:
        """Make a held folder that is missing what a cache elsewhere has under this id, if one has it.

        finish: gives the folder its owner and mode. Raises StoreError.
        """
        for remote, cache in await self._taking.opened():
            if identity not in remote.wanted.mounts:
                continue
            for mount in cache.mounts:
                if (mount.id, mount.start) == (identity, list(start)) and not os.path.isdir(path):
                    work = partial(self._bring, remote, cache.blob(mount.place), path, finish)
                    await self._taking.guarded(remote, work)

    async def _bring(self, remote: Remote, blob: LayerBlob, path: str, finish: Callable[[str], None]) -> None:
        limit = remote.wanted.mounts_max
        if blob.descriptor.size > limit:
            raise TooLarge(f"a cache mount has {blob.descriptor.size} bytes, and may have {limit}")
        with IngestFolder(self._store.folder) as work:
            scratch = Store(os.path.join(work.path, "blobs"))
            await remote.place.bring(blob.descriptor, scratch, lambda *_: None)
            await stop.in_thread(None, partial(self._place, scratch, blob, work.path, path, limit, finish))

    def _place(
        self, scratch: Store, blob: LayerBlob, work: str, path: str, limit: int, finish: Callable[[str], None]
    ) -> None:
        new = os.path.join(work, "cache")
        os.mkdir(new, 0o700)
        with (
            told_as(self._store.folder, "unpacking a cache mount"),
            scratch.blobs.open(digests.parse(blob.descriptor.digest)) as stream,
        ):
            unpack(stream, blob, new, limit)
        finish(new)
        self._mounts.put(new, path)
