"""From a snapshot to what was asked for: the image is made, named, and handed to the exporters.

An image is assembled once per way of compressing it. Its time is that of the first build that gave this
filesystem and config, so that a build of which nothing changed gives the very same image again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from builder import digest as digests
from builder import exporters
from builder.digest import Digest, of_value
from builder.errors import BuildError
from builder.events import ExportFinished, ExportStarted
from builder.exporters import Export, docker, local, oci, tar
from builder.oci.documents import compression_of
from builder.oci.image import Image, assemble, rfc3339
from builder.oci.names import Names
from builder.oci.spec import LayerBlob, encode
from builder.request import OutputSpec
from builder.snapshots import forms
from builder.solver.solver import first_error

if TYPE_CHECKING:
    from builder.compiler.program import Program
    from builder.parts import Parts
    from builder.request import BuildRequest
    from builder.snapshots.snapshot import LayerId, Snapshot

SECOND = 1_000_000_000
INLINE = "org.pybuild.cache.v1"  # the field of an image's config that has a cache


@dataclass
class Delivered:
    """What was handed out. `image` is the first image made, None where only trees were asked for.

    names: as people write them; full_names: with registry and all, as buildx tells them; further: fields of
    the images' configs.
    """

    image: Image | None = None
    names: tuple[str, ...] = ()
    full_names: tuple[str, ...] = ()
    stored: bool = False
    further: dict[str, msgspec.Raw] = field(default_factory=dict)
    made: dict[object, Image] = field(default_factory=dict)

    @property
    def made_by_default(self) -> Image | None:
        """The image with default compression, no annotations and no cache in it, if it was made."""
        return None if self.further else self.made.get(_way(Export("image", None), None))


def wanted(request: BuildRequest) -> list[Export]:
    """The outputs of a request: the store where none is given or --load asks for it. Raises UsageError."""
    found = [exporters.parse(spec, request.tags) for spec in request.outputs]
    if not found or (request.load and not any(export.kind == "image" for export in found)):
        found.insert(0, exporters.parse(OutputSpec(type="image"), request.tags))
    return found


async def deliver(
    exports: list[Export], program: Program, snapshot: Snapshot, parts: Parts, inline: bytes | None = None
) -> Delivered:
    """Make all outputs, one after the other. Raises BuildError; what was there before stays then.

    inline: a cache, as JSON, that goes into the images' configs.
    """
    delivered = Delivered(further={INLINE: msgspec.Raw(inline)} if inline else {})
    for export in exports:
        begun = time.time()
        parts.emit(ExportStarted(time=begun, name=str(export)))
        if export.kind in ("tar", "local"):
            await parts.thread(_export_tree, export, snapshot, parts)
        else:
            image = await _image(export, program, snapshot, parts, delivered)
            await parts.thread(_export_image, export, image, parts, delivered)
        now = time.time()
        parts.emit(ExportFinished(time=now, name=str(export), seconds=now - begun))
    return delivered


def metadata(delivered: Delivered) -> dict[str, object]:
    """What --metadata-file holds, with buildx's names."""
    image = delivered.image
    if image is None:
        return {}
    found: dict[str, object] = {
        "containerimage.config.digest": image.manifest.config.digest,
        "containerimage.descriptor": image.row(),
        "containerimage.digest": image.descriptor.digest,
    }
    if delivered.full_names:
        found["image.name"] = ",".join(delivered.full_names)
    return found


async def _image(
    export: Export, program: Program, snapshot: Snapshot, parts: Parts, delivered: Delivered
) -> Image:
    """The image as this export wants it compressed, made once for all that want the same."""
    clamp = program.source_date_epoch if export.rewrite_timestamp else None
    if export.rewrite_timestamp and clamp is None:
        raise BuildError(
            "rewrite-timestamp=true needs SOURCE_DATE_EPOCH",
            code="source-date-epoch",
            hint="set it in the environment, or with --build-arg SOURCE_DATE_EPOCH=SECONDS",
        )
    way = _way(export, clamp)
    if way not in delivered.made:
        make = _blob_maker(export, clamp, parts)
        blobs = await _all(parts.thread(make, layer) for layer in snapshot)
        created = _created(program, snapshot, parts)
        image = assemble(
            program.config, blobs, program.history, created, export.annotations, delivered.further
        )
        delivered.made[way] = image
        delivered.image = delivered.image or image
    return delivered.made[way]


async def _all(works: Iterable[Coroutine[None, None, LayerBlob]]) -> list[LayerBlob]:
    """The results of all, done at the same time; the first error stops the rest."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except ExceptionGroup as errors:
        raise first_error(errors) from errors
    return [task.result() for task in tasks]


def _way(export: Export, clamp: int | None) -> object:
    """What tells two images of one filesystem apart."""
    annotations = tuple(sorted(export.annotations.items()))
    return (export.compression.kind, export.compression.level, export.force_compression, clamp, annotations)


def _blob_maker(export: Export, clamp: int | None, parts: Parts) -> Callable[[LayerId], LayerBlob]:
    limit = clamp * SECOND if clamp is not None else None

    def make(layer: LayerId) -> LayerBlob:
        blob = parts.layers.blob(layer, export.compression, clamp=limit)
        if export.force_compression and compression_of(blob.descriptor, layer) != export.compression.kind:
            return forms.recompress(parts.store.blobs, blob, export.compression)
        return blob

    return make


def _created(program: Program, snapshot: Snapshot, parts: Parts) -> str:
    if program.source_date_epoch is not None:
        return rfc3339(program.source_date_epoch)
    name = of_value([list(snapshot), config_name(program)])
    return parts.cache.recall("created", name) or parts.cache.remember("created", name, rfc3339(time.time()))


def config_name(program: Program) -> Digest:
    """What names a program's config and history."""
    return digests.of_bytes(encode(program.config))


def _export_image(export: Export, image: Image, parts: Parts, delivered: Delivered) -> None:
    delivered.names = delivered.names or tuple(name.familiar() for name in export.names)
    delivered.full_names = delivered.full_names or tuple(str(name) for name in export.names)
    if export.kind == "image":
        parts.store.blobs.put(image.config_bytes)
        parts.store.blobs.put(image.manifest_bytes)
        Names(parts.store).add(image.row(), export.names)
        delivered.stored = True
    elif export.kind == "docker":
        docker.export(image, parts.store.blobs, export)
    else:
        oci.export(image, parts.store.blobs, export)


def _export_tree(export: Export, snapshot: Snapshot, parts: Parts) -> None:
    tree = parts.layers.tree(snapshot)
    if export.kind == "local":
        local.export(tree, parts.layers.open, export)
    else:
        tar.export(tree, parts.layers.open, export)
