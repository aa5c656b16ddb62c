"""`--cache-to`: a build's records and layers brought to a registry, a folder, or into its image.

Blobs go first, those that are there are not sent again; the manifest, which names them, goes last, so that
whoever reads meanwhile, and whoever comes after one that was killed, finds the cache that was or the one that
is. A cache that cannot be written fails the build, after the image was made, unless `ignore-error` says
otherwise.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, cast

from builder import digest as digests
from builder.cachemounts import CacheMounts
from builder.errors import BuildError, ImageError, reason_of
from builder.events import ExportFinished, ExportStarted, Progress, Warned
from builder.oci import reference, spec
from builder.oci.compressed import Compression
from builder.oci.documents import MAX_MANIFEST, compression_of
from builder.oci.spec import Descriptor, Manifest
from builder.remotecache import document, mounts
from builder.remotecache.document import KeptMount
from builder.remotecache.folder import Folder
from builder.remotecache.gathering import Gathered, Gathering, Solved, together
from builder.snapshots import forms
from builder.solver.solver import first_error
from builder.store.ingest import IngestFolder

if TYPE_CHECKING:
    from builder.oci.spec import LayerBlob
    from builder.oci.upload import Uploader
    from builder.parts import Parts
    from builder.remotecache.taking import Remote, Taking
    from builder.request import CacheTo
    from builder.snapshots.snapshot import LayerId

Open = Callable[[], BinaryIO]


async def give(wanted: CacheTo, solved: Solved, parts: Parts, taking: Taking) -> None:
    """Write one cache; one in the image is written with it. Raises BuildError."""
    if wanted.type == "inline":
        return
    name = f"cache to {reference.parse(wanted.ref).familiar() if wanted.ref else wanted.dest}"
    begun = time.time()
    parts.emit(ExportStarted(time=begun, name=name))
    try:
        await _Giving(wanted, solved, parts, taking, name).give()
    except (BuildError, OSError, ExceptionGroup) as error:
        problem = _explained(name, error)
        if not wanted.ignore_error:
            raise problem from error
        parts.emit(Warned(time=time.time(), message=problem.message))
    now = time.time()
    parts.emit(ExportFinished(time=now, name=name, seconds=now - begun))


async def inline_document(solved: Solved, parts: Parts, taking: Taking) -> bytes:
    """What the config of the one target's image says of a cache in it."""

    async def pack(_layer: LayerId) -> LayerBlob:
        raise AssertionError("the image's layers are packed with it")

    gathering = Gathering(solved, parts.layers, parts.cache, taking, pack)
    return (await gathering.inline()).encode(inline=True)


def _explained(name: str, error: BaseException) -> BuildError:
    """The error, told of the cache that could not be written."""
    if isinstance(error, BaseExceptionGroup):
        error = first_error(error)
    if isinstance(error, OSError):
        return BuildError(f"exporting {name} failed: {reason_of(error)}", code="cache-export-failed")
    if not isinstance(error, BuildError):
        raise error
    told = BuildError(f"exporting {name} failed: {error.message}", code=error.code, hint=error.hint)
    told.hint = told.hint or "ignore-error=true makes this a warning"
    return told


class _Lost(Exception):
    """A blob that was to go on from another cache cannot be had from there."""

    def __init__(self, remote: Remote, digest: str, error: ImageError) -> None:
        super().__init__(digest)
        self.remote = remote
        self.digest = digest
        self.error = error


