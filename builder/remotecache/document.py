"""What a cache says, as values, and the JSON of it.

Layers are told by their place among the manifest's layers (or the image's). Snapshots share what they have
in common: a link of a chain is (link below or -1, layer), so that a thousand steps on one another take a
thousand links. Foreign documents are checked whole before anything of them is believed: format, digests, that
each number names something, that links point backwards. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from builder import digest as digests
from builder.digest import Digest, of_value
from builder.errors import ImageError
from builder.graph.selection import Selection
from builder.oci import documents
from builder.oci.spec import Descriptor, LayerBlob

FORMAT = 1
CONFIG_TYPE = "application/vnd.pybuild.cache.config.v1+json"
MOUNT_TYPE = "application/vnd.pybuild.cache.mount.v1.tar"
MAX_DOCUMENT = 8 << 20  # twenty thousand steps
MAX_LAYERS = 20_000
MAX_DEPTH = 10_000  # layers on one another
MAX_SECONDS = 1e9

Snapshot = tuple[LayerBlob, ...]


class Uncompressed(msgspec.Struct, frozen=True, array_like=True):
    """What a layer is uncompressed: its diff id, its bytes."""

    diff_id: str
    size: int


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """A record: `link` is the top of its snapshot's chain, -1 for an empty one."""

    link: int
    seconds: float


class KeptMount(msgspec.Struct, frozen=True, array_like=True):
    """A cache mount: its id, what it starts with (plain data), and the place of its archive."""

    id: str
    start: list[Any]
    place: int


class Document(msgspec.Struct, frozen=True, omit_defaults=True):
    """A cache.

    layers: as long as the manifest's list of them, () in an image, whose config tells it; chains: see above;
    records: key -> record; contents: `content_name` -> content digest; times: `time_name` -> when such an
    image was made (RFC 3339).
    """

    format: int
    layers: tuple[Uncompressed, ...] = ()
    chains: tuple[tuple[int, int], ...] = ()
    records: dict[str, Kept] = {}
    contents: dict[str, str] = {}
    times: dict[str, str] = {}
    mounts: tuple[KeptMount, ...] = ()


class _Format(msgspec.Struct):
    format: int


def content_name(key: Digest, selection: Selection) -> Digest:
    """What names a selection of what a key names."""
    return of_value(["content", key, selection.plain()])


def time_name(key: Digest, config: Digest) -> Digest:
    """What names an image: its target's key, and its config without times."""
    return of_value(["time", key, config])


class Writing:
    """A document in the making. `blobs`: the layers so far, each once."""

    def __init__(self) -> None:
        self.blobs: list[LayerBlob] = []
        self._places: dict[str, int] = {}
        self._chains: list[tuple[int, int]] = []
        self._links: dict[tuple[int, int], int] = {}
        self._records: dict[str, Kept] = {}
        self.contents: dict[str, str] = {}
        self.times: dict[str, str] = {}
        self.mounts: list[KeptMount] = []

    def place(self, blob: LayerBlob) -> int:
        """A blob's place among the layers."""
        digest = blob.descriptor.digest
        if digest not in self._places:
            self._places[digest] = len(self.blobs)
            self.blobs.append(blob)
        return self._places[digest]

    def add(self, key: Digest, places: Sequence[int], seconds: float) -> None:
        """A record of a snapshot whose layers have these places, bottom first."""
        link = -1
        for place in places:
            step = (link, place)
            if step not in self._links:
                self._links[step] = len(self._chains)
                self._chains.append(step)
            link = self._links[step]
        self._records[key] = Kept(link, round(seconds, 3))

    def __bool__(self) -> bool:
        return bool(self._records)

    def encode(self, *, inline: bool = False) -> bytes:
        """The document's exact bytes."""
        document = Document(
            format=FORMAT,
            layers=() if inline else tuple(Uncompressed(blob.diff_id, blob.size) for blob in self.blobs),
            chains=tuple(self._chains),
            records=self._records,
            contents=self.contents,
            times=self.times,
            mounts=tuple(self.mounts),
        )
        return msgspec.json.encode(document, order="deterministic")


