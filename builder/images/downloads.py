"""Images out of registries into the store, with their names: `pybuild pull`.

A name gets what it means in its registry: the image, or the index, of which the image for one platform comes
along, or all of them. The image's layers are unpacked while they come, so that what is built on it begins at
once; and a step that stands on it finds it in the cache.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import msgspec

from builder import digest as digests
from builder import origins, stop
from builder.digest import Digest, of_value
from builder.errors import ImageError
from builder.events import ExportFinished, ExportStarted, Progress
from builder.oci import documents
from builder.oci.beside import subject_of
from builder.oci.image import platform_of
from builder.oci.names import Names, name_of, stored_name
from builder.oci.parcel import is_foreign
from builder.oci.platform import choose, fits
from builder.oci.reference import Reference
from builder.oci.spec import Descriptor, ImageConfig, Index, LayerBlob, Manifest, Platform
from builder.ops.source import Image
from builder.pulling import bring
from builder.remotecache.place import Connection, InRegistry
from builder.snapshots.layers import LayerStore
from builder.solver.cache import Cache, Record
from builder.solver.keys import combine
from builder.solver.solver import first_error
from builder.store import locks
from builder.store.ingest import sweep_ingest
from builder.store.leases import leased

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.oci.names import Row
    from builder.snapshots.snapshot import LayerId
    from builder.store.growing import Growing
    from builder.store.root import Store

P = ParamSpec("P")
T = TypeVar("T")
# Layers unpacked at a time, each with a thread that decompresses: more get into each other's way. The others
# wait as they come, packed.
UNPACKERS = 2
MAX_NESTING = 3  # an index may name indexes, but not for ever
MAX_CHILDREN = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be pulled of a name. platform: which of several images; given: somebody asked for just that
    one. whole: all that an index names. unpack: the image's layers become layers of the store."""

    platform: Platform
    given: bool = False
    whole: bool = False
    unpack: bool = True


@dataclass(frozen=True, slots=True)
class Pulled:
    """What became of a name: the digest that it has in its registry; whether anything of it is new here."""

    name: Reference
    digest: Digest
    is_new: bool


@dataclass(slots=True)
class Hands:
    """See pulling.Hands."""

    layers: LayerStore
    unpackers: ThreadPoolExecutor
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(os.cpu_count() or 1))

    async def thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See pulling.Hands."""
        return await stop.in_thread(self.threads, partial(function, *args, **kwargs))


async def pull(
    store: Store, names: Sequence[Reference], wanted: Wanted, connection: Connection, emit: Emit
) -> list[Pulled]:
    """Pull names one after the other. Raises ImageError or StoreError; what was pulled by then stays."""
    # Each blob goes to the disk by itself, while others come: a barrier at the end would wait for all that
    # was unpacked, too, which can be had again.
    store.blobs.durable = True
    with locks.shared(store.folder, locks.BUILDS), leased(store):
        sweep_ingest(store.folder)
        async with _hands(store) as hands:
            done = [await _Pull(store, name, wanted, connection, hands, emit).pull() for name in names]
            from builder.room.closing import make_room

            await make_room(store, hands.thread, emit)
    return done


async def tags_of(name: Reference, connection: Connection) -> list[str]:
    """All tags of images in a name's repository: not those of signatures and the like. Raises ImageError."""
    from builder.oci.taglist import list_tags

    tags = await list_tags(connection.registry().transport, name)
    return [tag for tag in tags if subject_of(tag) is None]


@asynccontextmanager
async def _hands(store: Store) -> AsyncIterator[Hands]:
    layers = LayerStore(os.path.join(store.folder, "layers"), store.blobs)
    hands = Hands(layers, ThreadPoolExecutor(UNPACKERS, thread_name_prefix="unpack"))
    try:
        yield hands
    finally:
        for threads in (hands.unpackers, hands.threads):
            threads.shutdown(wait=True, cancel_futures=True)
        layers.close()


