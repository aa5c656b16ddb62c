"""Handing a finished image out: what a build that ran and one that had nothing to do have in common.

Which outputs were asked for, each done in turn, and what was handed out so far: for the events, for
--metadata-file, for the names. Knows nothing of how images are made, and is on the path of a fully cached
build.
"""

from __future__ import annotations

from builder import exporters
from builder.errors import UsageError
from builder.exporters import Export
from builder.oci.names import CREATED, Names
from builder.request import OutputSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.exporters.merged import Files, Wrap
    from builder.oci.finished import Finished
    from builder.request import BuildRequest
    from builder.result import BuildResult
    from builder.snapshots.layers import LayerStore
    from builder.snapshots.snapshot import Snapshot
    from builder.store.root import Store

TREES = ("tar", "local")  # kinds of outputs that are no images
CACHE_ONLY = "cacheonly"  # the kind that is none


class Delivered:
    """What was handed out.

    image: the first image made, None where only trees were asked for; made: all images, by `Export.way`;
    images: the digest of each output that is one, in their order; names: as people write them; full_names:
    with registry and all, as buildx tells them; stored: whether the store has one of them; further: what the
    metadata have besides.
    """

    def __init__(self) -> None:
        self.image: Finished | None = None
        self.made: dict[tuple[object, ...], Finished] = {}
        self.images: list[str] = []
        self.names: tuple[str, ...] = ()
        self.full_names: tuple[str, ...] = ()
        self.stored = False
        self.further: Mapping[str, object] = {}

    def note(self, export: Export, image: Finished) -> None:
        """Remember what was made for an output."""
        self.made[export.way] = image
        self.image = self.image or image


def specs_of(request: BuildRequest) -> list[OutputSpec]:
    """The outputs of a request: the store where none is given or --load asks for it. Raises UsageError."""
    asked = [spec for spec in request.outputs if spec.type != CACHE_ONLY]
    specs = _pushed(asked) if request.push else asked
    if not (specs or request.outputs) or (
        request.load and not any(_is_stored(spec, request) for spec in specs)
    ):
        specs.insert(0, OutputSpec(type="image"))
    return specs


def wanted(request: BuildRequest) -> list[Export]:
    """The same, read and looked at together. Raises UsageError."""
    found = [_parsed(spec, request) for spec in specs_of(request)]
    if request.attests.is_any or request.sign:
        from builder.exporters.attested import check

        check(found, request)
        found = [export.but(attested=True) for export in found]
    if request.multi_platform:
        _refuse_single(found)
        found = [export.but(multi_platform=True) for export in found]
    if any(cache.type == "inline" for cache in request.cache_to):
        _refuse_inline(found)
    _check_annotations(found, request)
    return found


def _check_annotations(exports: list[Export], request: BuildRequest) -> None:
    """Raise UsageError for annotations that will have no place: that is better known before the build."""
    annotated = [export for export in exports if export.annotations]
    if not annotated:
        return
    from builder.exporters.annotation import check
    from builder.prepare import platform_name

    platforms = [platform_name(platform) for platform in request.platforms]
    has_index = request.multi_platform or (request.attests.is_any and not request.attests.referrers)
    for export in annotated:
        check(export.annotations, platforms, has_index=has_index, docker_types=export.docker_types)


def _refuse_inline(exports: list[Export]) -> None:
    """Raise UsageError for an image whose layers are not its steps', with a cache that tells of those."""
    for export in exports:
        if export.squash or export.compression.kind == "estargz":
            reason = "--squash" if export.squash else "compression=estargz"
            raise UsageError(
                f"an inline cache tells of the steps' layers, which the image does not have with {reason}",
                hint="keep the cache elsewhere, by --cache-to type=registry or type=local",
            )


def _pushed(specs: Sequence[OutputSpec]) -> list[OutputSpec]:
    """The outputs with what --push adds: images are pushed, and where there is none, one is made for that."""
    if not any(spec.type in ("image", "registry") for spec in specs):
        return [*specs, OutputSpec(type="registry")]
    pushed = {"push": "true"}
    return [spec.but(attrs={**spec.attrs, **pushed}) if spec.type == "image" else spec for spec in specs]


