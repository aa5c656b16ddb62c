"""Images pushed to registries, with events for who watches: by a build, or by `pybuild push`.

The one idea: what is pushed is a parcel (`oci.parcel`), whatever it was made of; names of one repository go
together. It never makes an image, and knows nothing of how one is found.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from builder import origins
from builder.events import ExportFinished, ExportStarted, Log, Progress
from builder.oci.connections import open_transport
from builder.oci.push import Push
from builder.oci.reference import Reference
from builder.oci.upload import Uploader
from builder.unchanged import parcel_of, targets

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.exporters import Export
    from builder.oci.finished import Finished
    from builder.oci.parcel import Parcel
    from builder.oci.transport import Transport
    from builder.store.root import Store


async def push_output(export: Export, image: Finished, store: Store, emit: Emit) -> None:
    """Bring a finished image to where an output's names say. Raises ImageError, StoreError or UsageError."""
    names = targets(export, image)
    insecure = [name.registry for name in names] if export.insecure else []
    held = {one.config: one.config_bytes for one in image.whole() if one.config}
    async with open_transport(os.environ, insecure=insecure, mirrors=False) as transport:
        pushing = Pushing(store, transport, emit)
        await pushing.push(parcel_of(image, store), names, held)
        for tag, beside in image.beside:
            configs = {one.config: one.config_bytes for one in beside.whole() if one.config}
            await pushing.push_beside(tag, parcel_of(beside, store), names, configs)


class Pushing:
    """Pushes by a transport, which it does not close."""

    def __init__(self, store: Store, transport: Transport, emit: Emit) -> None:
        self._store = store
        self._uploader = Uploader(transport)
        self._transport = transport
        self._emit = emit

    async def push(
        self, parcel: Parcel, names: Sequence[Reference], held: Mapping[str, bytes] | None = None
    ) -> None:
        """Make all names mean the image in their registries. held: bytes of blobs that the store lacks.

        Raises ImageError or StoreError; what was pushed by then stays where it is.
        """
        for together in _by_repository(names):
            told = _Told(", ".join(name.familiar() for name in together), self._emit)
            digests = [blob.digest for blob in parcel.blobs]
            push = Push(
                self._uploader,
                self._store.blobs,
                parcel,
                told,
                held=held or {},
                sources=partial(origins.find, self._store, digests),
            )
            push.check()
            await push.push(together)
            await asyncio.to_thread(origins.note, self._store, together[0], digests)
            told.end()

    async def push_beside(
        self, tag: str, parcel: Parcel, names: Sequence[Reference], held: Mapping[str, bytes] | None = None
    ) -> None:
        """Bring what refers to an image to the repositories of its names, under a tag of `oci.beside` where
        that is how it is found there. Raises as `push`.
        """
        from builder.oci.referring import Referring

        for together in _by_repository(names):
            where = Reference(together[0].registry, together[0].repository, tag, None)
            for name, each, configs in await Referring(self._transport).parcels(where, parcel):
                await self.push(each, [name], {**(held or {}), **configs})


class _Told:
    """What is told of one push."""

    def __init__(self, name: str, emit: Emit) -> None:
        self._name = name
        self._emit = emit
        self._begun = time.time()
        self._vertex = f"export {name}"
        emit(ExportStarted(time=self._begun, name=name, verb="pushing"))

    def progress(self, item: str, done: int, total: int) -> None:
        """See oci.push.Told."""
        now = time.time()
        self._emit(Progress(time=now, vertex=self._vertex, item=item, done=done, total=total))

    def say(self, line: str) -> None:
        """See oci.push.Told."""
        self._emit(Log(time=time.time(), vertex=self._vertex, stream=2, line=line))

    def end(self) -> None:
        """It is done."""
        now = time.time()
        self._emit(ExportFinished(time=now, name=self._name, seconds=now - self._begun))


def _by_repository(names: Sequence[Reference]) -> list[list[Reference]]:
    found: dict[str, list[Reference]] = {}
    for name in names:
        found.setdefault(name.name, []).append(name)
    return list(found.values())
