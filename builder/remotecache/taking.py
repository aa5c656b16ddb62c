"""`--cache-from`: what a build takes from caches elsewhere.

A cache's document is read when the store lacks a record for the first time, its blobs when a record of it is
the one that is wanted: so of what a build does not need nothing comes. What comes is imported as base images'
layers are: hashed on the way, unpacked by the same rules, its diff id checked; then it is a record like any
other. Whatever is wrong with a cache is a warning, told once, and as if it had no such record.

What has no inputs (a base image, a file with a checksum) is never taken: there the key says what it must be,
and its source can be held to that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from builder.digest import Digest, of_value
from builder.errors import BuildError, ImageError, StoreError
from builder.events import Progress, Warned
from builder.oci.spec import LayerBlob
from builder.pulling import bring
from builder.remotecache.asking import read_caches, wrong_with
from builder.remotecache.document import Cache
from builder.remotecache.mounts import MountsTaken
from builder.remotecache.place import Connection, Place, open_place
from builder.solver.cache import Record
from builder.store.blobs import WrongContent

if TYPE_CHECKING:
    from builder.graph.definition import Vertex
    from builder.graph.selection import Selection
    from builder.parts import Parts
    from builder.request import CacheFrom
    from builder.snapshots.snapshot import LayerId, Snapshot

T = TypeVar("T")


class Remote:
    """One cache elsewhere: where it lies, and what it says, which may be for several images."""

    def __init__(self, place: Place, wanted: CacheFrom) -> None:
        self.place = place
        self.wanted = wanted
        self.caches: list[Cache] = []
        self.layers: dict[tuple[str, str], asyncio.Task[LayerId]] = {}


class Taking:
    """The caches of one build. Close it. taken: the keys whose records came from elsewhere.

    damaged: the digests of blobs whose bytes were not what they should be.
    """

    def __init__(self, wanted: Sequence[CacheFrom], parts: Parts) -> None:
        self.connection = Connection()
        self.remotes = [Remote(open_place(one, parts.store, self.connection), one) for one in wanted]
        self.taken: set[Digest] = set()
        self.damaged: set[str] = set()
        self._parts = parts
        self._opening: asyncio.Task[None] | None = None
        self._told: set[str] = set()

    async def close(self) -> None:
        """Stop what is under way, and close connections."""
        tasks: list[asyncio.Task[Any]] = [t for remote in self.remotes for t in remote.layers.values()]
        if self._opening is not None:
            tasks.append(self._opening)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.connection.close()

    # ── for the solver ───────────────────────────────────────────────────────────────────────────────────

    async def record(self, vertex: Vertex, key: Digest) -> Record | None:
        """The record under a key that the store lacks, its layers in the store. Raises StoreError."""
        if not vertex.inputs:
            return None
        for remote, cache in await self.opened():
            blobs = cache.snapshot(key)
            if blobs is None:
                continue
            snapshot = await self.guarded(remote, partial(self._take, remote, blobs, vertex))
            if snapshot is not None:
                self.taken.add(key)
                return Record(snapshot, cache.seconds(key) or 0.0, vertex.about.label)
        return None

    async def selected(self, key: Digest, selection: Selection) -> Digest | None:
        """The content digest of a selection of what a key names, as a cache has it."""
        for _, cache in await self.opened():
            found = cache.content(key, selection)
            if found is not None:
                self._parts.cache.note_selected(key, selection, found)
                return found
        return None

    # ── for others ───────────────────────────────────────────────────────────────────────────────────────

    async def opened(self) -> list[tuple[Remote, Cache]]:
        """All caches that can be read, in the order in which they are asked."""
        if not self.remotes:
            return []
        if self._opening is None:
            self._opening = asyncio.create_task(self._open_all())
        await asyncio.shield(self._opening)
        return [(remote, cache) for remote in self.remotes for cache in remote.caches]

    def note_time(self, target: Digest | None, snapshot: Snapshot, config: Digest) -> None:
        """Make an image of a target that was taken have the time that it had where it came from."""
        if target is None or target not in self.taken:
            return
        name = of_value([list(snapshot), config])
        for remote in self.remotes:
            for cache in remote.caches:
                made = cache.time(target, config)
                if made is not None and _is_time(made) and self._parts.cache.recall("created", name) is None:
                    self._parts.cache.remember("created", name, made)

    def mounts(self) -> MountsTaken:
        """The cache mounts that may be taken."""
        return MountsTaken(self, self._parts.store)

    def warn(self, remote: Remote, error: BuildError) -> None:
        """Say once what is wrong with a cache."""
        message = wrong_with(remote.place, error)
        if message not in self._told:
            self._told.add(message)
            self._parts.emit(Warned(time=time.time(), message=message))

    async def guarded(self, remote: Remote, work: Callable[[], Awaitable[T]]) -> T | None:
        """What the work gives; None, and a warning, where the cache is at fault. Raises StoreError."""
        try:
            return await work()
        except BuildError as error:
            if isinstance(error, StoreError) and not isinstance(error, WrongContent):
                raise
            self.warn(remote, error)
            return None

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    async def _open_all(self) -> None:
        await asyncio.gather(*(self._open(remote) for remote in self.remotes))

    async def _open(self, remote: Remote) -> None:
        found = await self.guarded(remote, lambda: read_caches(remote.place))
        remote.caches = found or []

    async def _take(self, remote: Remote, blobs: Sequence[LayerBlob], vertex: Vertex) -> Snapshot:
        def progress(item: str, done: int, total: int) -> None:
            self._parts.emit(
                Progress(time=time.time(), vertex=vertex.digest, item=item, done=done, total=total)
            )

        tasks = []
        for blob in blobs:
            name = (blob.descriptor.digest, blob.diff_id)
            if name not in remote.layers:
                work = self._take_layer(remote, blob, progress, unpacked=vertex.digest in self._parts.unpack)
                remote.layers[name] = asyncio.create_task(work)
            tasks.append(remote.layers[name])
        layers = [await asyncio.shield(task) for task in tasks]
        return await self._parts.thread(self._parts.layers.settle, layers)

    async def _take_layer(
        self, remote: Remote, blob: LayerBlob, progress: Callable[[str, int, int], None], *, unpacked: bool
    ) -> LayerId:
        try:
            fetch = partial(remote.place.bring, blob.descriptor, self._parts.store, progress)
            return await bring(self._parts, blob, fetch, unpacked=unpacked)
        except ImageError as error:
            if error.code not in ("registry-unreachable", "registry-denied", "registry-busy"):
                self.damaged.add(blob.descriptor.digest)
            raise


def _is_time(text: str) -> bool:
    """Whether it is a time as images have it (`oci.image.rfc3339`)."""
    try:
        return len(text) < 40 and text.endswith("Z") and datetime.fromisoformat(text) is not None
    except ValueError:
        return False
