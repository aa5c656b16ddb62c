"""A finished image as plain data: what naming it and writing it into an archive need.

`oci.image` makes images of documents; this is what is left of one when nothing about it is open any more,
so that a build that finds everything in the cache has it from a file. On the path of such a build.
"""

from __future__ import annotations

from builder.digest import Digest, of_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.oci.names import Row


class Finished:
    """row: the manifest's descriptor, with the image's platform; config: the config's digest; layers: the
    digests of the layers' blobs, bottom first; created: as the config has it; size: compressed bytes, all
    in all. manifest_bytes, config_bytes: the documents.
    """

    __slots__ = ("config", "config_bytes", "created", "layers", "manifest_bytes", "row", "size")

    def __init__(
        self,
        row: Row,
        manifest_bytes: bytes,
        config: str,
        config_bytes: bytes,
        layers: Sequence[str],
        created: str,
        size: int,
    ) -> None:
        self.row = row
        self.manifest_bytes = manifest_bytes
        self.config = config
        self.config_bytes = config_bytes
        self.layers = tuple(layers)
        self.created = created
        self.size = size

    @property
    def digest(self) -> Digest:
        """The manifest's digest."""
        return Digest(self.row["digest"])

    def is_sound(self) -> bool:
        """Whether the documents are those that the digests name."""
        return of_bytes(self.manifest_bytes) == self.digest and of_bytes(self.config_bytes) == self.config
