"""The distribution client's other half: blobs and manifests go to a registry (OCI distribution-spec, "Push").

A blob that is there is not sent. A small one goes in one request, a large one, or one whose connection broke,
in chunks that go on where the registry says it stands. A manifest comes last, as it names the rest. It never
knows what is uploaded, nor where its bytes are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import BinaryIO
from urllib.parse import quote

import httpx

from builder import digest as digests
from builder.errors import ImageError
from builder.oci.answers import ATTEMPTS, denied, may_pass, pause, said, unreachable
from builder.oci.reference import Reference
from builder.oci.spec import Descriptor
from builder.oci.transport import Transport, located

PIECE = 256 << 10  # bytes in memory per transfer
UPLOADS = 4  # at a time
WHOLE = 32 << 20  # blobs up to this go in one request
CHUNK = 16 << 20
MAX_CHUNK = 512 << 20  # a registry may ask for larger ones, within reason
MAX_RESUMES = 20

# (item, bytes done, bytes in all)
ProgressOf = Callable[[str, int, int], None]
Open = Callable[[], BinaryIO]
Stream = Callable[[], AsyncIterator[bytes]]
Answer = AbstractAsyncContextManager[httpx.Response]


class Uploader:
    """Sends to any number of registries by a transport, which it does not close."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._slots = asyncio.Semaphore(UPLOADS)

    async def has_blob(self, reference: Reference, descriptor: Descriptor) -> bool:
        """Whether the reference's repository has the blob already."""
        path = f"{reference.repository}/blobs/{descriptor.digest}"
        async with self._transport.open(reference.registry, "HEAD", path, _scope(reference)) as response:
            size = response.headers.get("content-length", "")
            return response.status_code == 200 and size in ("", str(descriptor.size))

    async def blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        open_blob: Open,
        progress: ProgressOf,
        *,
        mount_from: str = "",
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> bool:
        """Make the reference's repository have a blob; whether its bytes had to be sent.

        open_blob: gives a new stream of its bytes, from the beginning, that can seek. mount_from: another
        repository of the same registry that may have it. prepare: makes the bytes be here, where they have to
        be sent. Raises ImageError for what the registry refuses.
        """
        async with self._slots:
            if await self.has_blob(reference, descriptor):
                return False
            upload = _Upload(self._transport, reference, descriptor, open_blob, progress)
            if not await upload.begin(mount_from):
                return False
            if prepare is not None:
                await prepare()
            if descriptor.size > WHOLE or not await upload.send_whole():
                await upload.send_chunks()
            return True

    async def manifest(self, reference: Reference, data: bytes, media_type: str) -> None:
        """Put a manifest or an index under the reference's tag, or under its digest. Raises ImageError."""
        path = f"{reference.repository}/manifests/{reference.target}"
        headers = {"content-type": media_type}
        scope = _scope(reference)
        async with self._transport.open(reference.registry, "PUT", path, scope, headers, data) as response:
            if response.status_code not in (200, 201, 202):
                raise await _refused(response, reference, f"the manifest {reference.familiar()}")
            told = response.headers.get("docker-content-digest")
            if told and told.startswith("sha256:") and told != digests.of_bytes(data):
                raise ImageError(
                    f"registry {reference.registry} has put {told} under {reference.familiar()}, not what it"
                    " was given",
                    code="wrong-digest",
                )


