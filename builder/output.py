"""From snapshots to what was asked for: the image is made, and handed out (`delivery`).

Of one platform it is an image, of several, or where that form was asked for, an index. An image is assembled
once per way of compressing it. Its time is that of the first build that gave this filesystem and config, so
that a build of which nothing changed gives the very same image again.
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
from builder.exporters import Export, annotation
from builder.oci.image import assemble, index_of, rfc3339, squash_history
from builder.oci.spec import LayerBlob, encode
from builder.prepare import platform_name
from builder.snapshots import squash
from builder.solver.solver import first_error

if TYPE_CHECKING:
    from builder.attest.maker import Attesting
    from builder.oci.finished import Finished
    from builder.parts import Parts
    from builder.snapshots.snapshot import LayerId

from builder.compiler.program import Program, Programs
from builder.snapshots.snapshot import Snapshot

SECOND = 1_000_000_000
INLINE = "org.pybuild.cache.v1"  # the field of an image's config that has a cache


class Built(NamedTuple):
    """What was built for one platform. platform: as it was asked for, "" for the machine's."""

    program: Program
    snapshot: Snapshot
    platform: str = ""


async def deliver(
    exports: list[Export],
    built: Sequence[Built],
    parts: Parts,
    inline: Sequence[bytes] | None = None,
    attesting: Attesting | None = None,
) -> Delivered:
    """Make all outputs, one after the other. Raises BuildError; what was there before stays then.

    built: one for each platform, in the order asked for. inline: a cache, as JSON, for the config of the
    image of each. attesting: makes what is told of the images, where anything is.
    """
    further = [{INLINE: msgspec.Raw(data)} for data in inline] if inline else [{} for _ in built]
    delivered = Delivered()
    for export in exports:
        begun = time.time()
        parts.emit(ExportStarted(time=begun, name=str(export)))
        if export.kind in TREES:
            trees = [(each.platform, each.snapshot) for each in built]
            epoch = built[0].program.source_date_epoch
            wrap = (
                await attesting.wrapping(export, _programs(built), _snapshots(built)) if attesting else None
            )
            await parts.thread(hand_out_tree, export, trees, parts.layers, epoch, wrap)
        else:
            image = delivered.made.get(export.way) or await _image(export, built, parts, further, attesting)
            delivered.note(export, image)
            await parts.thread(hand_out, export, image, parts.store, delivered)
        now = time.time()
        parts.emit(ExportFinished(time=now, name=str(export), seconds=now - begun))
        if export.push:
            from builder.pushing import push_output

            await push_output(export, image, parts.store, parts.emit)
    if attesting:
        delivered.further = attesting.metadata()
    return delivered


def makers(exports: list[Export], programs: Programs, parts: Parts) -> list[Callable[[LayerId], LayerBlob]]:
    """What makes a layer's blob, for each way in which the exports will ask for it."""
    ways = {export.way: export for export in exports if export.kind not in TREES and not export.squash}
    clamps = [programs.source_date_epoch if export.rewrite_timestamp else None for export in ways.values()]
    return [_blob_maker(*way, parts) for way in zip(ways.values(), clamps, strict=True)]


def _programs(built: Sequence[Built]) -> list[Program]:
    return [each.program for each in built]


def _snapshots(built: Sequence[Built]) -> list[Snapshot]:
    return [each.snapshot for each in built]


async def _image(
    export: Export,
    built: Sequence[Built],
    parts: Parts,
    further: Sequence[dict[str, msgspec.Raw]],
    attesting: Attesting | None = None,
) -> Finished:
    """The image as this export wants it compressed: an index, if it is one for several platforms, or has
    attestations in it.
    """
    images = [await _one_image(export, each, parts, own) for each, own in zip(built, further, strict=True)]
    told = await attesting.manifests(export, images, _programs(built), _snapshots(built)) if attesting else []
    has_index = export.multi_platform or bool(told)
    annotation.check(
        export.annotations,
        [platform_name(each.platform) for each in built],
        has_index=has_index,
        docker_types=export.docker_types,
    )
    whole = images[0]
    if has_index:
        index = index_of(
            [*images, *told],
            annotation.of_type(export.annotations, annotation.INDEX),
            docker=export.docker_types,
        )
        whole = index.annotated(annotation.of_type(export.annotations, annotation.INDEX_DESCRIPTOR))
    if attesting:
        await attesting.accompany(export, whole, images, _programs(built), _snapshots(built))
    return whole


async def _one_image(export: Export, built: Built, parts: Parts, further: dict[str, msgspec.Raw]) -> Finished:
    program, snapshot, platform = built.program, built.snapshot, platform_name(built.platform)
    clamp = program.source_date_epoch if export.rewrite_timestamp else None
    if export.rewrite_timestamp and clamp is None:
        raise BuildError(
            "rewrite-timestamp=true needs SOURCE_DATE_EPOCH",
            code="source-date-epoch",
            hint="set it in the environment, or with --build-arg SOURCE_DATE_EPOCH=SECONDS",
        )
    history, kept = program.history, len(snapshot)
    if export.squash and kept - program.base_layers > 1:
        kept = program.base_layers
        history = squash_history(history, program.base_entries, kept, len(snapshot) - kept)
    make = _blob_maker(export, clamp, parts)
    works = [parts.thread(make, layer) for layer in snapshot[:kept]]
    if kept < len(snapshot):
        limit = clamp * SECOND if clamp is not None else None
        works.append(parts.thread(squash.pack, parts.layers, snapshot, kept, export.compression, limit))
    image = assemble(
        program.config,
        await _all(works),
        history,
        _created(program, snapshot, parts),
        annotation.of_type(export.annotations, annotation.MANIFEST, platform),
        further,
        docker=export.docker_types,
    )
    told = annotation.of_type(export.annotations, annotation.MANIFEST_DESCRIPTOR, platform)
    return image.finished().annotated(told)


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
        return parts.layers.blob(layer, export.compression, clamp=limit, force=export.force_compression)

    return make


def _created(program: Program, snapshot: Snapshot, parts: Parts) -> str:
    if program.source_date_epoch is not None:
        return rfc3339(program.source_date_epoch)
    if all(entry.created or entry.empty_layer for entry in program.history):
        times = [entry.created for entry in program.history if entry.created]
        if times:  # nothing was made: what only says more of a base image is as old as that is
            return times[-1]
    name = of_value([list(snapshot), config_name(program)])
    return parts.cache.recall("created", name) or parts.cache.remember("created", name, rfc3339(time.time()))


def config_name(program: Program) -> Digest:
    """What names a program's config and history."""
    return digests.of_bytes(encode(program.config))


def built_name(program: Program) -> Digest:
    """What names all of a program that makes one image of a snapshot another than another image of it."""
    return of_value([config_name(program), program.source_date_epoch])