class Cache:
    """A document that was checked, with the blobs that it speaks of."""

    def __init__(self, document: Document, blobs: Sequence[LayerBlob]) -> None:
        self._document = document
        self._blobs = blobs
        self.mounts = document.mounts

    def seconds(self, key: Digest) -> float | None:
        """How long it took to make what a key names; None where there is no record of it."""
        kept = self._document.records.get(key)
        return kept.seconds if kept else None

    def snapshot(self, key: Digest) -> Snapshot | None:
        """What a key names, bottom first; None where there is no record of it."""
        kept = self._document.records.get(key)
        if kept is None:
            return None
        found, link = [], kept.link
        while link >= 0:
            link, place = self._document.chains[link]
            found.append(self._blobs[place])
        return tuple(reversed(found))

    def content(self, key: Digest, selection: Selection) -> Digest | None:
        """The content digest of a selection of what a key names."""
        found = self._document.contents.get(content_name(key, selection))
        return Digest(found) if found else None

    def time(self, key: Digest, config: Digest) -> str | None:
        """When an image of this target and config was made."""
        return self._document.times.get(time_name(key, config))

    def blob(self, place: int) -> LayerBlob:
        """The blob at a place."""
        return self._blobs[place]


def parse(data: bytes, layers: Sequence[Descriptor], name: str) -> Cache:
    """A cache of its own, whose manifest has these layers. Raises ImageError."""
    document = _decode(data, name)
    if len(document.layers) != len(layers) or len(layers) > MAX_LAYERS:
        raise _invalid(name, f"it tells of {len(document.layers)} layers, and its manifest of {len(layers)}")
    told = zip(layers, document.layers, strict=True)
    blobs = [LayerBlob(descriptor, layer.diff_id, layer.size) for descriptor, layer in told]
    return _checked(document, blobs, name)


def parse_inline(data: bytes, layers: Sequence[Descriptor], diff_ids: Sequence[str], name: str) -> Cache:
    """The cache in the config of an image with these layers. Raises ImageError."""
    document = _decode(data, name)
    if document.layers or document.mounts or len(layers) != len(diff_ids):
        raise _invalid(name, "it has layers of its own")
    blobs = [LayerBlob(layer, diff_id, 0) for layer, diff_id in zip(layers, diff_ids, strict=True)]
    return _checked(document, blobs, name)


def _decode(data: bytes, name: str) -> Document:
    if len(data) > MAX_DOCUMENT:
        raise _invalid(name, f"it has more than {MAX_DOCUMENT >> 20} MiB")
    try:
        number = msgspec.json.decode(data, type=_Format).format
        if number != FORMAT:
            raise ImageError(
                f"the cache {name} has format {number}, and this pybuild knows {FORMAT}", code="cache-format"
            )
        return msgspec.json.decode(data, type=Document)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _invalid(name, str(error)) from error


def _checked(document: Document, blobs: Sequence[LayerBlob], name: str) -> Cache:
    """The cache, once everything in it names something. Raises ImageError."""
    for blob in blobs:
        if not _is_digest(blob.diff_id) or not 0 <= blob.size < 1 << 62:
            raise _invalid(name, f"layer {blob.descriptor.digest} has the diff id {blob.diff_id[:100]!r}")
    depths: list[int] = []
    for number, (below, place) in enumerate(document.chains):
        if not -1 <= below < number or not _is_layer(blobs, place):
            raise _invalid(name, f"it names layer {place} on {below}, which is not there")
        depths.append(depths[below] + 1 if below >= 0 else 1)
        if depths[-1] > MAX_DEPTH:
            raise _invalid(name, f"it has more than {MAX_DEPTH} layers on one another")
    for key, kept in document.records.items():
        whole = -1 <= kept.link < len(document.chains) and 0 <= kept.seconds <= MAX_SECONDS
        if not (_is_digest(key) and whole):
            raise _invalid(name, f"its record {key[:100]!r} names nothing")
    _check_digests(document.contents, document.contents.values(), name)
    _check_digests(document.times, (), name)
    for mount in document.mounts:
        there = 0 <= mount.place < len(blobs)
        if not there or not blobs[mount.place].descriptor.media_type.startswith(MOUNT_TYPE):
            raise _invalid(name, f"the cache mount {mount.id[:100]!r} is not there")
    return Cache(document, blobs)


def _is_layer(blobs: Sequence[LayerBlob], place: int) -> bool:
    return 0 <= place < len(blobs) and blobs[place].descriptor.media_type in documents.LAYER_TYPES


def _check_digests(names: Mapping[str, str], others: Any, name: str) -> None:
    for text in (*names, *others):
        if not _is_digest(text):
            raise _invalid(name, f"{text[:100]!r} is no digest")


def _is_digest(text: str) -> bool:
    try:
        digests.parse(text)
    except ValueError:
        return False
    return True


def _invalid(name: str, why: str) -> ImageError:
    return ImageError(f"the cache {name} is not valid: {why}", code="cache-invalid")
