"""The distribution client: manifests and blobs of a registry (OCI distribution-spec, "Pull").

What arrives is foreign: manifests are bounded and must have the digest that was asked for or announced,
blobs are hashed while they stream to the disk in small pieces. `urls` of descriptors are never followed
(CVE-2020-15157). It never knows what an image is for.
"""

from __future__ import annotations

import asyncio
import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import aiofiles
import httpx
import msgspec

from builder import digest as digests
from builder import stop
from builder.digest import Digest
from builder.errors import ImageError
from builder.oci import spec
from builder.oci.answers import (
    ATTEMPTS,
    SMALL_SECONDS,
    check_plain,
    denied,
    header,
    may_pass,
    pause,
    read_small,
    said,
    unreachable,
)
from builder.oci.documents import MAX_MANIFEST
from builder.oci.patience import Pace, pieces
from builder.oci.reference import Reference, is_tag
from builder.oci.spec import Descriptor
from builder.oci.transport import Transport
from builder.store.blobs import BlobStore, Ingest, WrongContent
from builder.store.failure import store_error
from builder.store.growing import Growing

ACCEPT = ", ".join((spec.OCI_INDEX, spec.DOCKER_INDEX, spec.OCI_MANIFEST, spec.DOCKER_MANIFEST))
PIECE = 256 << 10  # bytes in memory per transfer
DOWNLOADS = 6  # at a time
MAX_RESUMES = 20
# Types that simple servers give to any file: they say nothing of a manifest.
_MEANINGLESS = ("", "application/json", "text/plain", "application/octet-stream", "binary/octet-stream")

