"""Layers: their small files, their blobs and their folders, each against the others.

What a layer is says its index, which holds a sum of itself. A blob must unpack to that; a folder must hold
that, and each file's bytes have the digest that the index, or the blob, knows. Of a layer without a blob the
digests of files that nobody asked for are not known: their bytes cannot be checked, only that they are there,
with their sizes and attributes.

A form that is wrong is dropped; the layer itself where it has no other, or where its index is none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from builder import digest as digests
from builder.errors import BuildError
from builder.failed import kept_steps
from builder.fs.ownership import MAPPED, REAL, RECORDED
from builder.fsck.finding import DROP_LAYER, Counts, Finding
from builder.oci import spec
from builder.oci.layer import scan
from builder.snapshots import folders, forms, index
from builder.snapshots.edit import is_id
from builder.snapshots.reading import read_tree
from builder.snapshots.snapshot import FIFO, FILE, OPAQUE, SYMLINK, WHITEOUT, Entry

if TYPE_CHECKING:
    from builder.oci.spec import LayerBlob
    from builder.store.root import Store

CHUNK = 1 << 20
SECOND = 1_000_000_000
_WAYS = {"tree": REAL, "tree-mapped": MAPPED, "tree-recorded": RECORDED, "tree-plain": RECORDED}


def check(store: Store, damaged: Collection[str], counts: Counts) -> Iterator[Finding]:
    """What is wrong with layers. damaged: the paths, below ROOT, of blobs with wrong bytes."""
    top = os.path.join(store.folder, "layers")
    failed = {name for step in kept_steps(store) for name in (step.layer, *step.adopted)}
    boot = index.boot_id()
    for name in sorted(os.listdir(top)) if os.path.isdir(top) else ():
        folder = os.path.join(top, name)
        if not is_id(name):
            yield Finding("layer", f"layers/{name}", "this is no name of a layer")
            continue
        mark = index.read_boot(folder)
        if mark is not None and mark not in (boot, index.PROMOTED):
            continue  # of an earlier boot, and without a barrier: dropped by who looks at it
        counts.layers += 1
        found = list(_Layer(store, name, damaged, counts, whole=name not in failed).problems())
        if found and os.path.isdir(folder):  # else it was removed meanwhile
            yield from found


class _Layer:
    """One layer, looked at from all sides."""

    def __init__(
        self, store: Store, name: str, damaged: Collection[str], counts: Counts, *, whole: bool
    ) -> None:
        self.store = store
        self.name = name
        self.folder = os.path.join(store.folder, "layers", name)
        self.damaged = damaged
        self.counts = counts
        self.whole = whole
        self.digests: dict[str, str] = {}

    def problems(self) -> Iterator[Finding]:
        """What is wrong."""
        if index.read_boot(self.folder) is None:
            yield self._lost("its mark is gone")
            return
        entries = index.read_index(self.folder)
        if entries is None or not index.has_sound_header(self.folder, entries):
            yield self._lost("its index is gone, or damaged")
            return
        yield from self._small_files()
        self.digests = {entry.path: entry.digest for entry in entries if entry.digest and entry.kind == FILE}
        wrong, good = [], 0
        for blob in forms.read_blobs(self.folder).values():
            problem = self._blob_problem(blob, entries)
            good += problem is None
            if problem:
                wrong.append(self._finding("blob.json", problem))
        for name in (*index.TREES, *(folders.delta_name(tree) for tree in index.TREES)):
            if os.path.lexists(os.path.join(self.folder, name)):
                problem = self._tree_problem(name, entries)
                good += not problem
                if problem:
                    wrong.append(self._finding(name, problem))
        yield from wrong if good else [self._lost(wrong[0].problem if wrong else "its bytes are gone")]

    def _finding(self, name: str, problem: str) -> Finding:
        return Finding("layer", f"layers/{self.name}/{name}", problem)

    def _lost(self, problem: str) -> Finding:
        return Finding("layer", f"layers/{self.name}", problem, DROP_LAYER, self.name)

    def _small_files(self) -> Iterator[Finding]:
        """The digests that were noted, and the list of blobs."""
        if None in index.read_noted(self.folder):
            yield self._finding(index.DIGESTS, "it has lines that are none")
        if os.path.exists(os.path.join(self.folder, index.BLOBS)) and not forms.read_blobs(self.folder):
            yield self._finding(index.BLOBS, "it cannot be read")

    # ── blobs ────────────────────────────────────────────────────────────────────────────────────────────

    def _blob_problem(self, blob: LayerBlob, entries: list[Entry]) -> str | None:
        """What is wrong with a blob as this layer's: "" where it is not there, None for nothing."""
        digest = blob.descriptor.digest
        path = os.path.join("blobs", digest.replace(":", "/"))
        try:
            size = os.stat(os.path.join(self.store.folder, path)).st_size
        except OSError:
            return ""
        if path in self.damaged or size != blob.descriptor.size:
            return ""  # told of the blob
        try:
            with open(os.path.join(self.store.folder, path), "rb", buffering=0) as stream:
                found, diff_id = scan(stream, indexed=entries, name=f"blob {digest}")
        except (BuildError, OSError) as error:
            return f"its blob {digest[:19]} cannot be read: {error}"
        if diff_id != blob.diff_id:
            return f"its blob {digest[:19]} has another diff id"
        if spec.TOC_DIGEST in blob.descriptor.annotations:
            found = [entry for entry in found if entry.path not in spec.ESTARGZ_FILES]
        problem = next(_differences(found, entries), None)
        if problem is not None:
            return f"its blob {digest[:19]} holds something else: {problem}"
        for entry in found:
            if entry.kind == FILE and entry.digest:
                self.digests.setdefault(entry.path, entry.digest)
        return None

    # ── folders ──────────────────────────────────────────────────────────────────────────────────────────

    def _tree_problem(self, name: str, entries: list[Entry]) -> str:
        """What is wrong with a folder of bytes; "" for nothing."""
        whole = name in index.TREES
        tree = "tree" + name.removeprefix("delta") if not whole else name
        way = _WAYS[tree]
        try:
            fd = os.open(os.path.join(self.folder, name), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            return f"it cannot be opened: {error.strerror}"
        try:
            found = {(entry.path, entry.kind): entry for entry in read_tree(fd, way) if entry.path != "."}
            expected = {(entry.path, entry.kind): entry for entry in entries if entry.path != "."}
            problem = self._shape(found, expected, whole=whole) or _attributes(found, expected, way)
            return problem or self._bytes(fd, found)
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        finally:
            os.close(fd)

    def _shape(
        self,
        found: dict[tuple[str, str], Entry],
        expected: dict[tuple[str, str], Entry],
        *,
        whole: bool,
    ) -> str:
        """What is there and should not be, or the other way round. A small folder holds a part, and hides
        what only its base has; what a failed step left holds more than its index tells."""
        for path, kind in sorted(found.keys() ^ expected.keys()):
            more = (path, kind) in found
            if (more and self.whole and (whole or kind not in (WHITEOUT, OPAQUE))) or (not more and whole):
                return f"{path!r} {'should not be there' if more else 'is not there'}"
        return ""

    def _bytes(self, fd: int, found: dict[tuple[str, str], Entry]) -> str:
        for (path, kind), entry in found.items():
            if kind != FILE or entry.hardlink is not None:
                continue
            self.counts.files += 1
            known = self.digests.get(path)
            if known is None:
                self.counts.unproven += entry.size > 0
                continue
            hasher = hashlib.sha256()
            with forms.open_stored(fd, path) as file:
                while data := file.read(CHUNK):
                    hasher.update(data)
            if digests.from_hex(hasher.hexdigest()) != known:
                return f"{path!r} has other bytes"
        return ""


def _attributes(found: dict[tuple[str, str], Entry], expected: dict[tuple[str, str], Entry], way: str) -> str:
    """A path whose attributes differ; owners only where the folder tells them."""
    for key in found.keys() & expected.keys():
        hidden = way == MAPPED or (way == RECORDED and key[1] in (SYMLINK, FIFO))
        if _told(found[key], hidden) != _told(expected[key], hidden):
            return f"{key[0]!r} has other attributes"
    return ""


def _told(entry: Entry, hidden: bool) -> tuple[object, ...]:
    owner = None if hidden else (entry.uid, entry.gid)
    mode = None if entry.kind == SYMLINK else entry.mode  # a link on disk has none of its own
    return mode, owner, entry.size, entry.mtime, entry.link, entry.hardlink, entry.device


def _differences(found: list[Entry], expected: list[Entry]) -> Iterator[str]:
    """What a blob holds besides, or not, or otherwise than its layer's index.

    Folders that were only implied have the attributes of what they lie over, and removals of nothing may be
    left out.
    """
    one = {entry.path: entry for entry in found if entry.kind not in (WHITEOUT, OPAQUE)}
    other = {entry.path: entry for entry in expected if entry.kind not in (WHITEOUT, OPAQUE)}
    for path in sorted(one.keys() ^ other.keys()):
        if path != ".":
            yield f"{path!r} is in one of them alone"
    for path in sorted(one.keys() & other.keys()):
        here, there = one[path], other[path]
        if here.implied or there.implied or path == ".":
            continue
        if _plain(here) != _plain(there) or (here.digest and there.digest and here.digest != there.digest):
            yield f"{path!r} is another"


def _plain(entry: Entry) -> tuple[object, ...]:
    owner = (entry.mode, entry.uid, entry.gid)
    return entry.kind, owner, entry.size, entry.link, entry.hardlink, entry.device
