"""Files on the web: asked for on each build, fetched once while they stay the same.

What a URL gave is remembered with the ETag that the server had for it, and the server is asked whether that
still holds. A modification time would not do: it may stay while the bytes change. Without an ETag the file
is fetched anew; where it proves to be the same, the layer is the old one. Who is offline takes what came
last.

Nothing of what a server says names a path here. Credentials (those in the URL, or the secrets
HTTP_AUTH_HEADER_host and HTTP_AUTH_TOKEN_host) go to the URL's own origin, never where it redirects
(CVE-2018-18074). A redirect from https to http is followed only if a checksum says what must come.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO

import httpx

from builder.compiler.lock import COMMAND
from builder.compiler.remotes import redact
from builder.digest import Digest, from_hex, of_value
from builder.errors import BuildError, ImageError
from builder.oci import answers, clients, compression, patience, transport
from builder.oci.urls import join_url, read_url
from builder.ops.source import Http
from builder.snapshots.snapshot import FILE, Entry, LayerId
from builder.sources import offline
from builder.sources.shelf import NewLayer, ProgressOf, Shelf, no_progress, open_new
from builder.store.failure import told_as

ATTEMPTS = 4
AGAIN = (408, 429, 500, 502, 503, 504)
REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 10
MAX_SIZE = 1 << 40  # bytes; a disk is full long before
MAX_HEADER = 1024
MAX_RATIO = 200  # of a body that comes compressed, after its first megabytes
BLOCK = 1 << 20
REMEMBERED = "http"


@dataclass(frozen=True, slots=True)
class Known:
    """What a URL gave: the ETag it had, the digest and the time (nanoseconds) of the file."""

    etag: str
    digest: str
    mtime: int

    def plain(self, filename: str) -> list[Any]:
        """What a file of this content is kept under."""
        return ["http", 1, self.digest, filename, self.mtime]


async def fetch(shelf: Shelf, op: Http, progress: ProgressOf = no_progress) -> LayerId:
    """The layer with the file. Raises BuildError where it cannot be had, or is not what it should be."""
    download = Download(shelf, op, progress)
    if shelf.offline:
        return download.kept()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await download.run(attempt)
        except _Again as again:
            await asyncio.sleep(again.seconds)
        except httpx.HTTPError as error:
            if attempt == ATTEMPTS or not answers.may_pass(error):
                raise _failure(op.url, error) from error
            await asyncio.sleep(answers.pause(attempt))
    raise AssertionError("the last attempt returns or raises")


class _Again(Exception):
    """The server is busy, and may be asked again after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