# (item, bytes done, bytes in all)
ProgressOf = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest or index as it came: bytes, their digest, and the media type announced ("" if none)."""

    data: bytes
    digest: Digest
    media_type: str


class Registry:
    """A client of all registries that a build needs. Use it in an `async with` block.

    transport: which it closes; `connections.open_transport` gives one with the user's logins and settings.
    """

    def __init__(self, transport: Transport | None = None) -> None:
        self.transport = self._transport = transport or Transport()
        self._slots = asyncio.Semaphore(DOWNLOADS)

    async def __aenter__(self) -> Registry:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def digest_of(self, reference: Reference) -> Digest | None:
        """What a reference means now, without its manifest's bytes; None where the registry does not tell."""
        path = f"{reference.repository}/manifests/{reference.target}"
        async with self._transport.open(
            reference.registry, "HEAD", path, _scope(reference), {"accept": ACCEPT}
        ) as response:
            if response.status_code != 200:
                return None
            return _announced(response)

    async def manifest(self, reference: Reference) -> Fetched:
        """The manifest or index that a reference means. Raises ImageError."""
        try:
            async with asyncio.timeout(SMALL_SECONDS):
                data, response = await self._whole_manifest(reference)
        except httpx.HTTPError as error:
            raise unreachable(reference.registry, error) from error
        except TimeoutError as error:
            raise ImageError(
                f"registry {reference.registry} is too slow", code="registry-unreachable"
            ) from error
        digest = digests.of_bytes(data)
        expected = reference.digest or _announced(response)
        if expected is not None and digest != expected:
            raise ImageError(
                f"the manifest of {reference.familiar()} from registry {reference.registry}"
                f" has the digest {digest}, not {expected}",
                code="wrong-digest",
            )
        return Fetched(data, digest, _media_type(response))

    async def _whole_manifest(self, reference: Reference) -> tuple[bytes, httpx.Response]:
        """A manifest's bytes, asked for again where they break off. Raises as httpx does at last."""
        path = f"{reference.repository}/manifests/{reference.target}"
        what = f"the manifest of {reference.familiar()}"
        for attempt in range(1, ATTEMPTS + 1):
            async with self._transport.open(
                reference.registry, "GET", path, _scope(reference), {"accept": ACCEPT}
            ) as response:
                if response.status_code != 200:
                    raise await self._refused(response, reference)
                try:
                    return await read_small(response, MAX_MANIFEST, what), response
                except httpx.HTTPError as error:
                    if attempt == ATTEMPTS or not may_pass(error):
                        raise
            await asyncio.sleep(pause(attempt))
        raise AssertionError("the last attempt returns or raises")

    async def blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        blobs: BlobStore,
        progress: ProgressOf,
        growing: Growing | None = None,
    ) -> None:
        """Bring a blob of the reference's repository into the store, resuming where a connection breaks.

        growing: for who reads it meanwhile; it ends well here, and fails by its owner. Raises ImageError for
        what the registry does wrong, StoreError where the disk does not take it.
        """
        _check_room(blobs, descriptor)
        with blobs.ingest() as ingest:
            async with self._slots:
                await self._transfer(reference, descriptor, ingest, progress, growing)
            try:
                expected = digests.parse(descriptor.digest)
                await stop.in_thread(None, partial(ingest.commit, expected=expected, size=descriptor.size))
            except WrongContent as error:
                raise ImageError(
                    f"blob {descriptor.digest} from registry {reference.registry} is damaged:"
                    f" {error.message}",
                    code="wrong-digest",
                ) from error
        if growing is not None:
            growing.end()

    async def _transfer(
        self,
        reference: Reference,
        descriptor: Descriptor,
        ingest: Ingest,
        progress: ProgressOf,
        growing: Growing | None,
    ) -> None:
        def note(done: int) -> None:
            progress(item, done, descriptor.size)
            if growing is not None:
                growing.note(done)

        path = f"{reference.repository}/blobs/{descriptor.digest}"
        item = digests.hex_of(digests.parse(descriptor.digest))[:12]
        failures, resumes, farthest, pace = 0, 0, 0, Pace(f"registry {reference.registry}")
        while True:
            headers = {"range": f"bytes={ingest.size}-"} if ingest.size else {}
            try:
                async with self._transport.open(
                    reference.registry, "GET", path, _scope(reference), headers
                ) as response:
                    await self._begin(response, reference, descriptor, ingest)
                    if growing is not None and not ingest.size:
                        growing.begin(ingest.fileno())
                    await _receive(response, ingest, descriptor, note, pace)
                return
            except httpx.HTTPError as error:
                if ingest.size == descriptor.size:
                    return  # what broke is the connection's end
                pace.note(0)
                failures = 1 if ingest.size > farthest else failures + 1
                farthest = max(farthest, ingest.size)
                resumes += 1
                if failures >= ATTEMPTS or resumes >= MAX_RESUMES or not may_pass(error):
                    raise ImageError(
                        f"blob {descriptor.digest} from registry {reference.registry} is cut short:"
                        f" {ingest.size} of {descriptor.size} bytes came",
                        code="truncated-blob",
                    ) from error
                await asyncio.sleep(pause(failures))

    async def _begin(
        self, response: httpx.Response, reference: Reference, descriptor: Descriptor, ingest: Ingest
    ) -> None:
        """Check that an answer continues what is there already, or begin anew.

        Raises ImageError; httpx.RemoteProtocolError where only another request can begin anew.
        """
        if response.status_code == 206 and ingest.size:
            start = response.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
            if start == str(ingest.size):
                return
            raise ImageError(
                f"registry {reference.registry} resumes {descriptor.digest} at the wrong place",
                code="registry",
            )
        if response.status_code == 416 and ingest.size:
            ingest.restart()
            raise httpx.RemoteProtocolError("the rest of a blob is not to be had by itself")
        if response.status_code != 200:
            raise await self._refused(response, reference, descriptor)
        ingest.restart()
        length = response.headers.get("content-length", "")
        if length and length != str(descriptor.size):
            raise ImageError(
                f"blob {descriptor.digest} has {length} bytes in registry {reference.registry},"
                f" and {descriptor.size} by its manifest",
                code="truncated-blob",
            )

    async def _refused(
        self, response: httpx.Response, reference: Reference, blob: Descriptor | None = None
    ) -> ImageError:
        """The error for an answer that is not what was asked for."""
        status = response.status_code
        told = await said(response)
        name = f"blob {blob.digest} of {reference.familiar()}" if blob else reference.familiar()
        if status in (401, 403):
            return denied(reference.registry, told or "it wants a login", name)
        if status == 404:
            hint = None if blob or reference.digest else await self._similar(reference)
            return ImageError(
                f"{name} is not in registry {reference.registry}", code="image-not-found", hint=hint
            )
        if status == 429:
            return ImageError(
                f"registry {reference.registry} has had too many requests", code="registry-busy",
                hint="try again later",
            )  # fmt: skip
        reason = f": {told}" if told else ""
        return ImageError(
            f"registry {reference.registry} answers {status} for {name}{reason}", code="registry"
        )

    async def _similar(self, reference: Reference) -> str | None:
        """A hint that names tags like the one that is not there."""
        path = f"{reference.repository}/tags/list?n=1000"
        try:
            async with (
                asyncio.timeout(CURIOSITY_SECONDS),
                self._transport.open(reference.registry, "GET", path, _scope(reference)) as response,
            ):
                if response.status_code != 200:
                    return None
                data = await read_small(response, MAX_MANIFEST, "the list of tags")
            tags = msgspec.json.decode(data, type=_Tags).tags or []
        except (ImageError, httpx.HTTPError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
            return None  # it is only a hint
        tags = [tag for tag in tags if is_tag(tag)][:MAX_LOOKED_AT]
        near = difflib.get_close_matches(reference.tag or "", tags, 3, 0.4) or sorted(tags)[-3:]
        names = [f"{reference.familiar_name()}:{tag}" for tag in near if tag.isprintable()]
        return f"did you mean {' or '.join(names)}?" if names else None


CURIOSITY_SECONDS = 5.0
MAX_LOOKED_AT = 1000  # tags that may have been meant


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


def _check_room(blobs: BlobStore, descriptor: Descriptor) -> None:
    """Refuse what cannot be meant, or taken in. Raises ImageError."""
    try:
        disk = os.statvfs(blobs.folder)
    except OSError:
        return  # which is told when something is written
    if descriptor.size > disk.f_frsize * disk.f_bfree:
        raise ImageError(
            f"blob {descriptor.digest} has {descriptor.size} bytes, and the disk of {blobs.folder} no room"
            " for them",
            code="no-room",
            hint="`pybuild prune` makes room",
        )


async def _receive(
    response: httpx.Response,
    ingest: Ingest,
    descriptor: Descriptor,
    done: Callable[[int], None],
    pace: Pace,
) -> None:
    """Write a body behind what is there, hashing it; stops at once at a byte too many.

    Raises ImageError, StoreError, and what httpx raises: also where a body that ends with its connection, or
    part of what was asked for, is too short.
    """
    async with aiofiles.open(ingest.fileno(), "wb", buffering=0, closefd=False) as file:
        async for piece in pieces(response, PIECE, pace):
            if ingest.size + len(piece) > descriptor.size:
                raise ImageError(
                    f"blob {descriptor.digest} is longer than the {descriptor.size} bytes of its manifest",
                    code="wrong-digest",
                )
            try:
                view = memoryview(piece)
                while view:
                    view = view[await stop.outlast(asyncio.ensure_future(file.write(view))) :]
            except OSError as error:
                raise store_error(error, ingest.folder, "writing a blob") from error
            ingest.feed(piece)
            done(ingest.size)
    if ingest.size < descriptor.size:
        check_plain(response, f"blob {descriptor.digest}")  # some say so of what was packed before
        raise httpx.RemoteProtocolError("a body ended too early")


def _scope(reference: Reference) -> str:
    return f"repository:{reference.repository}:pull"


def _media_type(response: httpx.Response) -> str:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return "" if kind in _MEANINGLESS else kind


def _announced(response: httpx.Response) -> Digest | None:
    """Docker-Content-Digest, where it is one that can be checked."""
    try:
        return digests.parse(header(response, "docker-content-digest"))
    except ValueError:
        return None
