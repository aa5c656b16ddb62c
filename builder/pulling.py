"""The layers of a base image: brought, and unpacked while their bytes still come.

The one idea: who unpacks reads the blob as it grows, and is told of its end only once it was verified; a
layer counts when its blob, and its tar, have the digests that the image says. What goes wrong on that short
way is nobody's: a blob that comes whole after all is unpacked from the store, and whatever is wrong with it
is told there, once.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from builder import stop
from builder.errors import BuildError
from builder.store.growing import Growing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import ThreadPoolExecutor

    from builder.oci.spec import LayerBlob
    from builder.ops.source import Image
    from builder.parts import Parts
    from builder.snapshots.layers import LayerStore
    from builder.snapshots.snapshot import LayerId
    from builder.sources.image import ProgressOf

    Fetch = Callable[[Growing], Awaitable[None]]

P = ParamSpec("P")
T = TypeVar("T")


class Hands(Protocol):
    """What it takes to unpack: where layers lie, threads for what is still coming, threads for all else."""

    @property
    def layers(self) -> LayerStore:
        """Where layers lie."""
        ...

    @property
    def unpackers(self) -> ThreadPoolExecutor:
        """Threads that wait for what is downloaded."""
        ...

    async def thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function in a thread; cancelled, it is told to stop, and waited for."""
        ...


async def bring_layer(
    parts: Parts, op: Image, blob: LayerBlob, progress: ProgressOf, *, unpacked: bool
) -> LayerId:
    """The layer of an image's blob, brought if it is not here. Raises ImageError or StoreError."""
    fetch = partial(parts.images.fetch, op, blob.descriptor, progress)
    return await bring(parts, blob, fetch, unpacked=unpacked)


async def bring(parts: Hands, blob: LayerBlob, fetch: Fetch, *, unpacked: bool) -> LayerId:
    """The layer of a blob that `fetch` brings into the store, if it is not here. Raises what that raises, and
    ImageError or StoreError."""
    unpacking: asyncio.Task[LayerId | None] | None = None

    def begin() -> None:
        nonlocal unpacking
        work = partial(parts.layers.import_growing, blob, growing, unpacked=unpacked)
        unpacking = asyncio.create_task(stop.in_thread(parts.unpackers, work))

    growing = Growing(begin)
    try:
        await fetch(growing)
        layer = await _done(unpacking) if unpacking is not None else None
    finally:
        growing.fail()
        if unpacking is not None:
            await _ended(unpacking)
        growing.close()
    if layer is not None:
        return layer
    return await parts.thread(parts.layers.import_blob, blob, unpacked=unpacked)


async def _done(unpacking: asyncio.Task[LayerId | None]) -> LayerId | None:
    """What became of it; None where it did not go well."""
    try:
        return await unpacking
    except (BuildError, OSError):
        return None


async def _ended(unpacking: asyncio.Task[LayerId | None]) -> None:
    """Stop it if it is still going, and wait until it has."""
    unpacking.cancel()
    await asyncio.wait((unpacking,))
    unpacking.cancelled() or unpacking.exception()
