"""The layers of a store on disk: what there is, what it holds, and the ways in which layers come to be.

    ROOT/layers/<id>/index      the entries (see `index`); <id> is random and short
    ROOT/layers/<id>/tree/      the bytes as a folder that overlayfs can mount: may be missing
    ROOT/layers/<id>/tree-mapped/, -recorded/, -plain/    the same with owners kept otherwise (see `index`)
    ROOT/layers/<id>/delta/, base    in place of a tree: what tells it from the layer `base` (see `folders`),
                                     which is to be kept as long as this layer is
    ROOT/layers/<id>/blob.json  the blobs that hold the bytes as tars: may be missing
    ROOT/layers/<id>/boot       in which boot it was made; `tree-boot` the same of a tree made later
    ROOT/cache/diffs/<hex>      a symlink whose text is the layer that was made from a foreign blob

The one idea: entries are the layer, its bytes lie in any of a folder, a blob or (a context) a folder of
the user's, and are brought into the form that somebody asks for. All that is made is made in ROOT/ingest
and appears by one rename, so a layer exists under its id only when it is complete; what was made since
boot and has no barrier behind it counts in this boot only.

All calls are for threads, and several processes may work on one store: who comes second finds what the
first made. It never mounts, and knows nothing of keys and records. On the path of a fully cached build:
what makes or changes bytes is imported by who needs it.
"""

from __future__ import annotations

import os
from _thread import allocate_lock

from builder.digest import Digest, from_hex, parse
from builder.fs.owning import Owning
from builder.snapshots import folders, index
from builder.snapshots.edit import OVERLAY, Edit, is_id, new_id
from builder.snapshots.lent import Lent
from builder.snapshots.snapshot import OPAQUE, WHITEOUT, Entry, LayerId
from builder.snapshots.tree import Tree
from builder.store.failure import told_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from builder.oci.compressed import Compression
    from builder.oci.spec import LayerBlob
    from builder.snapshots.changes import Stub
    from builder.snapshots.clamp import Clamp
    from builder.snapshots.snapshot import Snapshot
    from builder.snapshots.workers import Workers
    from builder.store.blobs import BlobStore
    from builder.store.growing import Growing

    Content = Callable[[Entry], BinaryIO]

KEPT_TREES = 32
CHUNK = 1 << 20


