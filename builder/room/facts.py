"""What a store holds, read without changing anything: layers, records, images, blobs, and who uses them.

Sizes are bytes on the disk. A layer's tree is not walked: its index tells what it takes, about. What is
damaged is as if it were not there: who finds out is `fsck`. An image that cannot be read now (an I/O error,
no more open files) is no such thing: what it needs may not go, so that is an error. Removing nothing, and
deciding nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from builder import digest as digests
from builder.digest import Digest
from builder.errors import BuildError, StoreError
from builder.failed import FailedStep, kept_steps
from builder.oci import documents
from builder.oci.beside import subject_of
from builder.oci.names import Names, Row, name_of, read_pulled
from builder.oci.spec import Index
from builder.snapshots import folders, index
from builder.snapshots.edit import is_id
from builder.solver.cache import unsealed
from builder.store.leases import held_by_builds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.store.root import Store

BLOCK = 512  # of st_blocks
# The names that fs.whole, solver.cache, snapshots.imports and snapshots.index give until a rename.
TEMPORARY = re.compile(
    r".+\.(?P<whole>\d+)-[0-9a-f]{12}\.part"
    r"|[0-9a-f]{64}\.(?P<answer>\d+)\.[0-9a-f]{8}"
    r"|[0-9a-f]{64}-(?P<diff>\d+)-[0-9a-f]{16}"
    r"|.*boot-[0-9a-f]{16}"
)
MAX_NESTING = 3
TREES = (*index.TREES, *(folders.delta_name(name) for name in index.TREES))


@dataclass(slots=True)
class LayerFacts:
    """A layer on disk.

    trees: the names of its folders of bytes, with their sizes; blobs: those that are there, with theirs;
    rest: bytes of its small files; base: see snapshots.folders.
    """

    id: str
    created: float
    trees: dict[str, int]
    blobs: dict[str, int]
    rest: int
    base: str | None = None


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """A record of the cache: the key, the layers, bottom first, and when it was last used (seconds)."""

    key: str
    layers: tuple[str, ...]
    label: str
    used: float


@dataclass(slots=True)
class ImageFacts:
    """An image of the store's table, or one that a reference is remembered to mean.

    names: none of one that is dangling; remembered: the keys of the table of references that mean it.
    blobs: all that it needs, as far as they are there, with their sizes; documents: those that are no layers.
    """

    digest: str
    names: tuple[str, ...] = ()
    remembered: tuple[str, ...] = ()
    blobs: dict[str, int] = field(default_factory=dict)
    documents: frozenset[str] = frozenset()
    created: float = 0.0
    used: float = 0.0


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """A cache that steps write into, or the like. path: below ROOT; busy: somebody uses it now."""

    path: str
    size: int
    created: float
    used: float
    busy: bool = False
    about: str = ""


@dataclass(slots=True)
class Facts:
    """What a store holds; see `read`."""

    layers: dict[str, LayerFacts] = field(default_factory=dict)
    records: list[RecordFacts] = field(default_factory=list)
    images: dict[str, ImageFacts] = field(default_factory=dict)
    blobs: dict[str, int] = field(default_factory=dict)
    failed: list[FailedStep] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    diffs: dict[str, list[str]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The bytes of blobs and layers."""
        layers = sum(layer.rest + sum(layer.trees.values()) for layer in self.layers.values())
        return layers + sum(self.blobs.values())


def read(store: Store) -> Facts:
    """What the store holds of blobs, layers, records and images, and what builds hold of that.

    Raises StoreError. Who is going to remove something asks while the lock `uses` is held alone.
    """
    facts = Facts(blobs=_blobs(store), failed=kept_steps(store), diffs=_diffs(store))
    facts.held = held_by_builds(store.folder)
    facts.layers = {layer.id: layer for layer in _layers(store, facts.blobs)}
    facts.records = list(read_records(store.folder))
    facts.images = _images(store, facts.blobs)
    return facts


