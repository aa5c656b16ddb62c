"""The distribution client's other half: blobs and manifests go to a registry (OCI distribution-spec, "Push").

A blob that is there is not sent, nor is one that the registry has in another repository and mounts from
there. A small one goes in one request, a large one, or one whose connection broke, in chunks that go on where
the registry says it stands. Who is told to come again later does so when the registry says. A manifest comes
last, as it names the rest. It never knows what is uploaded, nor where its bytes are kept.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

import httpx

from builder import digest as digests
from builder import stop
from builder.errors import ImageError
from builder.oci.answers import ATTEMPTS, denied, header, may_pass, pause, retry_after, said, unreachable
from builder.oci.reference import Reference
from builder.oci.spec import Descriptor
from builder.oci.transport import Transport, located

PIECE = 1 << 20  # bytes in memory per transfer
UPLOADS = 4  # at a time
QUESTIONS = 8  # at a time: whether a blob is there
WHOLE = 32 << 20  # blobs up to this go in one request
CHUNK = 64 << 20
MAX_CHUNK = 512 << 20  # a registry may ask for larger ones, within reason
MAX_RESUMES = 20
MAX_SILENCES = 3  # requests that nobody took, or answered, in time
_AGAIN = (408, 429, 500, 502, 503, 504)

# (item, bytes done, bytes in all)
ProgressOf = Callable[[str, int, int], None]
Open = Callable[[], BinaryIO]
Stream = Callable[[], AsyncIterator[bytes]]
Answer = AbstractAsyncContextManager[httpx.Response]


class Outcome(enum.Enum):
    """What it took for a repository to have a blob."""

    THERE = "there"
    MOUNTED = "mounted"
    SENT = "sent"


class _Setback(NamedTuple):
    """A request that did not get through, and may the next time. wait: seconds until then, None: too many."""

    error: ImageError
    wait: float | None


class Uploader:
    """Sends to any number of registries by a transport, which it does not close."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._slots = asyncio.Semaphore(UPLOADS)
        self._questions = asyncio.Semaphore(QUESTIONS)

    async def means(self, reference: Reference, digest: str, media_type: str) -> bool:
        """Whether the reference means the manifest of that digest in its registry now."""
        path = f"{reference.repository}/manifests/{reference.target}"
        accept = {"accept": media_type}
        scope = _scope(reference)
        async with self._transport.open(reference.registry, "HEAD", path, scope, accept) as response:
            told = header(response, "docker-content-digest")
            return response.status_code == 200 and told == digest

    async def has(self, reference: Reference, descriptor: Descriptor) -> bool:
        """Whether the reference's repository has the blob already."""
        async with self._questions:
            return await _has(self._transport, reference, descriptor)

    async def blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        open_blob: Open,
        progress: ProgressOf,
        *,
        mount_from: str = "",
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> Outcome:
        """Make the reference's repository have a blob; what that took. As `bring`, but looks first."""
        if await self.has(reference, descriptor):
            return Outcome.THERE
        return await self.bring(
            reference, descriptor, open_blob, progress, mount_from=mount_from, prepare=prepare
        )

    async def bring(
        self,
        reference: Reference,
        descriptor: Descriptor,
        open_blob: Open,
        progress: ProgressOf,
        *,
        mount_from: str = "",
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> Outcome:
        """Bring a blob to the reference's repository, which lacks it; MOUNTED or SENT.

        open_blob: gives a new stream of its bytes, from the beginning, that can seek. mount_from: another
        repository of the same registry that may have it. prepare: makes the bytes be here, where they have to
        be sent. Raises ImageError for what the registry refuses.
        """
        async with self._slots:
            upload = _Upload(self._transport, reference, descriptor, open_blob, progress)
            if mount_from and await upload.mount(mount_from):
                return Outcome.MOUNTED
            if not upload.is_begun:
                await upload.begin()
            if prepare is not None:
                await prepare()
            if descriptor.size > WHOLE or not await upload.send_whole():
                await upload.send_chunks()
            return Outcome.SENT

    async def manifest(self, reference: Reference, data: bytes, media_type: str) -> None:
        """Put a manifest or an index under the reference's tag, or under its digest. Raises ImageError."""
        path = f"{reference.repository}/manifests/{reference.target}"
        headers = {"content-type": media_type}
        scope = _scope(reference)
        async with self._transport.open(reference.registry, "PUT", path, scope, headers, data) as response:
            if response.status_code not in (200, 201, 202):
                raise await _refused(response, reference, f"the manifest {reference.familiar()}")
            told = header(response, "docker-content-digest")
            if told.startswith("sha256:") and told != digests.of_bytes(data):
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
        self._silences = 0

    @property
    def is_begun(self) -> bool:
        """Whether the registry has opened a session."""
        return bool(self._place)

    async def mount(self, source: str) -> bool:
        """Have the registry take the blob from another repository of its own; False: it does not.

        It may have opened a session instead. Who may not read the other repository, or has a registry that
        knows no mounts, sends the bytes (distribution-spec, "Mounting a blob from another repository").
        """
        path = f"{self._reference.repository}/blobs/uploads/"
        path += f"?mount={self._descriptor.digest}&from={quote(source, safe='/')}"
        scope = f"{_scope(self._reference)} repository:{source}:pull"
        try:
            async with self._ask("POST", path, {"content-length": "0"}, b"", scope) as response:
                if response.status_code in (200, 202):
                    self._begun(response)
                return response.status_code == 201
        except ImageError as error:
            if error.code not in ("registry-denied", "registry-auth"):
                raise
            return False

    async def begin(self) -> None:
        """Open a session at the registry."""
        path = f"{self._reference.repository}/blobs/uploads/"
        async with self._ask("POST", path, {"content-length": "0"}, b"") as response:
            if response.status_code not in (200, 202):
                raise await self._refused(response)
            self._begun(response)

    def _begun(self, response: httpx.Response) -> None:
        self._done = 0
        self._place = ""
        self._move(response)
        least = response.headers.get("oci-chunk-min-length", "")[:12]
        if least.isascii() and least.isdecimal():
            self._chunk = min(max(CHUNK, int(least)), MAX_CHUNK)

    async def send_whole(self) -> bool:
        """Send all in one request; False if it did not get through, and may in chunks."""
        size = self._descriptor.size
        setback = await self._send("PUT", self._closing(), _lengths(size), 0, size, (413,))
        if setback is None:
            return True
        await _wait(setback)
        await self.begin()
        return False

    async def send_chunks(self) -> None:
        """Send in chunks, going on where the registry stands when a connection broke."""
        failures, resumes = 0, 0
        while self._done < self._descriptor.size:
            before = self._done
            setback = await self._send_chunk(failures + 1)
            if setback is None:
                failures = 0
                continue
            failures, resumes = failures + 1, resumes + 1
            if failures >= ATTEMPTS or resumes >= MAX_RESUMES:
                raise setback.error
            await _wait(setback)
            if not await self._find_out():
                await self.begin()
            failures = 0 if self._done > before else failures
        async with self._ask("PUT", self._closing(), {"content-length": "0"}, b"") as response:
            if response.status_code in (201, 204):
                return
            error = await self._refused(response)
        # The session is gone, too, where the same was asked before, and only the answer did not arrive.
        if response.status_code != 404 or not await _has(self._transport, self._reference, self._descriptor):
            raise error

    async def _send_chunk(self, attempt: int) -> _Setback | None:
        """Send the next chunk; None: it has arrived."""
        start = self._done
        length = min(self._chunk, self._descriptor.size - start)
        headers = {**_lengths(length), "content-range": f"{start}-{start + length - 1}"}
        return await self._send("PATCH", self._place, headers, start, length, (404, 416), attempt)

    async def _send(
        self,
        method: str,
        place: str,
        headers: dict[str, str],
        start: int,
        length: int,
        more: tuple[int, ...],
        attempt: int = 1,
    ) -> _Setback | None:
        """Send a part of the bytes; None: it has arrived. more: answers besides `_AGAIN` that are no end."""
        try:
            async with self._ask(method, place, headers, lambda: self._pieces(start, length)) as response:
                if response.status_code in (201, 204) or (method, response.status_code) == ("PATCH", 202):
                    if method == "PATCH":
                        self._move(response)
                    self._done = start + length
                    return None
                error = await self._refused(response)
                if response.status_code not in (*_AGAIN, *more):
                    raise error
                return _Setback(error, retry_after(response.headers.get("retry-after", ""), attempt))
        except httpx.HTTPError as broken:
            error = unreachable(self._reference.registry, broken)
            self._silences += isinstance(broken, httpx.TimeoutException)
            if not may_pass(broken) or self._silences >= MAX_SILENCES:
                raise error from broken
            return _Setback(error, pause(attempt))

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

    def _ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes | Stream | None, scope: str = ""
    ) -> Answer:
        reference = self._reference
        scope = scope or _scope(reference)
        return self._transport.open(reference.registry, method, path, scope, headers, body)

    async def _pieces(self, start: int, length: int) -> AsyncIterator[bytes]:
        """A part of the blob's bytes. Raises ImageError if it is shorter than it should be."""
        with await self._opened() as file:
            file.seek(start)
            left = length
            while left:
                data = await stop.in_thread(None, partial(file.read, min(PIECE, left)))
                if not data:
                    raise ImageError(f"blob {self._descriptor.digest} is cut short", code="blob-damaged")
                left -= len(data)
                yield data
                self._progress(self._item, start + length - left, self._descriptor.size)

    async def _opened(self) -> BinaryIO:
        """The blob's bytes; who is cancelled while a thread opens them leaves no file open."""
        opening = asyncio.get_running_loop().run_in_executor(None, self._open_blob)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise

    async def _refused(self, response: httpx.Response) -> ImageError:
        what = f"blob {self._descriptor.digest} for {self._reference.familiar()}"
        return await _refused(response, self._reference, what)


async def _has(transport: Transport, reference: Reference, descriptor: Descriptor) -> bool:
    path = f"{reference.repository}/blobs/{descriptor.digest}"
    async with transport.open(reference.registry, "HEAD", path, _scope(reference)) as response:
        size = response.headers.get("content-length", "")
        return response.status_code == 200 and size in ("", str(descriptor.size))


def _close(opening: asyncio.Future[BinaryIO]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


async def _wait(setback: _Setback) -> None:
    """Wait until it may be tried again. Raises its error where that would take too long."""
    if setback.wait is None:
        raise setback.error
    await asyncio.sleep(setback.wait)


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