class LayerStore:
    """The layers below `root` (ROOT/layers), whose blobs are in `blobs`.

    way: how owners are kept (`fs.ownership`); the default is as this process does. Folders made in another
    way do not count, as their owners mean nothing here. With `any_way` they do count for `exists`: for who
    only asks whether there is anything to do. Raises StoreError where the disk fails, and as each call says.
    """

    def __init__(
        self, root: str | os.PathLike[str], blobs: BlobStore, *, way: str | None = None, any_way: bool = False
    ) -> None:
        self.folder = os.fspath(root)
        self.blobs = blobs
        self.owning = Owning(way)
        self.tree_name = index.tree_name(self.owning.way)
        self.store = os.path.dirname(self.folder)
        self.boot = index.boot_id()
        self._any_way = any_way
        self._guard = allocate_lock()
        self._locks: dict[str, LockType] = {}
        self._entries: dict[str, list[Entry]] = {}
        self._trees: dict[Snapshot, Tree] = {}
        self._digests: dict[tuple[str, str], Digest] = {}
        self._present: set[str] = set()
        self._unpacked: set[str] = set()
        self._stacked: dict[str, folders.Stacked | None] = {}
        self._lent = Lent(self)
        self._workers: Workers | None = None
        self.settled: set[LayerId] = set()  # which `settle` need not look at, as somebody has

    # ── what there is ────────────────────────────────────────────────────────────────────────────────────

    def exists(self, snapshot: Snapshot) -> bool:
        """Whether all layers are there with their bytes. Layers that a crash may have hurt are dropped."""
        new = [layer for layer in snapshot if layer not in self._present and layer not in self._lent.folders]
        if new and self.blobs.lease is not None:
            self.blobs.lease.hold(new)
        for layer in new:
            if not folders.is_present(self, layer, any_way=self._any_way):
                return False
            self._present.add(layer)
        return True

    def entries(self, layer: LayerId) -> list[Entry]:
        """The layer's entries in order (not to be changed). Raises StoreError if there is no such layer."""
        found = self._entries.get(layer)
        if found is None:
            with told_as(self.folder, "reading a layer"):
                found = index.read_index(self.path(layer)) if is_id(layer) else None
            if found is None:
                if is_id(layer):
                    index.unmark(self.path(layer))
                raise index.lost(layer)
            self._entries[layer] = found
        return found

    def tree(self, snapshot: Snapshot) -> Tree:
        """What the snapshot looks like. Raises StoreError if a layer is not there."""
        tree, done = Tree(), 0
        with self._guard:
            for length in range(len(snapshot), 0, -1):
                if (known := self._trees.get(snapshot[:length])) is not None:
                    tree, done = known, length
                    break
        for layer in snapshot[done:]:
            tree = tree.plus(layer, self.entries(layer))
        with self._guard:
            self._trees.pop(snapshot, None)
            self._trees[snapshot] = tree
            if len(self._trees) > KEPT_TREES:
                del self._trees[next(iter(self._trees))]
        return tree

    def all(self) -> Iterator[LayerId]:
        """The ids of all layers on disk, in no order."""
        with told_as(self.folder, "listing the layers"):
            try:
                names = os.listdir(self.folder)
            except FileNotFoundError:
                return
        for name in names:
            if is_id(name):
                yield LayerId(name)

    def blob_digests(self, layer: LayerId) -> list[Digest]:
        """The blobs that the layer is known to have (had), for the garbage collector."""
        return list(index.read_blob_sizes(self.path(layer)))

    # ── bytes ────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, layer: LayerId, entry: Entry) -> BinaryIO:
        """The bytes of a FILE of the layer.

        Raises BuildError (changed-during-build) for a file of a context that is not what it was, and
        StoreError if the layer has lost its bytes.
        """
        from builder.fs.rooted import open_root, opened
        from builder.snapshots.forms import open_lent, open_stored

        if layer in self._lent.folders:
            return open_lent(self._lent.folders[layer], entry)
        with told_as(self.folder, f"reading {entry.path!r} of a layer"):
            if (stacked := self.stacked(layer)) is not None:
                return folders.open_bytes(stacked, entry)
            with opened(open_root(self.unpacked(layer))) as fd:
                return open_stored(fd, entry.hardlink or entry.path)

    def digest(self, layer: LayerId, entry: Entry) -> Digest:
        """The digest of a FILE's bytes, hashed once and remembered. Raises as `open`."""
        if entry.digest is not None:
            return Digest(entry.digest)
        key = (layer, entry.hardlink or entry.path)
        found = self._digests.get(key)
        if found is None:
            from hashlib import sha256

            hasher = sha256()
            with self.open(layer, entry) as file, told_as(self.folder, f"reading {entry.path!r}"):
                while data := file.read(CHUNK):
                    hasher.update(data)
            found = self._digests[key] = from_hex(hasher.hexdigest())
            if layer not in self._lent.folders:
                with told_as(self.folder, "noting a digest"):
                    index.note_digest(self.path(layer), key[1], found)
        return found

    def known_digest(self, layer: LayerId, entry: Entry) -> str | None:
        """The digest of a FILE's bytes, if somebody asked for it before."""
        return entry.digest or self._digests.get((layer, entry.hardlink or entry.path))

    def base(self, layer: LayerId) -> LayerId | None:
        """The layer whose folder this one's is told by, if it is; for the garbage collector, too."""
        return folders.base_of(self.path(layer))

    def stacked(self, layer: LayerId) -> folders.Stacked | None:
        """The two folders that show the layer, where it has no whole one."""
        if layer in self._unpacked or layer in self._lent.folders:
            return None
        if layer not in self._stacked:
            self._stacked[layer] = None if self.has_tree(layer) else folders.find_stacked(self, layer)
        return self._stacked[layer]

    def is_unpacked(self, layer: LayerId) -> bool:
        """Whether the layer is known to have its whole folder in the store."""
        return layer in self._unpacked

    def lower(self, snapshot: Snapshot) -> list[str]:
        """The folders that an overlay shows a snapshot by, bottom first; see `folders`. Raises StoreError."""
        with told_as(self.folder, "looking for a layer's folders"):
            return folders.lower(self, snapshot)

    def unpacked(self, layer: LayerId) -> Path:
        """The layer's whole folder, ready to be a lower folder of an overlay; made now if there is none.

        Raises StoreError if the layer has lost its bytes.
        """
        from pathlib import Path

        if layer in self._lent.folders:
            with told_as(self.folder, "unpacking a context"):
                return self._lent.unpacked(layer)
        tree = Path(self.path(layer), self.tree_name)
        if layer not in self._unpacked:
            from builder.snapshots import conversion

            with self.lock("tree", layer), told_as(self.folder, "unpacking a layer"):
                if not self.has_tree(layer):
                    conversion.unpack(self, layer)
            self._unpacked.add(layer)
        return tree

    def blob(
        self, layer: LayerId, compression: Compression, *, clamp: int | None = None, force: bool = False
    ) -> LayerBlob:
        """The layer as a tar blob in the store, made now if there is none.

        A layer of a foreign image is its own blob as it came, whatever is asked for, or with `force` that tar
        with the compression asked for. `clamp`, in nanoseconds, is the latest mtime in the tar, where that is
        none that came. Raises StoreError if the layer has lost its bytes.
        """
        from builder.snapshots import conversion, forms

        folder = self.path(layer)
        key = forms.blob_key(compression, clamp)
        with self.lock("blob", layer), told_as(self.folder, "packing a layer"):
            known = {} if layer in self._lent.folders else forms.read_blobs(folder)
            if forms.IMPORTED in known and not self.has_blob(known[forms.IMPORTED]):
                del known[forms.IMPORTED]
            if (came := known.get(forms.IMPORTED)) is not None:
                fit = forms.fitted(self.blobs, came, compression, force=force)
                if fit is not None:
                    return fit
            if key in known and self.has_blob(known[key]):
                return known[key]
            blob = conversion.pack(self, layer, known, compression, clamp)
            if layer not in self._lent.folders:
                forms.remember_blob(folder, key, blob)
            return blob

    # ── how layers come to be ────────────────────────────────────────────────────────────────────────────

    def create(
        self,
        entries: Iterable[Entry],
        content: Content,
        *,
        unpacked: bool,
        model: LayerId | None = None,
        now: int | None = None,
    ) -> LayerId:
        """Make a layer from entries and the bytes that `content` gives, as a folder or as a blob.

        model: a layer, be it there or not, that may differ in little (see `delta`, and there for `now`): what
        is the same is not made again, and where all is, it is the layer.

        Raises BuildError (changed-during-build) where the bytes are not those of an entry's digest;
        then, as on every error, nothing is left.
        """
        from builder.snapshots import making

        with told_as(self.folder, "writing a layer"):
            return making.create(self, entries, content, unpacked=unpacked, model=model, now=now)

    def edit(self, below: Snapshot = (), snapshotter: str = OVERLAY) -> Edit:
        """New folders for an overlay on `below`, whose root has the mode and owner that it has there; by COPY
        what is below is in it already, to be used without an overlay. Raises BuildError."""
        from builder.snapshots import making

        with told_as(self.folder, "making a folder to work in"):
            return making.begin(self, below, snapshotter)

    def commit(
        self,
        edit: Edit,
        below: Snapshot,
        stubs: Sequence[Stub],
        owners: Mapping[str, tuple[int, int]] | None = None,
        *,
        as_it_is: bool = False,
        clamp: Clamp | None = None,
    ) -> LayerId:
        """Make what changed in the upper folder a layer; see `changes`. The edit is used up.

        stubs: mount points that the runtime may have made, and files laid for the step; owners: path ->
        (uid, gid) of what can carry no record, where owners are recorded. Nothing may use the overlay any
        more. as_it_is: an overlay's folder stays just as it was left, for who mounts it and hands it to
        nobody. clamp: which times the layer's paths may have. Raises BuildError for a path that is too long.
        """
        from builder.snapshots import making

        with told_as(self.folder, "committing a step"):
            return making.commit(self, edit, below, stubs, owners or {}, as_it_is=as_it_is, clamp=clamp)

    def is_plain(self, snapshot: Snapshot) -> bool:
        """Whether the folder of its only layer shows just what is there."""
        marks = (WHITEOUT, OPAQUE)
        return len(snapshot) == 1 and not any(e.kind in marks for e in self.entries(snapshot[0]))

    def copy(self, folder: str | os.PathLike[str], tree: Tree, top: str = ".") -> str:
        """Copy what a tree has at `top` to a folder: its path in there. See `copies`. Raises BuildError."""
        from builder.snapshots import copies

        with told_as(self.folder, "copying a snapshot"):
            return copies.copy(folder, tree, top, self.open, self.owning.way)

    def import_blob(self, blob: LayerBlob, *, unpacked: bool) -> LayerId:
        """The layer of a foreign image whose blob is in the store; one for all images that share it.

        Raises ImageError for a blob that is damaged, hostile, or has another diff id than it should.
        """
        from builder.snapshots import imports

        with self.lock("diff", blob.diff_id), told_as(self.folder, "unpacking a layer"):
            return imports.import_blob(self, blob, unpacked=unpacked)

    def import_growing(self, blob: LayerBlob, growing: Growing, *, unpacked: bool) -> LayerId | None:
        """The same of a blob that is on its way into the store; None where the layer is there already.

        Raises CutShort where it does not come to a good end.
        """
        from builder.snapshots import imports

        with self.lock("diff", blob.diff_id), told_as(self.folder, "unpacking a layer"):
            return imports.import_growing(self, blob, growing, unpacked=unpacked)

    def settle(self, layers: Sequence[LayerId]) -> Snapshot:
        """The snapshot of a foreign image's layers: folders that a tar only implied get the mode and owner
        that they have below. Raises StoreError if a layer is not there.
        """
        from builder.snapshots import imports

        with told_as(self.folder, "writing a layer"):
            return imports.settle(self, layers)

    def add_folder(self, folder: str | os.PathLike[str], entries: Iterable[Entry]) -> LayerId:
        """A layer of this process alone, whose bytes lie in a folder of the user's."""
        layer = new_id()
        self._entries[layer] = list(entries)
        self._lent.folders[layer] = os.path.abspath(folder)
        return layer

    def is_lent(self, layer: LayerId) -> bool:
        """Whether it is a layer of this process alone."""
        return layer in self._lent.folders

    def adopt(self, lent: LayerId) -> LayerId:
        """Make a layer of this process alone one of the store. Nobody may use that one any more."""
        with told_as(self.folder, "keeping a context"):
            return self._lent.adopt(lent)

    # ── how they stay, and go ────────────────────────────────────────────────────────────────────────────

    def promote(self, layers: Iterable[LayerId]) -> None:
        """Note that the layers have a barrier behind them. Call it only after syncfs(2) of the store."""
        from builder.snapshots import durable

        with told_as(self.folder, "marking a layer"):
            durable.promote(durable.find_unpromoted([self.path(layer) for layer in layers], self.boot))

    def barrier(self, layers: Iterable[LayerId]) -> None:
        """Bring the store's file system to the disk and promote the layers, if any of them needs it."""
        from builder.snapshots import durable

        with told_as(self.folder, "writing layers to the disk"):
            bases = [base for layer in layers if (base := self.base(layer)) is not None]
            paths = [self.path(layer) for layer in dict.fromkeys([*layers, *bases])]
            durable.pass_barrier(self.folder, paths, self.boot)

    def delete(self, layer: LayerId) -> None:
        """Remove a layer; it is gone at once, whatever then happens. One that is not there is no error."""
        with self._guard:
            self._present.discard(layer)
            self._unpacked.discard(layer)
            self._stacked.clear()
            self._entries.pop(layer, None)
            self._lent.folders.pop(layer, None)
            for snapshot in [snapshot for snapshot in self._trees if layer in snapshot]:
                del self._trees[snapshot]
        with told_as(self.folder, "removing a layer"):
            self._remove(self.path(layer))

    def close(self) -> None:
        """Remove what was made for this process alone, and end the processes that work for it."""
        if self._workers is not None:
            self._workers.close()
        self._lent.close()

    # ── for who makes layers ─────────────────────────────────────────────────────────────────────────────

    def path(self, layer: LayerId) -> str:
        """The layer's folder, be it there or not. Raises StoreError for what is no id."""
        if not is_id(layer):
            raise index.lost(layer)
        return os.path.join(self.folder, layer)

    def place(self, layer: LayerId, folder: str, entries: list[Entry]) -> LayerId:
        """Make a finished folder of ROOT/ingest the layer `layer`."""
        self.place_indexed(layer, folder, index.write_index(folder, entries))
        self._entries[layer] = entries
        return layer

    def place_indexed(self, layer: LayerId, folder: str, size: int) -> LayerId:
        """The same where its index is written. size: the room that it takes (bytes), about."""
        if self.blobs.lease is not None:
            self.blobs.lease.hold((layer,))
        self.blobs.grown += size
        index.mark_boot(folder, self.boot)
        os.rename(folder, self.path(layer))
        self._present.add(layer)
        return layer

    @property
    def workers(self) -> Workers:
        """Processes that unpack layers for who uses this store."""
        from builder.snapshots.workers import Workers

        with self._guard:
            if self._workers is None:
                self._workers = Workers()
            return self._workers

    def has_tree(self, layer: LayerId) -> bool:
        """Whether there is a folder that can be trusted; one that a crash may have hurt is removed."""
        tree = os.path.join(self.path(layer), self.tree_name)
        if not os.path.isdir(tree):
            return False
        if index.is_whole(tree, self.boot):
            return True
        self._remove(tree)
        return False

    def has_blob(self, blob: LayerBlob) -> bool:
        """Whether the blob's bytes are in the store, as many as there should be."""
        return self.blobs.stat(parse(blob.descriptor.digest)) == blob.descriptor.size

    def lock(self, kind: str, name: str) -> LockType:
        """The lock of this process on one thing of a kind."""
        with self._guard:
            return self._locks.setdefault(f"{kind}:{name}", allocate_lock())

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    def _remove(self, path: str) -> None:
        from builder.store.ingest import IngestFolder

        with IngestFolder(self.store) as work:
            try:
                os.rename(path, os.path.join(work.path, "gone"))
            except FileNotFoundError:
                return