def _blobs(store: Store) -> dict[str, int]:
    found: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(f"{store.folder}/blobs/sha256") as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if len(entry.name) == 64 and digests.HEX.issuperset(entry.name):
                    found[f"sha256:{entry.name}"] = entry.stat(follow_symlinks=False).st_blocks * BLOCK
    return found


def _diffs(store: Store) -> dict[str, list[str]]:
    """Layer -> the names in ROOT/cache/diffs that lead to it."""
    top = os.path.join(store.folder, "cache", "diffs")
    found: dict[str, list[str]] = {}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(top):
            with contextlib.suppress(OSError):
                found.setdefault(os.readlink(os.path.join(top, name)), []).append(name)
    return found


def _layers(store: Store, blobs: dict[str, int]) -> Iterator[LayerFacts]:
    top = os.path.join(store.folder, "layers")
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(top):
            if is_id(name):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    yield _layer(os.path.join(top, name), name, blobs)


def _layer(folder: str, name: str, blobs: dict[str, int]) -> LayerFacts:
    status = os.stat(folder, follow_symlinks=False)
    facts = LayerFacts(name, status.st_mtime, {}, {}, status.st_blocks * BLOCK)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in TREES and entry.is_dir(follow_symlinks=False):
                facts.trees[entry.name] = _tree_size(folder, entry.name)
                continue
            with contextlib.suppress(FileNotFoundError):  # a temporary name, which a build has renamed by now
                own = entry.stat(follow_symlinks=False)
                facts.rest += own.st_blocks * BLOCK
                if entry.name == index.INDEX:
                    facts.created = own.st_mtime
    sizes = index.read_blob_sizes(folder)
    facts.blobs = {d: blobs[d] for d, size in sizes.items() if d in blobs and _is_of_size(folder, d, size)}
    facts.base = folders.base_of(folder)
    return facts


def _is_of_size(folder: str, digest: str, size: int) -> bool:
    """Whether a blob beside a layer's folder is not cut short: only then it is a form of the layer."""
    path = os.path.join(os.path.dirname(os.path.dirname(folder)), "blobs", digest.replace(":", "/"))
    try:
        return os.stat(path).st_size == size
    except OSError:
        return False


def _tree_size(folder: str, name: str) -> int:
    """What a layer's folder takes: a whole one by the index, a small one by a look."""
    size = index.read_size(folder) if name in index.TREES else None
    return size_of(os.path.join(folder, name)) if size is None else size


def read_records(root: str) -> Iterator[RecordFacts]:
    """The records of the cache; those that are damaged are none."""
    for _, name, used, data in read_answers(root, "records"):
        with contextlib.suppress(KeyError, TypeError):
            yield RecordFacts(f"sha256:{name}", tuple(data["layers"]), str(data["label"]), used)


def read_answers(root: str, kind: str) -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """The sound files of a kind in ROOT/cache: (path, name, when it was last used, what it holds)."""
    for path, name, used in list_answers(root, kind):
        with contextlib.suppress(OSError, ValueError), open(path, "rb", buffering=0) as file:
            data = unsealed(name, file.read())
            if data is not None:
                yield path, name, used, data


def list_answers(root: str, kind: str) -> Iterator[tuple[str, str, float]]:
    """The files of a kind in ROOT/cache, whatever is in them: (path, name, when each was last used)."""
    top = os.path.join(root, "cache", kind)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for begin in os.listdir(top):
            with (
                contextlib.suppress(FileNotFoundError, NotADirectoryError),
                os.scandir(f"{top}/{begin}") as entries,
            ):
                for entry in entries:
                    if len(entry.name) == 64 and digests.HEX.issuperset(entry.name):
                        with contextlib.suppress(FileNotFoundError):
                            yield entry.path, entry.name, entry.stat(follow_symlinks=False).st_mtime


# ── images ───────────────────────────────────────────────────────────────────────────────────────────────


