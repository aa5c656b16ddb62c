"""What an image's layers hold: entries, and how they lie over each other, read from their blobs.

Nothing is unpacked or kept: each blob passes once, its digest of the uncompressed tar is compared with the
config's, and the few small files that somebody wants (`Wanted`) are held on the way. Where nobody wants bytes
or their digests, the entries of a layer that was built here are those that the store has noted of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder import digest as digests
from builder.errors import ImageError, StoreError
from builder.images.find import Found, find_image
from builder.oci import documents
from builder.oci.layer import scan
from builder.oci.spec import Descriptor, History, Platform
from builder.snapshots import forms
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import FILE, Entry, LayerId
from builder.snapshots.tree import Tree
from builder.store import locks
from builder.store.leases import leased
from builder.store.root import Store

if TYPE_CHECKING:
    from builder.fs.copy import Readable
    from builder.oci.layer import Sink
    from builder.store.blobs import BlobStore

MAX_HELD = 32 << 20  # bytes of one file,
MAX_HELD_IN_ALL = 64 << 20  # and of all of an image; `diff` holds those of two
MAX_ENTRIES = 2_000_000  # of all layers together; large images have some hundred thousand
MAX_LAYERS = 1000
CHUNK = 1 << 18

Wanted = Callable[[str], bool]
Notes = Callable[[str], Sequence[Entry] | None]  # of a diff id: the entries, where they are known


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. number: from 1 on, bottom first; step: of the history; entries: in canonical order; texts:
    the bytes of files that were wanted, by path."""

    number: int
    descriptor: Descriptor
    diff_id: str
    step: History
    entries: Sequence[Entry]
    texts: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def id(self) -> LayerId:
        """What names it in a `Tree`."""
        return LayerId(str(self.number))


@dataclass(frozen=True, slots=True)
class Contents:
    """An image with what its layers hold, bottom first."""

    found: Found
    layers: Sequence[Layer]

    def stacked(self) -> Iterator[tuple[Layer, Tree, Tree]]:
        """Each layer, with what is seen of those below it, and with it."""
        below = Tree()
        for layer in self.layers:
            above = below.plus(layer.id, layer.entries)
            yield layer, below, above
            below = above

    def tree(self) -> Tree:
        """What is seen of all."""
        tree = Tree()
        for layer in self.layers:
            tree = tree.plus(layer.id, layer.entries)
        return tree


def read_contents(
    store: Store,
    wanted: str,
    platform: Platform | None = None,
    keep: Wanted | None = None,
    like: Contents | None = None,
    *,
    digests_wanted: bool = True,
) -> Contents:
    """An image's layers, read. keep: of which paths the bytes are wanted, too; digests_wanted: whether those
    of files are, else entries may lack them, and layers that were built here are not read.

    like: what was read, with the same `keep`, of an image that may share layers: those are not read again.
    Raises ImageError for an image or a layer that is not there, or is damaged or hostile.
    """
    with locks.shared(store.folder, locks.BUILDS), leased(store):
        found = find_image(store, wanted, platform)
        documents.check_layers(found.manifest, found.config, wanted)
        if len(found.manifest.layers) > MAX_LAYERS:
            raise ImageError(f"image {wanted} has more than {MAX_LAYERS} layers", code="too-large")
        reading = _Reading(store, wanted, keep, like, _no_note if digests_wanted else _Noted(store))
        steps = [entry for entry in found.config.history if not entry.empty_layer]
        steps += [History()] * (len(found.manifest.layers) - len(steps))
        pairs = zip(found.manifest.layers, found.config.rootfs.diff_ids, steps, strict=False)
        for descriptor, diff_id, step in pairs:
            reading.add(descriptor, diff_id, step)
    return Contents(found, reading.layers)