class _Upload:
    """One blob on its way. `_place` is where the next request goes, `_done` how much the registry has."""

    def __init__(
        self,
        transport: Transport,
        reference: Reference,
        descriptor: Descriptor,
        open_blob: Open,
        progress: ProgressOf,
    ) -> None:
        self._transport = transport
        self._reference = reference
        self._descriptor = descriptor
        self._open_blob = open_blob
        self._progress = progress
        self._item = digests.hex_of(digests.parse(descriptor.digest))[:12]
        self._place = ""
        self._done = 0
        self._chunk = CHUNK

    async def begin(self, mount_from: str = "") -> bool:
        """Open a session at the registry; False: it has mounted the blob from the other repository."""
        path = f"{self._reference.repository}/blobs/uploads/"
        if mount_from:
            path += f"?mount={self._descriptor.digest}&from={quote(mount_from, safe='/')}"
        self._done = 0
        async with self._ask("POST", path, {"content-length": "0"}, b"") as response:
            if response.status_code == 201 and mount_from:
                return False
            if response.status_code not in (200, 202):
                raise await self._refused(response)
            self._move(response)
            least = response.headers.get("oci-chunk-min-length", "")[:12]
            if least.isascii() and least.isdecimal():
                self._chunk = min(max(CHUNK, int(least)), MAX_CHUNK)
        return True

    async def send_whole(self) -> bool:
        """Send all in one request; False if it did not get through, and may in chunks."""
        size = self._descriptor.size
        try:
            async with self._ask(
                "PUT", self._closing(), _lengths(size), lambda: self._pieces(0, size)
            ) as response:
                if response.status_code in (201, 204):
                    return True
                if response.status_code not in (408, 413, 429, 500, 502, 503, 504):
                    raise await self._refused(response)
        except httpx.HTTPError as error:
            if not may_pass(error):
                raise unreachable(self._reference.registry, error) from error
        await self.begin()
        return False

    async def send_chunks(self) -> None:
        """Send in chunks, going on where the registry stands when a connection broke."""
        failures, resumes = 0, 0
        while self._done < self._descriptor.size:
            before = self._done
            problem = await self._send_chunk()
            if problem is None:
                failures = 0
                continue
            failures, resumes = failures + 1, resumes + 1
            if failures >= ATTEMPTS or resumes >= MAX_RESUMES:
                raise problem
            await asyncio.sleep(pause(failures))
            if not await self._find_out():
                await self.begin()
            failures = 0 if self._done > before else failures
        async with self._ask("PUT", self._closing(), {"content-length": "0"}, b"") as response:
            if response.status_code not in (201, 204):
                raise await self._refused(response)

    async def _send_chunk(self) -> ImageError | None:
        """Send the next chunk; the error of one that did not arrive, and may the next time."""
        start = self._done
        length = min(self._chunk, self._descriptor.size - start)
        headers = {**_lengths(length), "content-range": f"{start}-{start + length - 1}"}
        try:
            async with self._ask(
                "PATCH", self._place, headers, lambda: self._pieces(start, length)
            ) as response:
                if response.status_code in (201, 202, 204):
                    self._move(response)
                    self._done = start + length
                    return None
                error = await self._refused(response)
                if response.status_code not in (404, 408, 416, 429, 500, 502, 503, 504):
                    raise error
                return error
        except httpx.HTTPError as broken:
            if not may_pass(broken):
                raise unreachable(self._reference.registry, broken) from broken
            return unreachable(self._reference.registry, broken)

    async def _find_out(self) -> bool:
        """Ask how much the registry has; False if it knows nothing of this session any more."""
        async with self._ask("GET", self._place, {}, None) as response:
            first, dash, last = response.headers.get("range", "").removeprefix("bytes=").partition("-")
            known = first == "0" and dash and last.isascii() and last.isdecimal() and len(last) < 19
            if response.status_code not in (200, 204) or not known:
                return False
            self._move(response)
            self._done = int(last) + 1 if int(last) else 0
        return self._done <= self._descriptor.size

    def _move(self, response: httpx.Response) -> None:
        self._place = located(response) or self._place
        if not self._place:
            raise ImageError(
                f"registry {self._reference.registry} does not say where a blob is to go", code="registry"
            )

    def _closing(self) -> str:
        """Where the request goes that ends the upload."""
        joint = "&" if "?" in self._place else "?"
        return f"{self._place}{joint}digest={quote(self._descriptor.digest, safe='')}"

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes | Stream | None) -> Answer:
        reference = self._reference
        return self._transport.open(reference.registry, method, path, _scope(reference), headers, body)

    async def _pieces(self, start: int, length: int) -> AsyncIterator[bytes]:
        """A part of the blob's bytes. Raises ImageError if it is shorter than it should be."""
        with await asyncio.to_thread(self._open_blob) as file:
            file.seek(start)
            left = length
            while left:
                data = await asyncio.to_thread(file.read, min(PIECE, left))
                if not data:
                    raise ImageError(f"blob {self._descriptor.digest} is cut short", code="blob-damaged")
                left -= len(data)
                yield data
                self._progress(self._item, start + length - left, self._descriptor.size)

    async def _refused(self, response: httpx.Response) -> ImageError:
        what = f"blob {self._descriptor.digest} for {self._reference.familiar()}"
        return await _refused(response, self._reference, what)


def _lengths(length: int) -> dict[str, str]:
    return {"content-type": "application/octet-stream", "content-length": str(length)}


async def _refused(response: httpx.Response, reference: Reference, what: str) -> ImageError:
    """The error for an answer that is no success."""
    status, text = response.status_code, await said(response)
    if status in (401, 403):
        error = denied(reference.registry, text or "it wants a login", what)
        error.hint = "who writes there must have logged in"
        return error
    if status == 429:
        return ImageError(
            f"registry {reference.registry} has had too many requests", code="registry-busy",
            hint="try again later",
        )  # fmt: skip
    reason = f": {text}" if text else ""
    return ImageError(f"registry {reference.registry} answers {status} to {what}{reason}", code="registry")


def _scope(reference: Reference) -> str:
    return f"repository:{reference.repository}:pull,push"
