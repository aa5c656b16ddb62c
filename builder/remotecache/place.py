"""Where a cache lies: a registry's repository, or an image layout in a folder.

Both give documents as bytes and bring blobs into a store, and whatever comes has the digest that it was asked
for by. Blobs are brought once between all builds of a machine. They know nothing of what is in a cache.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from builder import digest as digests
from builder import stop
from builder.digest import Digest
from builder.errors import ImageError, reason_of
from builder.oci import reference
from builder.oci.documents import MAX_MANIFEST
from builder.oci.layout import Layout, LayoutName
from builder.oci.reference import Reference
from builder.oci.spec import Descriptor
from builder.store import locks

if TYPE_CHECKING:
    from builder.oci.registry import Registry
    from builder.request import CacheFrom
    from builder.store.growing import Growing
    from builder.store.root import Store

LOCK_PAUSE = 0.05

ProgressOf = Callable[[str, int, int], None]


class Place(Protocol):
    """A place that can be read."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def repository(self, registry: str) -> str:
        """The repository that this is of that registry; "" if it is none."""
        ...

    async def manifests(self) -> list[tuple[bytes, str]]:
        """The manifests or indexes there, with their media types ("" if unknown). Raises ImageError."""
        ...

    async def manifest(self, descriptor: Descriptor) -> bytes:
        """A manifest that an index names. Raises ImageError."""
        ...

    async def read(self, descriptor: Descriptor, limit: int) -> bytes:
        """A small blob. Raises ImageError, StoreError."""
        ...

    async def bring(
        self, descriptor: Descriptor, store: Store, progress: ProgressOf, growing: Growing | None = None
    ) -> None:
        """Bring a blob into a store, unless it is there. growing: for who reads it meanwhile, if it has to be
        downloaded. Raises ImageError, StoreError."""
        ...


class Connection:
    """The registry client of a build's caches, made when it is needed. Close it.

    insecure: as `connections.open_transport` has it.
    """

    def __init__(self, insecure: Collection[str] = ()) -> None:
        self._insecure = insecure
        self._registry: Registry | None = None

    def registry(self) -> Registry:
        """The client."""
        if self._registry is None:
            from builder.oci.connections import open_transport
            from builder.oci.registry import Registry

            self._registry = Registry(open_transport(os.environ, insecure=self._insecure))
        return self._registry

    async def close(self) -> None:
        """Close connections, if there were any."""
        if self._registry is not None:
            await self._registry.close()
            self._registry = None


def open_place(wanted: CacheFrom, store: Store, connection: Connection) -> Place:
    """The place that a `--cache-from` names."""
    if wanted.type == "registry":
        return InRegistry(reference.parse(wanted.ref), store, connection)
    digest = Digest(wanted.digest) if wanted.digest else None
    return InFolder(LayoutName(Path(wanted.src), None if digest else wanted.tag, digest))


class InRegistry:
    """A reference in a registry. `store`: where documents go on their way."""

    def __init__(self, where: Reference, store: Store, connection: Connection) -> None:
        self.reference = where
        self.name = where.familiar()
        self._store = store
        self._connection = connection

    def repository(self, registry: str) -> str:
        """See Place."""
        return self.reference.repository if self.reference.registry == registry else ""

    async def manifests(self) -> list[tuple[bytes, str]]:
        """See Place."""
        fetched = await self._connection.registry().manifest(self.reference)
        return [(fetched.data, fetched.media_type)]

    async def manifest(self, descriptor: Descriptor) -> bytes:
        """See Place."""
        digest = digests.parse(descriptor.digest)
        pinned = Reference(self.reference.registry, self.reference.repository, None, digest)
        return (await self._connection.registry().manifest(pinned)).data

    async def read(self, descriptor: Descriptor, limit: int) -> bytes:
        """See Place."""
        _check_size(descriptor, limit, self.name)
        await self.bring(descriptor, self._store, lambda *_: None)
        data = await asyncio.to_thread(self._store.blobs.read, digests.parse(descriptor.digest), limit)
        if len(data) != descriptor.size:
            raise ImageError(
                f"{descriptor.digest} has {len(data)} bytes, and {descriptor.size} by its manifest",
                code="wrong-size",
            )
        return data

    async def bring(
        self, descriptor: Descriptor, store: Store, progress: ProgressOf, growing: Growing | None = None
    ) -> None:
        """See Place."""
        async with _missing(descriptor, store) as missing:
            if missing:
                registry = self._connection.registry()
                await registry.blob(self.reference, descriptor, store.blobs, progress, growing)


class InFolder:
    """A cache in an image layout."""

    def __init__(self, where: LayoutName) -> None:
        self.name = str(where.folder)
        self._where = where
        self._layout: Layout | None = None

    def repository(self, registry: str) -> str:
        """See Place."""
        return ""

    def _open(self) -> Layout:
        if self._layout is None:
            try:
                self._layout = Layout(self._where.folder)
            except OSError as error:
                raise ImageError(f"{self.name} cannot be read: {reason_of(error)}") from error
        return self._layout

    async def manifests(self) -> list[tuple[bytes, str]]:
        """See Place."""

        def work() -> list[tuple[bytes, str]]:
            layout = self._open()
            return [(layout.read(d, MAX_MANIFEST), d.media_type) for d in layout.find(self._where)]

        return await asyncio.to_thread(work)

    async def manifest(self, descriptor: Descriptor) -> bytes:
        """See Place."""
        return await self.read(descriptor, MAX_MANIFEST)

    async def read(self, descriptor: Descriptor, limit: int) -> bytes:
        """See Place."""
        _check_size(descriptor, limit, self.name)
        return await asyncio.to_thread(lambda: self._open().read(descriptor, limit))

    async def bring(
        self, descriptor: Descriptor, store: Store, progress: ProgressOf, growing: Growing | None = None
    ) -> None:
        """See Place."""
        async with _missing(descriptor, store) as missing:
            if missing:
                await stop.in_thread(None, partial(self._open().copy, descriptor, store.blobs))


@asynccontextmanager
async def _missing(descriptor: Descriptor, store: Store) -> AsyncIterator[bool]:
    """Whether a store lacks a blob; while the block lasts nobody else on this machine brings it there.

    Polled, as a blocked flock could not be cancelled. Raises ImageError where the blob has another size.
    """
    digest = digests.parse(descriptor.digest)
    if store.blobs.stat(digest) == descriptor.size:
        yield False
        return
    name = locks.fetch_name(digest)
    lock = locks.try_exclusive(store.folder, name)
    while lock is None:
        await asyncio.sleep(LOCK_PAUSE)
        lock = locks.try_exclusive(store.folder, name)
    with lock:
        there = await asyncio.to_thread(store.blobs.stat, digest)
        if there is not None and there != descriptor.size:
            raise ImageError(
                f"{digest} has {there} bytes, and {descriptor.size} by its manifest", code="wrong-size"
            )
        yield there is None


def _check_size(descriptor: Descriptor, limit: int, name: str) -> None:
    if descriptor.size > limit:
        raise ImageError(
            f"{descriptor.digest} of {name} has more than {limit >> 20} MiB", code="document-too-large"
        )
