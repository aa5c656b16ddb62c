"""What of an image goes to a registry: its documents, who is named before who names, and the blobs they name.

The one idea: documents go as the very bytes that their digests name, whatever is in them; of those only what
they name is read. So images of Docker's media types and of OCI's, indexes, attestations and artifacts are all
the same here. A layer that is not to be handed on (`foreign`) stays where its URLs say it is.
Plain data: a push of what has not changed needs nothing that is slow to load. Does no I/O but by `read`.
"""

from __future__ import annotations

from builder import digest as digests
from builder import plainjson
from builder.errors import ImageError
from builder.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from builder.digest import Digest
    from builder.oci.names import Row

    Read = Callable[[Digest], bytes]

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEXES = (OCI_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = (OCI_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
# Media types of layers that come from elsewhere by their makers' will (image-spec, layer.md).
FOREIGN = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)
MAX_NESTING = 3
MAX_DOCUMENTS = 2000


class Document(Value):
    """A manifest or an index, or what an index names and nobody knows: its exact bytes."""

    media_type: str
    digest: Digest
    data: bytes


class Blob(Value):
    """A config or a layer."""

    media_type: str
    digest: Digest
    size: int


class Parcel(Value):
    """All that a push brings. levels: documents, those of a level being named by the next ones only; the last
    level is the image itself. blobs: each once. left_out: foreign layers, which nobody uploads."""

    levels: tuple[tuple[Document, ...], ...]
    blobs: tuple[Blob, ...]
    left_out: tuple[Blob, ...] = ()

    @property
    def root(self) -> Document:
        """The document that the image's name means."""
        return self.levels[-1][0]

    def documents(self) -> list[Document]:
        """All documents, who is named before who names."""
        return [document for level in self.levels for document in level]


def pack(row: Row, read: Read) -> Parcel:
    """What belongs to the image of a row. read: gives a document's bytes, which have that digest.

    Raises ImageError where a document is not what it should be, and what `read` raises.
    """
    packing = _Packing(read)
    packing.add(_descriptor(row, "an image of the store"), 0)
    depths = sorted({depth for depth, _ in packing.documents.values()}, reverse=True)
    levels = tuple(
        tuple(document for at, document in packing.documents.values() if at == depth) for depth in depths
    )
    return Parcel(levels, tuple(packing.blobs.values()), tuple(packing.left_out.values()))


class _Packing:
    """What was found so far, by digest; of a document how deep it lies."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.documents: dict[str, tuple[int, Document]] = {}
        self.blobs: dict[str, Blob] = {}
        self.left_out: dict[str, Blob] = {}

    def add(self, row: Row, depth: int) -> None:
        """Take a document, and all that it names."""
        digest = row["digest"]
        if depth > MAX_NESTING:
            raise ImageError(f"{digest} is an index of indexes of indexes", code="invalid-index")
        known = self.documents.get(digest)
        if known is not None and known[0] >= depth:
            return
        if len(self.documents) >= MAX_DOCUMENTS:
            raise ImageError(f"an index names more than {MAX_DOCUMENTS} manifests", code="invalid-index")
        data = self._read(digest)
        document = _object(data, digest) if _is_known(row) else {}
        kind = str(row.get("mediaType") or document.get("mediaType") or "")
        if "manifests" in document:
            self.documents[digest] = (depth, Document(kind or OCI_INDEX, digest, data))
            for child in _list(document, "manifests", digest):
                self.add(_descriptor(child, digest), depth + 1)
            return
        self.documents[digest] = (depth, Document(kind or OCI_MANIFEST, digest, data))
        for named in [*_configs(document), *_list(document, "layers", digest)]:
            self._add_blob(_descriptor(named, digest))

    def _add_blob(self, row: Row) -> None:
        blob = Blob(str(row.get("mediaType") or ""), row["digest"], row["size"])
        into = self.left_out if is_foreign(row) else self.blobs
        into.setdefault(blob.digest, blob)


def is_foreign(row: Row) -> bool:
    """Whether a layer is one that is got from its URLs, and not handed on."""
    return str(row.get("mediaType") or "").startswith(FOREIGN) and bool(row.get("urls"))


def _is_known(row: Row) -> bool:
    """Whether a document is of a kind that names others: one of another kind is taken as it is."""
    kind = row.get("mediaType")
    return not kind or kind in INDEXES or kind in MANIFESTS


def _configs(document: Any) -> list[Any]:
    config = document.get("config")
    return [config] if config is not None else []


def _object(data: bytes, digest: str) -> Any:
    try:
        document = plainjson.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ImageError(f"{digest} is no manifest: it is no JSON object", code="invalid-manifest")
    return document


def _list(document: Any, field: str, digest: str) -> list[Any]:
    found = document.get(field)
    if found is None:  # as Go writes empty lists
        return []
    if not isinstance(found, list):
        raise ImageError(f"{digest} is no manifest: its {field} are no list", code="invalid-manifest")
    return found


def _descriptor(row: Any, name: str) -> Row:
    """A descriptor whose digest and size can be relied on."""
    if isinstance(row, dict):
        digest, size = row.get("digest"), row.get("size")
        if isinstance(digest, str) and isinstance(size, int) and 0 <= size < 1 << 62:
            try:
                digests.parse(digest)
            except ValueError:
                pass
            else:
                return row
    raise ImageError(f"{name} names something by no valid digest and size", code="invalid-manifest")