class _Reading:
    """The layers of one image, each blob read once."""

    def __init__(
        self,
        store: Store,
        name: str,
        keep: Wanted | None,
        like: Contents | None,
        noted: Notes,
    ) -> None:
        self._store = store
        self._noted = noted
        self._name = name
        self._keep = keep
        self._room = MAX_HELD_IN_ALL
        self._entries = 0
        self._known = (
            {(layer.descriptor.digest, layer.diff_id): layer for layer in like.layers} if like else {}
        )
        self.layers: list[Layer] = []

    def add(self, descriptor: Descriptor, diff_id: str, step: History) -> None:
        """Read the next layer. Raises ImageError."""
        number, key = len(self.layers) + 1, (descriptor.digest, diff_id)
        same = self._known.get(key)
        if same is not None:
            layer = Layer(number, descriptor, diff_id, step, same.entries, same.texts)
        elif (noted := self._noted(diff_id)) is not None:
            layer = self._known[key] = Layer(number, descriptor, diff_id, step, noted)
        else:
            sink = _Holding(self._keep or _nothing, self._room)
            entries = scan_layer(self._store.blobs, descriptor, diff_id, self._name, sink)
            self._room -= sum(map(len, sink.texts.values()))
            layer = self._known[key] = Layer(number, descriptor, diff_id, step, entries, sink.texts)
        self._entries += len(layer.entries)
        if self._entries > MAX_ENTRIES:
            raise ImageError(f"image {self._name} has more than {MAX_ENTRIES} paths", code="too-large")
        self.layers.append(layer)


class _Noted:
    """What the store has noted of the layers that were built in it: their entries, by diff ids."""

    def __init__(self, store: Store) -> None:
        self._layers = LayerStore(store.root / "layers", store.blobs)
        self._built = {
            str(blob.diff_id): layer
            for layer in self._layers.all()
            for key, blob in forms.read_blobs(self._layers.path(layer)).items()
            if key != forms.IMPORTED  # what lies below has changed the entries of some of these
        }

    def __call__(self, diff_id: str) -> Sequence[Entry] | None:
        layer = self._built.get(diff_id)
        if layer is None:
            return None
        try:
            return self._layers.entries(layer)
        except StoreError:  # damaged: its blob may be whole
            return None


def _no_note(_diff_id: str) -> None:
    return None


def _nothing(_path: str) -> bool:
    return False


def shown_size(store: Store, wanted: str, platform: Platform | None = None) -> int:
    """Bytes of all files that are seen in an image, each once, however many names it has."""
    return size_of_tree(read_contents(store, wanted, platform, digests_wanted=False).tree())


def size_of_tree(tree: Tree) -> int:
    """Bytes of all files of a tree, each once."""
    files = {
        (node.layer, node.entry.hardlink or path): node.entry.size
        for path, node in tree.nodes.items()
        if node.entry.kind == FILE
    }
    return sum(files.values())


def size_of_entry(entry: Entry) -> int:
    """The bytes that an entry has of its own."""
    return entry.size if entry.kind == FILE and entry.hardlink is None else 0


def scan_layer(
    blobs: BlobStore, descriptor: Descriptor, diff_id: str, name: str, sink: Sink | None = None
) -> list[Entry]:
    """The entries of a layer of the image `name`, in canonical order; see oci.layer.

    Raises ImageError for a layer that is not there, or is not what its image says, and StoreError for one of
    which the store has lost bytes.
    """
    documents.compression_of(descriptor, name)
    digest = digests.parse(descriptor.digest)
    if blobs.stat(digest) is None:
        raise ImageError(
            f"layer {digest} of {name} is not in the store",
            code="blob-not-found",
            hint="a base image's layers come when a build needs them; `pybuild pull` brings all",
        )
    with forms.sound(blobs, digest), blobs.open(digest) as stream:
        entries, found = scan(stream, sink=sink, name=f"layer {digest}")
        if found != diff_id:
            raise ImageError(
                f"layer {digest} is not what its image says: its diff id is {found}, not {diff_id}",
                code="wrong-diff-id",
            )
    return entries


class _Holding:
    """Holds the bytes of files that are wanted, as far as there is room."""

    def __init__(self, keep: Wanted, room: int) -> None:
        self.texts: dict[str, bytes] = {}
        self._keep = keep
        self._room = room

    def add(self, entry: Entry, reader: Readable | None) -> None:
        """See oci.layer.Sink."""
        self.texts.pop(entry.path, None)  # what was there before it, in this very layer
        if reader is None or not self._keep(entry.path):
            return
        if entry.size > min(MAX_HELD, self._room):
            return
        pieces = []
        while data := reader.read(CHUNK):
            pieces.append(data)
        self.texts[entry.path] = b"".join(pieces)
        self._room -= entry.size