def _is_stored(spec: OutputSpec, request: BuildRequest) -> bool:
    return exporters.parse(spec, request.tags).kind == "image"


def _parsed(spec: OutputSpec, request: BuildRequest) -> Export:
    """One output, with what the request says of all that are images."""
    if spec.type in TREES:
        return exporters.parse(spec, request.tags)
    if request.annotations:
        spec = spec.but(attrs={**spec.attrs, **request.annotations})
    export = exporters.parse(spec, request.tags)
    return export.but(squash=True) if request.squash else export


def _refuse_single(exports: list[Export]) -> None:
    """Raise UsageError for an output that takes an image of one platform alone."""
    for export in exports:
        if export.kind == "docker":
            raise UsageError(
                f"{export} cannot hold an image of several platforms, or in their form",
                hint="use type=oci, or build for one platform, without BUILDKIT_MULTI_PLATFORM",
            )


def hand_out(export: Export, image: Finished, store: Store, delivered: Delivered) -> None:
    """Do one output of an image. Raises BuildError; what was there before stays then."""
    delivered.images.append(image.digest)
    names = export.names_of(image.digest)
    delivered.names = delivered.names or tuple(name.familiar() for name in names)
    delivered.full_names = delivered.full_names or export.told_names(image.digest)
    if export.kind == "image":
        for document in reversed(image.documents().values()):
            store.blobs.put(document)
        Names(store).add(image.row, names)
        for tag, beside in image.beside:
            Names(store).add(beside.row, exporters.names_beside(names, tag))
        delivered.stored = True
    elif export.kind == "registry":
        return  # it is pushed, and nothing else
    elif export.kind == "docker":
        from builder.exporters import docker

        docker.export(image, store.blobs, export)
    else:
        from builder.exporters import oci

        oci.export(image, store.blobs, export)


def hand_out_tree(
    export: Export,
    trees: Sequence[tuple[str, Snapshot]],
    layers: LayerStore,
    epoch: int | None,
    wrap: Wrap | None = None,
) -> None:
    """Do one output of filesystems, each with its platform ("": the machine's). Raises BuildError.

    epoch: the time of all files, in seconds; None: each has its own. wrap: puts attestations beside the files
    of a platform.
    """
    from builder.exporters.merged import Merged, dated, together
    from builder.prepare import platform_name

    named: list[tuple[str, Files]] = []
    for number, (platform, snapshot) in enumerate(trees):
        name, merged = platform_name(platform), Merged(layers.tree(snapshot), layers.open)
        named.append((name, wrap(number, name, merged) if wrap else merged))
    is_split = export.multi_platform if export.platform_split is None else export.platform_split
    files = together(named, split=is_split)
    if epoch is not None:
        files = dated(files, epoch)
    if export.kind == "local":
        from builder.exporters import local

        local.export(files, export)
    else:
        from builder.exporters import tar

        tar.export(files, export)


def metadata(delivered: Delivered) -> dict[str, object]:
    """What --metadata-file holds, with buildx's names."""
    image = delivered.image
    if image is None:
        return {}
    told = {CREATED: image.created} if image.created else {}
    told |= image.row.get("annotations", {})
    found: dict[str, object] = {
        "containerimage.descriptor": image.annotated(told).row,
        "containerimage.digest": image.digest,
    }
    if image.config:  # an index has none
        found["containerimage.config.digest"] = image.config
    if delivered.full_names:
        found["image.name"] = ",".join(delivered.full_names)
    return found | dict(delivered.further)


def referred(result: BuildResult, record: str) -> BuildResult:
    """The result with what names its record ("" where there is none), as buildx does: builder, node, id."""
    if not record:
        return result
    ref = f"pybuild/pybuild/{record.rpartition('/')[2]}"
    return result.but(metadata={**result.metadata, "buildx.build.ref": ref})