class Download:
    """A file that is asked for."""

    def __init__(self, shelf: Shelf, op: Http, progress: ProgressOf) -> None:
        self.shelf = shelf
        self.op = op
        self.shown = redact(op.url)
        self.progress = progress
        self.begun = time.time()
        self.name = of_value(["http", op.url])

    def kept(self) -> LayerId:
        """What is here of it. Raises BuildError where nothing is, or another file than it should be."""
        known = self._recall()
        layer = self.shelf.find(known.plain(self.op.filename)) if known else None
        if known is None or layer is None or self.op.checksum not in ("", known.digest):
            raise offline.missing(f"{self.shown} {self.op.checksum}".rstrip())
        return layer

    async def run(self, attempt: int) -> LayerId:
        """Ask once. Raises _Again, if this is not the last attempt, and httpx's errors."""
        known = self._recall()
        kept = self.shelf.find(known.plain(self.op.filename)) if known and known.etag else None
        headers = {"if-none-match": known.etag} if known and kept else {}
        async with _opened(self.op, self._credentials(), headers) as response:
            if kept and known and _still_holds(response, known):
                self._check(known.digest)
                return kept
            if response.status_code in AGAIN and attempt < ATTEMPTS:
                seconds = answers.retry_after(response.headers.get("retry-after", ""), attempt)
                if seconds is not None:
                    raise _Again(seconds)
            if not response.is_success:
                status = f"{response.status_code} {response.reason_phrase}".rstrip()
                raise BuildError(f"{self.shown}: the server answers {status}", code="fetch-failed")
            return await self._take(response)

    async def _take(self, response: httpx.Response) -> LayerId:
        with NewLayer(self.shelf) as new, told_as(self.shelf.root, f"writing {self.op.filename!r}"):
            os.mkdir(new.tree, 0o755)
            path = os.path.join(new.tree, self.op.filename)
            with open_new(path) as out:
                digest, size = await self._receive(response, out, new)
            self._check(digest)
            known = Known(_etag(response), digest, _mtime(response))
            plain = known.plain(self.op.filename)
            layer = self.shelf.find(plain)
            if layer is None:
                os.utime(path, ns=(known.mtime, known.mtime))
                entry = Entry(self.op.filename, FILE, 0o600, 0, 0, size, known.mtime, digest=digest)
                label, seconds = f"fetch {self.shown}", time.time() - self.begun
                layer = self.shelf.keep(plain, new.place([entry]), label, seconds)
            self._remember(known)
            return layer

    async def _receive(self, response: httpx.Response, out: BinaryIO, new: NewLayer) -> tuple[Digest, int]:
        """Write the file, as it is without a Content-Encoding (RFC 9110, 8.4); its digest and size."""
        if response.headers.get("content-encoding", "").lower() != "gzip":
            return await self._pass_on(response, out)
        with open_new(os.path.join(new.path, "encoded")) as encoded:
            await self._pass_on(response, encoded)
            encoded.seek(0)
            return await asyncio.to_thread(_decode, encoded, out, self.shown)

    async def _pass_on(self, response: httpx.Response, out: BinaryIO) -> tuple[Digest, int]:
        sha, size = hashlib.sha256(), 0
        total = response.headers.get("content-length", "")
        expected = int(total) if total.isascii() and total.isdecimal() and len(total) < 16 else 0
        async for block in patience.pieces(response, BLOCK, patience.Pace(self.shown)):
            size += len(block)
            if size > MAX_SIZE:
                raise BuildError(f"{self.shown} does not end", code="too-large")
            await asyncio.to_thread(_write, out, sha, block)
            self.progress(self.shown, size, expected)
        return from_hex(sha.hexdigest()), size

    def _check(self, digest: str) -> None:
        if self.op.checksum not in ("", digest):
            hint = "it is another file than was meant, or --checksum is out of date"
            raise BuildError(
                f"{self.shown} has the checksum {digest}, not {self.op.checksum}",
                code="wrong-checksum",
                hint=f"that is what the lock file has: {COMMAND}" if self.op.locked else hint,
            )

    def _credentials(self) -> str | None:
        """The Authorization for the URL's own origin."""
        url = _url(self.op)
        if header := self.shelf.secret_of(f"HTTP_AUTH_HEADER_{url.host}"):
            return header.decode("latin-1").strip()
        if token := self.shelf.secret_of(f"HTTP_AUTH_TOKEN_{url.host}"):
            return "Bearer " + token.decode("latin-1").strip()
        if not url.userinfo:
            return None
        request = httpx.Request("GET", url)
        next(httpx.BasicAuth(url.username, url.password).auth_flow(request))
        return request.headers["authorization"]

    def _recall(self) -> Known | None:
        text = self.shelf.cache.recall(REMEMBERED, self.name)
        try:
            return Known(*json.loads(text)) if text is not None else None
        except (ValueError, TypeError):
            return None

    def _remember(self, known: Known) -> None:
        text = json.dumps([known.etag, known.digest, known.mtime])
        self.shelf.cache.remember(REMEMBERED, self.name, text)


def _url(op: Http) -> httpx.URL:
    try:
        return read_url(op.url)
    except ValueError as error:
        raise BuildError(f"{redact(op.url)} is not a URL: {error}", code="bad-address") from error


