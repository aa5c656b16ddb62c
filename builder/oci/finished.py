"""A finished image, or an index of several, as plain data: what naming it and handing it out need.

`oci.image` makes images of documents; this is what is left of one when nothing about it is open any more,
so that a build that finds everything in the cache has it from a file. On the path of such a build.
"""

from __future__ import annotations

from builder.digest import Digest, of_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.oci.names import Row


class Finished:
    """row: the manifest's descriptor, with the image's platform; config: the config's digest; layers: the
    digests of the layers' blobs, bottom first; created: as the config has it; size: compressed bytes, all
    in all. manifest_bytes, config_bytes: the documents.

    children: what an index lists, in its order. Such a one has no config ("", b"") and no layers of its own;
    `manifest_bytes` are the index's, and `size` counts what the children have.

    beside: what refers to this and goes where it goes, in no index with it, as (tag, manifest or index):
    signatures, and indexes of referrers (OCI 1.1), as registries without an API for those have them.
    """

    __slots__ = (
        "beside", "children", "config", "config_bytes", "created", "layers", "manifest_bytes", "row", "size",
    )  # fmt: skip

    def __init__(
        self,
        row: Row,
        manifest_bytes: bytes,
        config: str,
        config_bytes: bytes,
        layers: Sequence[str],
        created: str,
        size: int,
        children: Sequence[Finished] = (),
    ) -> None:
        self.row = row
        self.manifest_bytes = manifest_bytes
        self.config = config
        self.config_bytes = config_bytes
        self.layers = tuple(layers)
        self.created = created
        self.size = size
        self.children = tuple(children)
        self.beside: tuple[tuple[str, Finished], ...] = ()

    @classmethod
    def index(cls, row: Row, data: bytes, children: Sequence[Finished]) -> Finished:
        """An index: its descriptor, its bytes, and what it lists (at least one)."""
        created = max(child.created for child in children)
        size = len(data) + sum(child.size for child in children)
        return cls(row, data, "", b"", (), created, size, children)

    @property
    def digest(self) -> Digest:
        """The manifest's digest, or the index's."""
        return Digest(self.row["digest"])

    def annotated(self, annotations: Mapping[str, str]) -> Finished:
        """The same with annotations in its descriptor, where an index or a layout lists it."""
        if not annotations:
            return self
        row = {**self.row, "annotations": {**self.row.get("annotations", {}), **annotations}}
        made = Finished(
            row, self.manifest_bytes, self.config, self.config_bytes, self.layers, self.created, self.size,
            self.children,
        )  # fmt: skip
        made.beside = self.beside
        return made

    def whole(self) -> Iterator[Finished]:
        """This, and all that it lists."""
        yield self
        for child in self.children:
            yield from child.whole()

    def documents(self) -> dict[str, bytes]:
        """The bytes of all documents by their digests: each manifest before its config, an index first, and
        what is beside last."""
        found: dict[str, bytes] = {}
        for one in self._all():
            found[one.digest] = one.manifest_bytes
            if one.config:
                found[one.config] = one.config_bytes
        return found

    def all_layers(self) -> list[str]:
        """The digests of all layers' blobs, each once."""
        return list(dict.fromkeys(layer for one in self._all() for layer in one.layers))

    def _all(self) -> Iterator[Finished]:
        yield from self.whole()
        for _, one in self.beside:
            yield from one.whole()

    def is_sound(self) -> bool:
        """Whether the documents are those that the digests name."""
        return all(of_bytes(data) == digest for digest, data in self.documents().items())
