"""What caches elsewhere say: their documents, read. For builds, and for plans, which bring nothing else.

Whatever is wrong with a cache is a warning, and as if it had nothing to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from builder.errors import BuildError, ImageError
from builder.oci import documents
from builder.oci.spec import Index, Manifest
from builder.output import INLINE
from builder.remotecache import document
from builder.remotecache.document import Cache
from builder.remotecache.place import Connection, Place, open_place

if TYPE_CHECKING:
    from builder.digest import Digest
    from builder.graph.selection import Selection
    from builder.remotecache.document import Snapshot
    from builder.request import BuildRequest
    from builder.store.root import Store

MAX_MANIFESTS = 32  # of an index, whose images may each have a cache


class Said:
    """What the caches of a request say. caches: (what people call it, what it says), in the order asked."""

    def __init__(self, caches: list[tuple[str, Cache]]) -> None:
        self.caches = caches

    def record(self, key: Digest) -> tuple[str, Snapshot] | None:
        """The name of the first cache that has a record under a key, and the blobs of what it names."""
        for name, cache in self.caches:
            if (blobs := cache.snapshot(key)) is not None:
                return name, blobs
        return None

    def content(self, key: Digest, selection: Selection) -> Digest | None:
        """The content digest of a selection of what a key names."""
        for _, cache in self.caches:
            if (found := cache.content(key, selection)) is not None:
                return found
        return None


async def ask(request: BuildRequest, store: Store, warn: Callable[[str], None]) -> Said:
    """Read what the caches say that a request names. Raises UsageError for a wrong configuration file."""
    if request.offline:
        request = without_registries(request, warn)
    connection = Connection()
    caches: list[tuple[str, Cache]] = []
    try:
        for wanted in request.cache_from:
            place = open_place(wanted, store, connection)
            try:
                caches += [(place.name, cache) for cache in await read_caches(place)]
            except BuildError as error:
                warn(wrong_with(place, error))
    finally:
        await connection.close()
    return Said(caches)


def wrong_with(place: Place, error: BuildError) -> str:
    """What is wrong with a cache, as a warning."""
    return f"cache from {place.name}: {error.message}"


def without_registries(request: BuildRequest, warn: Callable[[str], None]) -> BuildRequest:
    """The request without what it would need a connection for: all goes on as without any cache."""
    names = [cache.ref for cache in request.cache_from if cache.type == "registry"]
    names += [cache.ref for cache in request.cache_to if cache.type == "registry"]
    for name in dict.fromkeys(names):
        warn(f"cache {name} is left out: --offline asks no registry")
    return request.but(
        cache_from=tuple(cache for cache in request.cache_from if cache.type != "registry"),
        cache_to=tuple(cache for cache in request.cache_to if cache.type != "registry"),
    )


async def read_caches(place: Place) -> list[Cache]:
    """What a place has: a cache, or the caches in an image, or in the images of an index.

    Raises ImageError, also for an image that has none.
    """
    manifests: list[Manifest] = []
    for data, media_type in await place.manifests():
        found = _parse(data, media_type, place)
        if isinstance(found, Manifest):
            manifests.append(found)
            continue
        for descriptor in found.manifests[:MAX_MANIFESTS]:
            inner = _parse(await place.manifest(descriptor), descriptor.media_type, place)
            if isinstance(inner, Manifest):
                manifests.append(inner)
    caches = [cache for manifest in manifests if (cache := await _read(place, manifest)) is not None]
    if not caches:
        raise ImageError(f"{place.name} is an image without a cache", code="no-cache")
    return caches


def _parse(data: bytes, media_type: str, place: Place) -> Manifest | Index:
    return documents.parse_manifest_or_index(data, media_type, place.name, further=(document.CONFIG_TYPE,))


async def _read(place: Place, manifest: Manifest) -> Cache | None:
    data = await place.read(manifest.config, document.MAX_DOCUMENT)
    if manifest.config.media_type == document.CONFIG_TYPE:
        return document.parse(data, manifest.layers, place.name)
    config = documents.parse_config(data, place.name)
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:  # it was read already, so this is about its keys
        raise ImageError(
            f"the config of {place.name} is not valid: {error}", code="invalid-config"
        ) from error
    if INLINE not in fields:
        return None
    inline = bytes(fields[INLINE])
    return document.parse_inline(inline, manifest.layers, config.rootfs.diff_ids, place.name)