def _images(store: Store, blobs: dict[str, int]) -> dict[str, ImageFacts]:
    found: dict[str, ImageFacts] = {}
    used = _uses_of_images(store.folder)
    for row in Names(store).rows():
        facts = _image(store, row, found, blobs, used)
        if (name := name_of(row)) is not None:
            facts.names = (*facts.names, name)
    _forget_beside(found)
    for key, row in read_pulled(store.folder).items():
        facts = _image(store, row, found, blobs, used)
        facts.remembered = (*facts.remembered, key)
    return found


def _forget_beside(images: dict[str, ImageFacts]) -> None:
    """A name of what refers to an image (see oci.beside) holds it no longer than the image is there."""
    there = {digest for image in images.values() for digest in image.documents if image.names}
    for image in images.values():
        subjects = {name: subject_of(name) for name in image.names}
        image.names = tuple(name for name, subject in subjects.items() if subject is None or subject in there)


def _image(
    store: Store, row: Row, found: dict[str, ImageFacts], blobs: dict[str, int], used: dict[str, float]
) -> ImageFacts:
    digest = str(row["digest"])
    if digest not in found:
        needed, papers = blobs_of(store, digest)
        made = _mtime(os.path.join(store.folder, "blobs", digest.replace(":", "/")))
        found[digest] = ImageFacts(
            digest=digest,
            blobs={blob: blobs[blob] for blob in needed if blob in blobs},
            documents=papers,
            created=made,
            used=max(made, used.get(digest, 0.0)),
        )
    return found[digest]


def _uses_of_images(root: str) -> dict[str, float]:
    """Manifest -> when a build that had nothing to do last gave it (see memo)."""
    uses: dict[str, float] = {}
    for _, _, used, data in read_answers(root, "images"):
        with contextlib.suppress(ValueError, LookupError, TypeError):
            digest = str(json.loads(str(data["text"]))[0][0]["digest"])
            uses[digest] = max(used, uses.get(digest, 0.0))
    return uses


def blobs_of(store: Store, digest: str, depth: int = 0) -> tuple[frozenset[str], frozenset[str]]:
    """All blobs of an image, those of an index's images included; and which of them are no layers.

    What is missing or damaged has none but itself. Raises OSError where the disk or a limit is in the way.
    """
    try:
        parsed = digests.parse(digest)
        data = _document(store, parsed)
        document = documents.parse_manifest_or_index(data, "", digest, further=None)
    except (BuildError, ValueError):
        return frozenset((digest,)), frozenset((digest,))
    papers: set[str] = {digest}
    layers: set[str] = set()
    if isinstance(document, Index):
        for child in document.manifests if depth < MAX_NESTING else ():
            if os.path.exists(os.path.join(store.folder, "blobs", child.digest.replace(":", "/"))):
                needed, more = blobs_of(store, child.digest, depth + 1)
                papers |= more
                layers |= needed
    else:
        papers.add(document.config.digest)
        layers |= {layer.digest for layer in document.layers}
    return frozenset(papers | layers), frozenset(papers)


def _document(store: Store, digest: Digest) -> bytes:
    """A document's bytes, if they are what they should be; nothing is noted or dropped.

    Raises StoreError, and OSError where it is there and cannot be read: then nobody knows what it needs.
    """
    path = os.path.join(store.folder, "blobs", digest.replace(":", "/"))
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read(documents.MAX_MANIFEST + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise StoreError(f"blob {digest} is not in the store") from error
    if digests.of_bytes(data) != digest:
        raise StoreError(f"blob {digest} is damaged")
    return data


def _mtime(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


# ── folders ──────────────────────────────────────────────────────────────────────────────────────────────


def size_of(path: str) -> int:
    """The bytes that a file or folder takes on the disk, hard links once; what vanishes has none."""
    seen: set[tuple[int, int]] = set()
    total, pending = 0, [path]
    while pending:
        folder = pending.pop()
        with contextlib.suppress(OSError):
            total += os.stat(folder, follow_symlinks=False).st_blocks * BLOCK
        try:
            entries = os.scandir(folder)
        except OSError:
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink > 1:
                        if (status.st_dev, status.st_ino) in seen:
                            continue
                        seen.add((status.st_dev, status.st_ino))
                    total += status.st_blocks * BLOCK
    return total
