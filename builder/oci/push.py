"""A whole image to a registry: its blobs side by side, then its documents, the one that the name means last.

So whoever pulls meanwhile finds the image that was, or the one that is. What the registry has stays unsent,
and what it has in another repository is mounted from there. Who watches is told of each blob by `Told`.
It never knows where an image came from, nor what is in it.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from builder import digest as digests
from builder.errors import ImageError, StoreError
from builder.oci.reference import Reference
from builder.oci.spec import Descriptor
from builder.oci.upload import Outcome

if TYPE_CHECKING:
    from builder.oci.parcel import Blob, Document, Parcel
    from builder.oci.upload import Uploader
    from builder.store.blobs import BlobStore

MANIFESTS = 4  # of one level, at a time


class Told(Protocol):
    """Who is told how far a push is."""

    def progress(self, item: str, done: int, total: int) -> None:
        """Bytes of a blob."""
        ...

    def say(self, line: str) -> None:
        """What became of a blob that needed no bytes, or of a manifest."""
        ...


class Push:
    """One image on its way to one repository.

    blobs: where the bytes are; held: those of blobs that are nowhere but in memory. sources: gives, of blobs'
    digests, other repositories of that registry that may have them; it is asked once, if anything has to be
    brought there at all.
    """

    def __init__(
        self,
        uploader: Uploader,
        blobs: BlobStore,
        parcel: Parcel,
        told: Told,
        *,
        held: Mapping[str, bytes],
        sources: Callable[[Reference], Mapping[str, str]],
    ) -> None:
        self._uploader = uploader
        self._blobs = blobs
        self._parcel = parcel
        self._told = told
        self._held = held
        self._sources = sources
        self._mounts: Mapping[str, str] | None = None
        self._finding = asyncio.Lock()

    def check(self) -> None:
        """Raise ImageError for a blob that the store lacks: better known before anything is sent."""
        for blob in self._parcel.blobs:
            held = self._held.get(blob.digest)
            size = len(held) if held is not None else self._blobs.stat(blob.digest)
            if size != blob.size:
                state = "is not in the store" if size is None else f"has {size} bytes, not {blob.size}"
                raise ImageError(
                    f"blob {blob.digest} of the image {state}",
                    code="blob-not-found",
                    hint="build, pull or load the image again; `pybuild fsck` tells what else is wrong",
                )

    async def push(self, names: Sequence[Reference]) -> None:
        """Make all these names, which are of one repository, mean the image.

        Raises ImageError for what the registry refuses, StoreError where bytes are not what they should be.
        """
        for blob in self._parcel.left_out:
            self._told.say(f"{_short(blob.digest)}: not uploaded, as its image says where it is to be got")
        await _together(self._blob(names[0], blob) for blob in self._parcel.blobs)
        for level in self._parcel.levels[:-1]:
            slots = asyncio.Semaphore(MANIFESTS)
            await _together(self._document(names[0], document, slots) for document in level)
        for name in names:
            await self._root(name)

    async def _blob(self, where: Reference, blob: Blob) -> None:
        descriptor = Descriptor(blob.media_type, blob.digest, blob.size)
        short = _short(blob.digest)
        if await self._uploader.has(where, descriptor):
            self._told.say(f"{short}: layer already exists")
            return
        source = (await self._find_sources(where)).get(blob.digest, "")
        try:
            outcome = await self._uploader.bring(
                where, descriptor, partial(self._open, blob), self._told.progress, mount_from=source
            )
        except ImageError as error:
            await self._suspect(blob, error)
            raise
        if outcome is Outcome.MOUNTED:
            self._told.say(f"{short}: mounted from {source}")
        else:
            self._told.progress(short, blob.size, blob.size)

    async def _find_sources(self, where: Reference) -> Mapping[str, str]:
        async with self._finding:
            if self._mounts is None:
                self._mounts = await asyncio.to_thread(self._sources, where)
            return self._mounts

    def _open(self, blob: Blob) -> BinaryIO:
        held = self._held.get(blob.digest)
        return self._blobs.open(blob.digest) if held is None else cast(BinaryIO, io.BytesIO(held))

    async def _suspect(self, blob: Blob, error: ImageError) -> None:
        """Raise StoreError where a registry refuses a blob since its bytes are not what they should be."""
        if error.code != "registry" or blob.digest in self._held:
            return
        try:
            await asyncio.to_thread(self._blobs.verify, blob.digest)
        except StoreError as damaged:
            raise damaged from error

    async def _document(self, where: Reference, document: Document, slots: asyncio.Semaphore) -> None:
        async with slots:
            pinned = Reference(where.registry, where.repository, None, document.digest)
            await self._uploader.manifest(pinned, document.data, document.media_type)

    async def _root(self, name: Reference) -> None:
        root = self._parcel.root
        if not await self._uploader.means(name, root.digest, root.media_type):
            await self._uploader.manifest(name, root.data, root.media_type)


async def _together(works: Iterable[Coroutine[None, None, None]]) -> None:
    """Do all at the same time; the first error stops the rest."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _short(digest: str) -> str:
    return digests.hex_of(digests.parse(digest))[:12]
