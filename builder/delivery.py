"""Handing a finished image out: what a build that ran and one that had nothing to do have in common.

Which outputs were asked for, each done in turn, and what was handed out so far: for the events, for
--metadata-file, for the names. Knows nothing of how images are made, and is on the path of a fully cached
build.
"""

from __future__ import annotations

from builder import exporters
from builder.exporters import Export
from builder.oci.names import Names
from builder.request import OutputSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.oci.finished import Finished
    from builder.request import BuildRequest
    from builder.snapshots.layers import LayerStore
    from builder.snapshots.snapshot import Snapshot
    from builder.store.root import Store

TREES = ("tar", "local")  # kinds of outputs that are no images


class Delivered:
    """What was handed out.

    image: the first image made, None where only trees were asked for; made: all images, by `Export.way`;
    names: as people write them; full_names: with registry and all, as buildx tells them; stored: whether
    the store has one of them.
    """

    def __init__(self) -> None:
        self.image: Finished | None = None
        self.made: dict[tuple[object, ...], Finished] = {}
        self.names: tuple[str, ...] = ()
        self.full_names: tuple[str, ...] = ()
        self.stored = False

    def note(self, export: Export, image: Finished) -> None:
        """Remember what was made for an output."""
        self.made[export.way] = image
        self.image = self.image or image


def wanted(request: BuildRequest) -> list[Export]:
    """The outputs of a request: the store where none is given or --load asks for it. Raises UsageError."""
    found = [exporters.parse(spec, request.tags) for spec in request.outputs]
    if not found or (request.load and not any(export.kind == "image" for export in found)):
        found.insert(0, exporters.parse(OutputSpec(type="image"), request.tags))
    return found


def hand_out(export: Export, image: Finished, store: Store, delivered: Delivered) -> None:
    """Do one output of an image. Raises BuildError; what was there before stays then."""
    delivered.names = delivered.names or tuple(name.familiar() for name in export.names)
    delivered.full_names = delivered.full_names or tuple(str(name) for name in export.names)
    if export.kind == "image":
        for document in reversed(image.documents().values()):
            store.blobs.put(document)
        Names(store).add(image.row, export.names)
        delivered.stored = True
    elif export.kind == "docker":
        from builder.exporters import docker

        docker.export(image, store.blobs, export)
    else:
        from builder.exporters import oci

        oci.export(image, store.blobs, export)


def hand_out_tree(export: Export, snapshot: Snapshot, layers: LayerStore) -> None:
    """Do one output of a filesystem. Raises BuildError."""
    tree = layers.tree(snapshot)
    if export.kind == "local":
        from builder.exporters import local

        local.export(tree, layers.open, export)
    else:
        from builder.exporters import tar

        tar.export(tree, layers.open, export)


def metadata(delivered: Delivered) -> dict[str, object]:
    """What --metadata-file holds, with buildx's names."""
    image = delivered.image
    if image is None:
        return {}
    found: dict[str, object] = {
        "containerimage.config.digest": image.config,
        "containerimage.descriptor": image.row,
        "containerimage.digest": image.digest,
    }
    if delivered.full_names:
        found["image.name"] = ",".join(delivered.full_names)
    return found
