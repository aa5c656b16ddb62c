"""Base images: from the local store, an image layout, or a registry, in that order of haste.

`resolve` makes documents known and brings their small blobs into the store; layers come only when `fetch`
is asked for one. A reference is looked up in its registry once: what it meant is remembered, and used
without the network until somebody says `--pull`. One that is pinned by a lock file is looked up by its digest
alone. It never unpacks a layer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from builder import digest as digests
from builder import stop
from builder.compiler.program import BaseImage, ImageRequest
from builder.digest import Digest
from builder.errors import BuildError, ImageError, StoreError
from builder.oci import documents, reference
from builder.oci.layout import Layout, LayoutName
from builder.oci.names import Names, Row, name_of, stored_name
from builder.oci.platform import choose, fits
from builder.oci.reference import Reference
from builder.oci.spec import Descriptor, ImageConfig, Index, LayerBlob, Manifest, Platform
from builder.ops.source import Image
from builder.sources.offline import missing_image
from builder.store import locks
from builder.store.root import Store

if TYPE_CHECKING:
    from builder.oci.registry import Registry
    from builder.store.growing import Growing

LAYOUT = "oci-layout://"
LOCK_PAUSE = 0.05
INDEX = "index"  # of what is remembered of a name: the digest of the index that it means
MAX_NESTING = 3  # an index may name indexes, but not for ever

ProgressOf = Callable[[str, int, int], None]


class Contents(msgspec.Struct, frozen=True):
    """What an image is made of, bottom layer first; the layers' uncompressed sizes are not known (0)."""

    manifest: Manifest
    config: ImageConfig
    layers: tuple[LayerBlob, ...]