class _Pull:
    """One name on its way. `_came`: whether any bytes had to; `_brought`: the blobs that it has there."""

    def __init__(
        self,
        store: Store,
        name: Reference,
        wanted: Wanted,
        connection: Connection,
        hands: Hands,
        emit: Emit,
    ) -> None:
        self._store = store
        self._name = name
        self._familiar = name.familiar()
        self._wanted = wanted
        self._place = InRegistry(name, store, connection)
        self._hands = hands
        self._emit = emit
        self._came = False
        self._brought: set[str] = set()

    async def pull(self) -> Pulled:
        """Do it. Raises ImageError or StoreError."""
        begun = time.time()
        self._emit(ExportStarted(time=begun, name=self._familiar, verb="pulling"))
        try:
            top, image, snapshot = await self._bring()
        except ExceptionGroup as errors:
            raise first_error(errors) from errors
        is_new = await self._hands.thread(self._name_it, top, image, snapshot, begun)
        now = time.time()
        self._emit(ExportFinished(time=now, name=self._familiar, seconds=now - begun))
        return Pulled(self._name, digests.parse(top.digest), is_new)

    async def _bring(self) -> tuple[Descriptor, Descriptor, tuple[LayerId, ...] | None]:
        """The descriptors of what the name means and of the image, and its layers, all in the store."""
        ((data, media_type),) = await self._place.manifests()
        document = documents.parse_manifest_or_index(data, media_type, self._familiar)
        top = Descriptor(document.media_type, digests.of_bytes(data), len(data))
        await self._hands.thread(self._store.blobs.put, data)
        async with asyncio.TaskGroup() as group:
            if self._wanted.whole:
                group.create_task(self._bring_below(top, 0))
            try:
                image, manifest = await self._narrow(top, document, 0)
            except ImageError as error:
                if not self._wanted.whole or self._wanted.given or error.code != "platform-not-found":
                    raise
                return top, top, None
            config = await self._config(manifest)
            platform = image.platform or platform_of(config)
            self._check_platform(platform)
            image = msgspec.structs.replace(image, platform=platform)
            snapshot = await self._bring_image(manifest, config)
        return (image if image.digest == top.digest else top), image, snapshot

    async def _narrow(
        self, descriptor: Descriptor, document: Manifest | Index, depth: int
    ) -> tuple[Descriptor, Manifest]:
        """From what may be an index to the manifest for the platform."""
        if isinstance(document, Manifest):
            return descriptor, document
        if depth >= MAX_NESTING:
            raise ImageError(f"{self._familiar} is an index of indexes of indexes", code="invalid-index")
        offered = [d for d in document.manifests if d.media_type in ("", *documents.TREE_TYPES)]
        chosen = choose(offered, self._wanted.platform)
        if chosen is None and len(offered) == 1 and offered[0].platform is None:
            chosen = offered[0]
        if chosen is None:
            there = sorted({str(d.platform) for d in offered if d.platform and d.platform.os != "unknown"})
            raise ImageError(
                f"{self._familiar} is not there for {self._wanted.platform}",
                code="platform-not-found",
                hint=f"it is there for {', '.join(there)}" if there else None,
            )
        data = await self._document(chosen)
        below = documents.parse_manifest_or_index(data, chosen.media_type, self._familiar)
        named = Descriptor(below.media_type, chosen.digest, len(data), platform=chosen.platform)
        return await self._narrow(named, below, depth + 1)

    def _check_platform(self, platform: Platform) -> None:
        if self._wanted.given and not fits(platform, self._wanted.platform):
            raise ImageError(
                f"{self._familiar} is not there for {self._wanted.platform}",
                code="platform-not-found",
                hint=f"it is an image for {platform} alone",
            )

    async def _document(self, descriptor: Descriptor) -> bytes:
        """A manifest that an index names; it is in the store afterwards."""
        digest = digests.parse(descriptor.digest)
        if self._store.blobs.stat(digest) == descriptor.size:
            return await self._hands.thread(self._store.blobs.read, digest, documents.MAX_MANIFEST)
        data = await self._place.manifest(descriptor)
        self._came = True
        await self._hands.thread(self._store.blobs.put, data)
        return data

    async def _config(self, manifest: Manifest) -> ImageConfig:
        data = await self._place.read(manifest.config, documents.MAX_CONFIG)
        config = documents.parse_config(data, self._familiar)
        documents.check_layers(manifest, config, self._familiar)
        return config

    async def _bring_image(self, manifest: Manifest, config: ImageConfig) -> tuple[LayerId, ...] | None:
        """The image's layers, unpacked if that is wanted."""
        if not self._wanted.unpack:
            async with asyncio.TaskGroup() as group:
                for layer in manifest.layers:
                    group.create_task(self._bring_blob(layer))
            return None
        pairs = list(zip(manifest.layers, config.rootfs.diff_ids, strict=True))
        for layer, _ in pairs:
            documents.compression_of(layer, self._familiar)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    bring(
                        self._hands,
                        LayerBlob(layer, diff_id, 0),
                        partial(self._bring_blob, layer),
                        unpacked=True,
                    )
                )
                for layer, diff_id in pairs
            ]
        return await self._hands.thread(self._hands.layers.settle, [task.result() for task in tasks])

    async def _bring_below(self, descriptor: Descriptor, depth: int) -> None:
        """Bring all that a document names, whatever it is, but for layers that are got from elsewhere."""
        data = await self._document(descriptor)
        if descriptor.media_type not in ("", *documents.TREE_TYPES):
            return
        document = documents.parse_manifest_or_index(
            data, descriptor.media_type, self._familiar, further=None
        )
        async with asyncio.TaskGroup() as group:
            if isinstance(document, Index):
                if depth >= MAX_NESTING or len(document.manifests) > MAX_CHILDREN:
                    raise ImageError(f"{self._familiar} is an index of too much", code="invalid-index")
                for child in document.manifests:
                    group.create_task(self._bring_below(child, depth + 1))
                return
            for blob in (document.config, *document.layers):
                if not is_foreign(msgspec.to_builtins(blob)):
                    group.create_task(self._bring_blob(blob))

    async def _bring_blob(self, blob: Descriptor, growing: Growing | None = None) -> None:
        try:
            await self._place.bring(blob, self._store, self._progress, growing)
            self._brought.add(blob.digest)
        except ImageError as error:
            if error.code == "image-not-found" and blob.urls:
                error.hint = "the image says that it is to be got elsewhere, and no such address is followed"
            raise

    def _progress(self, item: str, done: int, total: int) -> None:
        self._came = True
        vertex = f"export {self._familiar}"
        self._emit(Progress(time=time.time(), vertex=vertex, item=item, done=done, total=total))

    def _name_it(
        self, top: Descriptor, image: Descriptor, snapshot: tuple[LayerId, ...] | None, begun: float
    ) -> bool:
        """Put names behind a barrier of the blobs, and note all else; whether any of it is new."""
        if snapshot is not None:
            self._record(image, snapshot, time.time() - begun)
        names = Names(self._store)
        name = self._name
        pinned = name.digest is not None
        if pinned:  # of tag and digest the digest counts, as the tag may mean something else by now
            name = Reference(name.registry, name.repository, None, name.digest)
        had = any(
            row["digest"] == top.digest and (pinned or name_of(row) == stored_name(name))
            for row in names.rows()
        )
        names.add(_row(top), (name,))
        if not pinned:  # else it says by itself what it means
            names.remember(str(name), str(self._wanted.platform), _row(image))
        origins.note(self._store, self._name, self._brought)
        return self._came or not had

    def _record(self, image: Descriptor, snapshot: tuple[LayerId, ...], seconds: float) -> None:
        """Make the image be what a FROM finds in the cache.

        Until a build puts a barrier behind them its layers count in this boot only: blobs are what is kept.
        """
        layers = self._hands.layers
        op = Image(str(self._name), image.digest)
        key = combine(of_value(op.plain()), ())
        assert key is not None
        cache = Cache(os.path.join(self._store.folder, "cache"), layers.exists)
        if cache.get(key) is None:
            cache.put(key, Record(snapshot, seconds, f"FROM {self._familiar}"))


def _row(descriptor: Descriptor) -> Row:
    row: Row = msgspec.to_builtins(descriptor)
    return row