@contextlib.asynccontextmanager
async def _opened(
    op: Http, credentials: str | None, headers: dict[str, str]
) -> AsyncIterator[httpx.Response]:
    """The answer, its body unread, after all redirects."""
    target = first = _url(op).copy_with(userinfo=None, fragment=None)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MAX_REDIRECTS + 1):
            sent = dict(headers)
            if credentials is not None and transport.origin(target) == transport.origin(first):
                sent["authorization"] = credentials
            client = clients.client_for(target)
            await stack.enter_async_context(client)
            request = client.build_request("GET", target, headers=sent)
            response = await patience.send(client, request)
            stack.push_async_callback(response.aclose)
            location = response.headers.get("location")
            if response.status_code not in REDIRECTS or not location:
                yield response
                return
            target = _redirected(target, location, op)
        raise BuildError(f"{redact(op.url)} redirects more than {MAX_REDIRECTS} times", code="fetch-failed")


def _redirected(here: httpx.URL, location: str, op: Http) -> httpx.URL:
    shown = redact(op.url)
    try:
        target = join_url(here, location).copy_with(userinfo=None, fragment=None)
    except ValueError as error:
        raise BuildError(f"{shown} redirects to no valid URL", code="fetch-failed") from error
    if target.scheme not in ("http", "https") or not target.host:
        raise BuildError(f"{shown} redirects to {redact(str(target))!r}", code="fetch-failed")
    if here.scheme == "https" and target.scheme == "http" and not op.checksum:
        raise BuildError(
            f"{shown} redirects from https to http://{target.host}",
            code="fetch-failed",
            hint="with a --checksum that is followed, as what comes is then known",
        )
    return target


def _still_holds(response: httpx.Response, known: Known) -> bool:
    """Whether the server says that the file is the known one, be it that it sends it again."""
    if response.status_code == 304:
        return True
    return response.status_code == 200 and _etag(response) == known.etag


def _etag(response: httpx.Response) -> str:
    """The ETag, a weak one as the strong one that it stands for; "" where there is none that can be used."""
    etag = response.headers.get("etag", "").strip().removeprefix("W/")
    return etag if etag.isascii() and etag.isprintable() and len(etag) <= MAX_HEADER else ""


def _mtime(response: httpx.Response) -> int:
    """Last-Modified in nanoseconds, 0 where the server does not say."""
    try:
        when = parsedate_to_datetime(response.headers.get("last-modified", ""))
        return int(when.timestamp()) * 1_000_000_000
    except (ValueError, TypeError, OverflowError):
        return 0


def _write(out: BinaryIO, sha: hashlib._Hash, block: bytes) -> None:
    out.write(block)
    sha.update(block)


def _decode(encoded: BinaryIO, out: BinaryIO, shown: str) -> tuple[Digest, int]:
    """Take a gzip encoding off. Raises BuildError for one that is damaged or grows beyond measure."""
    sha, size = hashlib.sha256(), 0
    limits = compression.Limits(size=MAX_SIZE, ratio=MAX_RATIO)
    try:
        reader = compression.open_reader(encoded, name=shown, limits=limits)
        while block := reader.read(BLOCK):
            _write(out, sha, block)
            size += len(block)
    except ImageError as error:
        raise BuildError(f"{shown} comes damaged: {error.message}", code="fetch-failed") from error
    return from_hex(sha.hexdigest()), size


def _failure(url: str, error: httpx.HTTPError) -> BuildError:
    """What went wrong with a connection, in words."""
    reason, hint = str(error) or type(error).__name__, None
    if isinstance(error, httpx.TimeoutException):
        reason = "the server does not answer"
    for cause in answers.causes(error):
        match cause:
            case answers.ProxyUnreachable():
                reason, hint = str(cause), "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
            case ssl.SSLCertVerificationError():
                reason = f"its certificate is not trusted: {cause.verify_message}"
                hint = "set SSL_CERT_FILE to a file with the certificate of its authority"
            case ssl.SSLError():
                reason = f"TLS failed: {cause.reason}"
            case socket.gaierror():
                reason, hint = (cause.strerror or "").lower(), "check the name and the network"
            case ConnectionRefusedError():
                reason = "the connection is refused, nothing listens there"
            case _:
                continue
        break
    return BuildError(f"{redact(url)} cannot be fetched: {redact(reason)}", code="fetch-failed", hint=hint)