class ImageSource:
    """The base images of one build. Close it when the build ends.

    layouts: what the named contexts of kind "layout" are. pull: ask registries again; anew: ask them again
    for what is no name of the store's own, and remember nothing of it; offline: never ask.
    """

    def __init__(
        self,
        store: Store,
        layouts: Mapping[str, LayoutName],
        *,
        pull: bool = False,
        anew: bool = False,
        offline: bool = False,
    ) -> None:
        self._store = store
        self._names = Names(store)
        self._layouts = layouts
        self._pull = pull
        self._anew = anew
        self._offline = offline
        self._registry: Registry | None = None
        self._opened: dict[str, Layout] = {}
        self._guards: dict[str, asyncio.Lock] = {}
        self._meant: dict[str, Descriptor] = {}

    async def close(self) -> None:
        """Close connections, if there were any."""
        if self._registry is not None:
            await self._registry.close()
            self._registry = None

    async def resolve(self, request: ImageRequest, locked: Digest | None = None) -> BaseImage:
        """Find out which image a request means; its manifest and config are in the store afterwards.

        locked: the digest of the one that it must be. Raises ImageError, placed where the Dockerfile asks for
        the image.
        """
        try:
            async with self._alone(f"{request.locator} {request.platform}"):
                origin = self._origin(request.locator)
                if locked is not None and isinstance(origin, Reference):
                    origin = Reference(origin.registry, origin.repository, origin.tag, locked)
                descriptor, named = await self._find(request, origin)
                manifest, config = await self._documents(origin, descriptor)
            documents.check_layers(manifest, config, _shown(request.locator))
        except (ImageError, StoreError) as error:
            raise _explained(error, request) from error.__cause__
        return BaseImage(digests.parse(descriptor.digest), config, named)

    async def contents(self, op: Image) -> Contents:
        """The documents of a resolved image, from the store, else once more from where it came.

        Its layers are blobs that `fetch` brings. Raises ImageError or StoreError.
        """
        origin = self._origin(op.locator)
        descriptor = Descriptor("", op.digest, self._store.blobs.stat(digests.parse(op.digest)) or -1)
        if descriptor.size < 0:
            descriptor = await self._again(origin, digests.parse(op.digest))
        manifest, config = await self._documents(origin, descriptor)
        documents.check_layers(manifest, config, _shown(op.locator))
        pairs = zip(manifest.layers, config.rootfs.diff_ids, strict=True)
        return Contents(manifest, config, tuple(LayerBlob(layer, diff_id, 0) for layer, diff_id in pairs))

    async def fetch(
        self, op: Image, descriptor: Descriptor, progress: ProgressOf, growing: Growing | None = None
    ) -> None:
        """Bring a layer's blob into the store, unless it is there. Many may ask: one download per blob.

        progress(item, done, total) in bytes; growing: for who reads it meanwhile, if it has to be downloaded.
        Raises ImageError or StoreError.
        """
        documents.compression_of(descriptor, _shown(op.locator))
        await self._bring(self._origin(op.locator), descriptor, progress, growing)

    def _origin(self, locator: str) -> Reference | Layout:
        if not locator.startswith(LAYOUT):
            return reference.parse(locator)
        name = locator.removeprefix(LAYOUT)
        if name not in self._opened:
            try:
                self._opened[name] = Layout(self._layouts[name].folder)
            except KeyError:
                raise ImageError(f"named context {name} is no image layout") from None
        return self._opened[name]

    async def _find(self, request: ImageRequest, origin: Reference | Layout) -> tuple[Descriptor, str]:
        """The manifest's descriptor, for the platform asked for where there is a choice, and the digest of
        what the name means."""
        name = _shown(request.locator)
        if isinstance(origin, Layout):
            found = origin.find(self._layouts[request.locator.removeprefix(LAYOUT)])
            if len(found) > 1:
                chosen = await self._choose(Index(manifests=found), request.platform, name, origin, 0)
                return chosen, chosen.digest
            return await self._narrow(found[0], request.platform, name, origin, 0), found[0].digest
        if not self._pull and (row := self._local(origin, request.platform)) is not None:
            narrowed = await self._narrow(_descriptor(row), request.platform, name, origin, 0)
            if origin.digest is not None:  # or nothing would say that the image is of use
                await self._remember(origin, request.platform, narrowed, row["digest"])
            return narrowed, _named(row)
        try:
            descriptor = await self._ask_once(origin)
        except ImageError as error:
            error.notes += self._known_like(origin, request.platform)
            raise
        narrowed = await self._narrow(descriptor, request.platform, name, origin, 0)
        await self._remember(origin, request.platform, narrowed, descriptor.digest)
        return narrowed, descriptor.digest

    async def _remember(self, origin: Reference, platform: Platform, found: Descriptor, named: str) -> None:
        if not self._anew:
            row: Row = {"mediaType": found.media_type, "digest": found.digest, "size": found.size}
            if named != found.digest:
                row[INDEX] = named
            await asyncio.to_thread(self._names.remember, str(origin), str(platform), row)

    def _local(self, origin: Reference, platform: Platform) -> Row | None:
        """What the store knows a reference to mean: a name of its own, or what a registry said before."""
        if origin.digest is not None:
            size = self._store.blobs.stat(origin.digest)
            return {"mediaType": "", "digest": origin.digest, "size": size} if size is not None else None
        row = self._names.find(origin)
        if row is not None and self._is_for(row, platform):
            return row
        if self._anew and not self._offline:
            return None
        row = self._names.recall(str(origin), str(platform))
        return row if row is not None and self._has(row["digest"]) else None

    def _known_like(self, origin: Reference, platform: Platform) -> tuple[str, ...]:
        """What to tell of the store when a registry does not help."""
        if self._pull and self._local(origin, platform) is not None:
            return (f"without --pull, {origin.familiar()} would be taken from the store",)
        row = self._names.find(origin)
        if row is not None and not self._is_for(row, platform):
            there = msgspec.convert(row["platform"], Platform)
            return (f"the store has {origin.familiar()} for {there}, not for {platform}",)
        known = sorted({name for row in self._names.rows() if (name := name_of(row)) is not None})
        import difflib

        near = difflib.get_close_matches(stored_name(origin), known, 3, 0.6)
        return (f"the store has {' and '.join(near)}",) if near else ()

    def _is_for(self, row: Row, platform: Platform) -> bool:
        told = row.get("platform")
        return not told or fits(msgspec.convert(told, Platform), platform)

    def _has(self, digest: str) -> bool:
        try:
            return self._store.blobs.stat(digests.parse(digest)) is not None
        except ValueError:
            return False

    async def _ask_once(self, origin: Reference) -> Descriptor:
        """The same for a whole build: all its platforms are of one answer, whatever is pushed meanwhile."""
        async with self._alone(str(origin)):
            if str(origin) not in self._meant:
                self._meant[str(origin)] = await self._ask(origin)
            return self._meant[str(origin)]

    async def _ask(self, origin: Reference) -> Descriptor:
        """Ask the registry what a reference means; its manifest is in the store afterwards."""
        if self._offline:
            raise missing_image(origin.familiar(), origin.familiar())
        registry = self._connect()
        if self._pull or self._anew or origin.digest is not None:
            # A HEAD tells whether the manifest that is here already is still the one.
            digest = origin.digest or await registry.digest_of(origin)
            if digest is not None and (size := self._store.blobs.stat(digest)) is not None:
                return Descriptor("", digest, size)
        fetched = await registry.manifest(origin)
        await asyncio.to_thread(self._store.blobs.put, fetched.data)
        # Parsed here too, so that what the server announced is held against what it is.
        documents.parse_manifest_or_index(fetched.data, fetched.media_type, origin.familiar())
        return Descriptor(fetched.media_type, fetched.digest, len(fetched.data))

    async def _narrow(
        self, descriptor: Descriptor, wanted: Platform, name: str, origin: Reference | Layout, depth: int
    ) -> Descriptor:
        """From what may be an index to a manifest."""
        data = await self._manifest_bytes(origin, descriptor)
        document = documents.parse_manifest_or_index(data, descriptor.media_type, name)
        if isinstance(document, Index):
            return await self._choose(document, wanted, name, origin, depth)
        return msgspec.structs.replace(descriptor, media_type=document.media_type, size=len(data))

    async def _choose(
        self, index: Index, wanted: Platform, name: str, origin: Reference | Layout, depth: int
    ) -> Descriptor:
        if depth >= MAX_NESTING:
            raise ImageError(f"{name} is an index of indexes of indexes", code="invalid-index")
        manifests = [d for d in index.manifests if d.media_type in documents.TREE_TYPES or not d.media_type]
        chosen = choose(manifests, wanted)
        if chosen is None and len(manifests) == 1 and manifests[0].platform is None:
            chosen = manifests[0]
        if chosen is None:
            raise _lacks(name, wanted, manifests)
        return await self._narrow(chosen, wanted, name, origin, depth + 1)

    async def _documents(
        self, origin: Reference | Layout, descriptor: Descriptor
    ) -> tuple[Manifest, ImageConfig]:
        name = origin.familiar() if isinstance(origin, Reference) else str(origin.folder)
        data = await self._manifest_bytes(origin, descriptor)
        manifest = documents.parse_manifest(data, name, descriptor.media_type)
        data = await self._small(origin, manifest.config, documents.MAX_CONFIG)
        config = documents.parse_config(data, name)
        return manifest, config

    async def _manifest_bytes(self, origin: Reference | Layout, descriptor: Descriptor) -> bytes:
        """A manifest's or index's bytes; it is in the store afterwards. Registries have a door of their own
        for these."""
        if isinstance(origin, Reference) and not self._has(descriptor.digest):
            digest = digests.parse(descriptor.digest)
            await self._ask(Reference(origin.registry, origin.repository, None, digest))
        return await self._small(origin, descriptor, documents.MAX_MANIFEST)

    async def _small(self, origin: Reference | Layout, descriptor: Descriptor, limit: int) -> bytes:
        """A document's bytes; it is in the store afterwards."""
        if descriptor.size > limit:
            raise ImageError(
                f"{descriptor.digest} has more than {limit >> 20} MiB", code="document-too-large"
            )
        await self._bring(origin, descriptor, lambda *_: None)
        return self._store.blobs.read(digests.parse(descriptor.digest), limit)

    async def _again(self, origin: Reference | Layout, digest: Digest) -> Descriptor:
        """A manifest that was resolved once and is not in the store any more."""
        if isinstance(origin, Layout):
            return origin.find(LayoutName(origin.folder, digest=digest))[0]
        pinned = Reference(origin.registry, origin.repository, None, digest)
        return await self._ask(pinned)

    async def _bring(
        self,
        origin: Reference | Layout,
        descriptor: Descriptor,
        progress: ProgressOf,
        growing: Growing | None = None,
    ) -> None:
        """The blob is in the store afterwards; this process and others fetch it once between them."""
        digest = digests.parse(descriptor.digest)
        blobs = self._store.blobs
        if blobs.stat(digest) == descriptor.size:
            return
        async with self._alone(digest), self._claimed(digest):
            if (there := await asyncio.to_thread(blobs.stat, digest)) == descriptor.size:
                return
            if there is not None and descriptor.size >= 0:
                raise ImageError(
                    f"{digest} has {there} bytes, and {descriptor.size} by its manifest", code="wrong-size"
                )
            if isinstance(origin, Layout):
                await stop.in_thread(None, partial(origin.copy, descriptor, blobs))
            elif self._offline:
                raise missing_image(f"blob {digest} of {origin.familiar()}", origin.familiar())
            else:
                await self._connect().blob(origin, descriptor, blobs, progress, growing)
            progress(digests.hex_of(digest)[:12], descriptor.size, descriptor.size)

    def _connect(self) -> Registry:
        if self._registry is None:
            from builder.oci.connections import open_transport
            from builder.oci.registry import Registry

            self._registry = Registry(open_transport(os.environ))
        return self._registry

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """One at a time in this process, by name."""
        async with self._guards.setdefault(name, asyncio.Lock()):
            yield

    @asynccontextmanager
    async def _claimed(self, digest: Digest) -> AsyncIterator[None]:
        """One at a time on this machine. Polled, as a blocked flock could not be cancelled."""
        name = locks.fetch_name(digest)
        lock = locks.try_exclusive(self._store.folder, name)
        while lock is None:
            await asyncio.sleep(LOCK_PAUSE)
            lock = locks.try_exclusive(self._store.folder, name)
        with lock:
            yield