class _Giving:
    """One cache on its way."""

    def __init__(self, wanted: CacheTo, solved: Solved, parts: Parts, taking: Taking, name: str) -> None:
        self._wanted = wanted
        self._solved = solved
        self._parts = parts
        self._taking = taking
        self._name = name
        # A request has it as plain data, which was checked.
        self._compression = Compression(wanted.compression, wanted.level)  # type: ignore[arg-type]
        self._streams: dict[str, Open] = {}

    async def give(self) -> None:
        """Bring everything there. What is elsewhere, and turns out to be damaged there, does not go along."""
        while True:
            try:
                await self._give()
                return
            except _Lost as lost:  # each time another one
                self._taking.damaged.add(lost.digest)
                self._taking.warn(lost.remote, lost.error)

    async def _give(self) -> None:
        gathering = Gathering(self._solved, self._parts.layers, self._parts.cache, self._taking, self._pack)
        gathered = await gathering.gather(everything=self._wanted.mode == "max")
        with ExitStack() as stack:
            await self._add_mounts(gathered, stack)
            config = gathered.writing.encode()
            manifest = _manifest(gathered, config, self._name)
            if self._wanted.type == "registry":
                await self._upload(gathered, config, manifest)
            else:
                await self._write(gathered, config, manifest)

    async def _pack(self, layer: LayerId) -> LayerBlob:
        return await self._parts.thread(self._make_blob, layer)

    def _make_blob(self, layer: LayerId) -> LayerBlob:
        blob = self._parts.layers.blob(layer, self._compression)
        if self._wanted.force and compression_of(blob.descriptor, layer) != self._compression.kind:
            return forms.recompress(self._parts.store.blobs, blob, self._compression)
        return blob

    # ── cache mounts ─────────────────────────────────────────────────────────────────────────────────────

    async def _add_mounts(self, gathered: Gathered, stack: ExitStack) -> None:
        """Pack the cache mounts that go along, each while no step has it. What is too large stays here."""
        found = mounts.mounts_of(self._solved.vertices, self._wanted.mounts)
        for name in self._wanted.mounts:
            if not any(identity == name for identity, _ in found):
                self._warn(f"no step has a cache mount {name} that could go along")
        if not found:
            return
        work = stack.enter_context(IngestFolder(self._parts.store.folder))
        caches = CacheMounts(self._parts.store.folder)
        for number, (identity, start) in enumerate(found):
            async with caches.hold(caches.name(identity, start), "locked") as folder:
                if not os.path.isdir(folder):
                    continue
                path = os.path.join(work.path, str(number))
                try:
                    blob = await self._parts.thread(self._pack_mount, folder, path)
                except mounts.TooLarge as error:
                    self._warn(f"cache mount {identity} stays here: {error.message}")
                    continue
            self._streams[blob.descriptor.digest] = partial(_open, path)
            place = gathered.writing.place(blob)
            gathered.writing.mounts.append(KeptMount(identity, start, place))

    def _pack_mount(self, folder: str, path: str) -> LayerBlob:
        with open(path, "xb") as out:
            return mounts.pack(folder, self._wanted.mounts_max, out, self._compression)

    def _warn(self, message: str) -> None:
        self._parts.emit(Warned(time=time.time(), message=f"{self._name}: {message}"))

    # ── to a registry ────────────────────────────────────────────────────────────────────────────────────

    async def _upload(self, gathered: Gathered, config: bytes, manifest: Manifest) -> None:
        from builder.oci.upload import Uploader

        where = reference.parse(self._wanted.ref)
        uploader = Uploader(self._taking.connection.registry().transport)
        await together(self._upload_blob(uploader, where, layer, gathered) for layer in manifest.layers)
        await uploader.blob(where, manifest.config, partial(_stream, config), self._progress)
        await uploader.manifest(where, spec.encode(manifest), manifest.media_type)

    async def _upload_blob(
        self, uploader: Uploader, where: reference.Reference, blob: Descriptor, gathered: Gathered
    ) -> None:
        remote = gathered.elsewhere.get(blob.digest)
        source = remote.place.repository(where.registry) if remote is not None else ""
        await uploader.blob(
            where,
            blob,
            self._opener(blob),
            self._progress,
            mount_from=source if source != where.repository else "",
            prepare=partial(self._bring, blob, remote),
        )

    # ── to a folder ──────────────────────────────────────────────────────────────────────────────────────

    async def _write(self, gathered: Gathered, config: bytes, manifest: Manifest) -> None:
        folder = Folder(self._wanted.dest, self._taking.damaged)
        async with folder.alone():
            for blob in manifest.layers:
                if not folder.has(blob):
                    await self._bring(blob, gathered.elsewhere.get(blob.digest))
                    await self._parts.thread(folder.add, blob, self._opener(blob))
            await self._parts.thread(folder.add, manifest.config, partial(_stream, config))
            data = spec.encode(manifest)
            await self._parts.thread(folder.finish, data, self._wanted.tag, reset=self._wanted.reset)

    # ── both ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _bring(self, blob: Descriptor, remote: Remote | None) -> None:
        """Make a blob that is elsewhere be in the store. Raises _Lost where it cannot be had."""
        if remote is None:
            return
        try:
            await remote.place.bring(blob, self._parts.store, self._progress)
        except ImageError as error:
            raise _Lost(remote, blob.digest, error) from error

    def _opener(self, blob: Descriptor) -> Open:
        """What opens a blob, of the store or of a cache mount."""
        packed = self._streams.get(blob.digest)
        return packed or partial(self._parts.store.blobs.open, digests.parse(blob.digest))

    def _progress(self, item: str, done: int, total: int) -> None:
        vertex = digests.Digest(f"export {self._name}")
        self._parts.emit(Progress(time=time.time(), vertex=vertex, item=item, done=done, total=total))


def _manifest(gathered: Gathered, config: bytes, name: str) -> Manifest:
    """The manifest of a cache. Raises BuildError where registries would not take it."""
    manifest = Manifest(
        schema_version=2,
        media_type=spec.OCI_MANIFEST,
        config=Descriptor(document.CONFIG_TYPE, digests.of_bytes(config), len(config)),
        layers=tuple(_bare(blob.descriptor) for blob in gathered.writing.blobs),
    )
    if len(spec.encode(manifest)) > MAX_MANIFEST or len(config) > document.MAX_DOCUMENT:
        raise BuildError(f"{name} has too many layers: {len(manifest.layers)}", code="cache-export-failed")
    return manifest


def _bare(descriptor: Descriptor) -> Descriptor:
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)


def _open(path: str) -> BinaryIO:
    return open(path, "rb")


def _stream(data: bytes) -> BinaryIO:
    import io

    return cast(BinaryIO, io.BytesIO(data))
