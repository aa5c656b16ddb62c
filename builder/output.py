"""From snapshots to what was asked for: the image is made, and handed out (`delivery`).

Of one platform it is an image, of several an index of theirs. An image is assembled once per way of
compressing it. Its time is that of the first build that gave this filesystem and config, so that a build of
which nothing changed gives the very same image again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from builder import digest as digests
from builder.delivery import TREES, Delivered, hand_out, hand_out_tree
from builder.digest import Digest, of_value
from builder.errors import BuildError
from builder.events import ExportFinished, ExportStarted
from builder.exporters import Export
from builder.oci.documents import compression_of
from builder.oci.image import assemble, index_of, rfc3339
from builder.oci.spec import LayerBlob, encode
from builder.snapshots import forms
from builder.solver.solver import first_error

if TYPE_CHECKING:
    from builder.oci.finished import Finished
    from builder.parts import Parts
    from builder.snapshots.snapshot import LayerId

from builder.compiler.program import Program
from builder.snapshots.snapshot import Snapshot

SECOND = 1_000_000_000
INLINE = "org.pybuild.cache.v1"  # the field of an image's config that has a cache


class Built(NamedTuple):
    """What was built for one platform."""

    program: Program
    snapshot: Snapshot


async def deliver(
    exports: list[Export], built: Sequence[Built], parts: Parts, inline: bytes | None = None
) -> Delivered:
    """Make all outputs, one after the other. Raises BuildError; what was there before stays then.

    built: one for each platform, in the order asked for. inline: a cache, as JSON, that goes into the images'
    configs.
    """
    further = {INLINE: msgspec.Raw(inline)} if inline else {}
    delivered = Delivered()
    for export in exports:
        begun = time.time()
        parts.emit(ExportStarted(time=begun, name=str(export)))
        if export.kind in TREES:
            await parts.thread(hand_out_tree, export, built[0].snapshot, parts.layers)
        else:
            image = delivered.made.get(export.way) or await _image(export, built, parts, further)
            delivered.note(export, image)
            await parts.thread(hand_out, export, image, parts.store, delivered)
        now = time.time()
        parts.emit(ExportFinished(time=now, name=str(export), seconds=now - begun))
    return delivered


def makers(exports: list[Export], program: Program, parts: Parts) -> list[Callable[[LayerId], LayerBlob]]:
    """What makes a layer's blob, for each way in which the exports will ask for it."""
    ways = {export.way: export for export in exports if export.kind not in TREES}
    clamps = [program.source_date_epoch if export.rewrite_timestamp else None for export in ways.values()]
    return [_blob_maker(*way, parts) for way in zip(ways.values(), clamps, strict=True)]


async def _image(
    export: Export, built: Sequence[Built], parts: Parts, further: dict[str, msgspec.Raw]
) -> Finished:
    """The image as this export wants it compressed: an index, if it is for more than one platform."""
    images = [await _one_image(export, *each, parts, further) for each in built]
    return images[0] if len(images) == 1 else index_of(images)


async def _one_image(
    export: Export, program: Program, snapshot: Snapshot, parts: Parts, further: dict[str, msgspec.Raw]
) -> Finished:
    clamp = program.source_date_epoch if export.rewrite_timestamp else None
    if export.rewrite_timestamp and clamp is None:
        raise BuildError(
            "rewrite-timestamp=true needs SOURCE_DATE_EPOCH",
            code="source-date-epoch",
            hint="set it in the environment, or with --build-arg SOURCE_DATE_EPOCH=SECONDS",
        )
    make = _blob_maker(export, clamp, parts)
    blobs = await _all(parts.thread(make, layer) for layer in snapshot)
    created = _created(program, snapshot, parts)
    image = assemble(program.config, blobs, program.history, created, export.annotations, further)
    return image.finished()


async def _all(works: Iterable[Coroutine[None, None, LayerBlob]]) -> list[LayerBlob]:
    """The results of all, done at the same time; the first error stops the rest."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except ExceptionGroup as errors:
        raise first_error(errors) from errors
    return [task.result() for task in tasks]


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