def _descriptor(row: Row) -> Descriptor:
    return Descriptor(str(row.get("mediaType") or ""), row["digest"], row["size"])


def _named(row: Row) -> str:
    """The digest of what a name means, of which the row may be one of several platforms."""
    try:
        return digests.parse(str(row[INDEX]))
    except (KeyError, ValueError):
        return str(row["digest"])


def _shown(locator: str) -> str:
    """A locator as people know it."""
    if locator.startswith(LAYOUT):
        return locator.removeprefix(LAYOUT)
    try:
        return reference.parse(locator).familiar()
    except reference.InvalidReference:
        return locator


def _explained(error: ImageError | StoreError, request: ImageRequest) -> BuildError:
    """The error with what it does not know itself: which image, where it is asked for, what may be meant."""
    name = _shown(request.locator)
    if isinstance(error, ImageError):
        if not request.locator.startswith(LAYOUT) and name not in error.message:
            error.message = f"image {name}: {error.message}"
        error.hint = request.hint or error.hint
    return error.at(request.location)


def _lacks(name: str, wanted: Platform, manifests: list[Descriptor]) -> ImageError:
    offered = sorted({str(d.platform) for d in manifests if d.platform and d.platform.os != "unknown"})
    return ImageError(
        f"{name} is not there for {wanted}",
        code="platform-not-found",
        hint=f"it is there for {', '.join(offered)}" if offered else None,
    )
