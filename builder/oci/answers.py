"""What registries answer, and what connections to them end in: read within bounds, told in words.

Which failures may pass, how long to wait before the next attempt, what an error's body says. It sends
nothing, and knows neither who is asked nor what for.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from time import time

import httpx
import msgspec

from builder.errors import ImageError

ATTEMPTS = 5
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 60.0
SMALL_SECONDS = 90.0  # for a whole manifest or token
MAX_ERROR = 64 << 10
SAID_SECONDS = 10.0  # for an error's body
HUB_HOST = "registry-1.docker.io"
TRY_AGAIN = (408, 429, 500, 502, 503, 504)


class ProxyUnreachable(httpx.ProxyError):
    """The proxy itself cannot be connected to: its message says which one (without a login), and why."""


class _Problem(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct):
    errors: list[_Problem] = []
    details: str = ""  # as the token service of docker.io has it


async def read_small(response: httpx.Response, limit: int, what: str) -> bytes:
    """A whole body of at most `limit` bytes, as it was sent. Raises ImageError."""
    check_plain(response, what)
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_raw():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise ImageError(f"{what} has more than {limit} bytes", code="document-too-large")
    return b"".join(chunks)


def check_plain(response: httpx.Response, what: str) -> None:
    """Raise ImageError for a body that is not sent as it is."""
    encodings = response.headers.get_list("content-encoding", split_commas=True)
    if any(one.lower() not in ("", "identity") for one in encodings):
        raise ImageError(f"{what} comes with a Content-Encoding that was not asked for", code="registry")


def header(response: httpx.Response, name: str) -> str:
    """A header's value, "" for none; the first where servers behind each other have added the same again."""
    return next(iter(response.headers.get_list(name)), "")


async def said(response: httpx.Response) -> str:
    """What an error's body says, made fit for a message."""
    try:
        async with asyncio.timeout(SAID_SECONDS):
            data = await read_small(response, MAX_ERROR, "an error message")
        problems = msgspec.json.decode(data, type=_Problems)
    except (ImageError, httpx.HTTPError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
        return ""
    text = "; ".join(p.message or p.code for p in problems.errors[:3]) or problems.details
    return "".join(c if c.isprintable() else " " for c in text)[:300].lower()


def retry_after(header: str, attempt: int) -> float | None:
    """Seconds to wait before the next attempt; None: longer than anybody would wait."""
    header = header.strip()[:64]
    if not header:
        return pause(attempt)
    if header.isascii() and header.isdecimal():
        seconds = float(header[:12])
    else:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time()
        except (ValueError, TypeError, OverflowError):
            return pause(attempt)
    return None if seconds > LONGEST_PAUSE else max(seconds, FIRST_PAUSE)


def pause(attempt: int) -> float:
    """Seconds to wait after the given failed attempt: doubling."""
    return float(FIRST_PAUSE * 2 ** (attempt - 1))


def may_pass(error: httpx.HTTPError) -> bool:
    """Whether the same request may well succeed a moment later: not if nobody listens, or TLS says no."""
    fatal = (ConnectionRefusedError, socket.gaierror, ssl.SSLError)
    if any(isinstance(cause, fatal) for cause in causes(error)):
        return False
    lasting = (httpx.UnsupportedProtocol, httpx.ProxyError, httpx.ConnectTimeout, httpx.LocalProtocolError)
    return isinstance(error, httpx.TransportError) and not isinstance(error, lasting)


def unreachable(registry: str, error: httpx.HTTPError) -> ImageError:
    """What went wrong with a connection, in words."""
    who, host = _who(registry, error)
    code = "registry-unreachable"
    if isinstance(error, ProxyUnreachable):
        hint = "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
        return ImageError(f"{who} is asked by a proxy, and {error}", code=code, hint=hint)
    for cause in causes(error):
        match cause:
            case ssl.SSLError():
                return _tls_error(who, host, cause)
            case socket.gaierror():
                reason = (cause.strerror or "").lower()
                return ImageError(
                    f"{who} cannot be found: {reason}", code=code, hint="check the name and the network"
                )
            case ConnectionRefusedError():
                return ImageError(
                    f"{who} refuses the connection: nothing listens there",
                    code=code,
                    hint="check the port, and that the registry runs",
                )
    if isinstance(error, httpx.TimeoutException):
        return ImageError(f"{who} does not answer", code=code)
    if isinstance(error, httpx.ProxyError):
        return ImageError(f"the proxy refuses {who}: {error}", code=code)
    return ImageError(f"the connection to {who} broke: {str(error) or type(error).__name__}", code=code)


def _tls_error(who: str, host: str, error: ssl.SSLError) -> ImageError:
    code, table = "registry-tls", f'[registries."{host}"] of the configuration file'
    if isinstance(error, ssl.SSLCertVerificationError):
        return ImageError(
            f"the certificate of {who} is not trusted: {error.verify_message}",
            code=code,
            hint="set SSL_CERT_FILE to a file with the certificate of its authority, or `ca` in " + table,
        )
    reason = error.reason or str(error)
    hint = None
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        hint = f"where it speaks plain HTTP, set `http = true` in {table}"
    elif "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason or "BAD_CERTIFICATE" in reason:
        hint = f"where it wants a certificate of clients, set `cert` and `key` in {table}"
    return ImageError(f"TLS with {who} failed: {reason}", code=code, hint=hint)


def _who(registry: str, error: httpx.HTTPError) -> tuple[str, str]:
    """The server that an error is about, which may be another one than the registry; and its host."""
    try:
        url = error.request.url
    except RuntimeError:
        return f"registry {registry}", registry
    there = url.netloc.decode("ascii", "replace")
    if there in (registry, HUB_HOST):
        return f"registry {registry}", registry
    return f"{there}, named by registry {registry},", there


def denied(registry: str, reason: str, name: str = "") -> ImageError:
    """The registry does not let us at something."""
    return ImageError(
        f"registry {registry} denies access{f' to {name}' if name else ''}: {reason}",
        code="registry-denied",
        hint="the image may be private, or not exist",
    )


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that led to it, groups included, nearest first.

    Not that TLS had to wait for bytes, which a timeout comes upon.
    """
    todo: list[BaseException] = [error]
    seen: set[int] = set()
    while todo:
        current = todo.pop(0)
        if id(current) in seen or isinstance(current, ssl.SSLWantReadError | ssl.SSLWantWriteError):
            continue
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            todo.extend(current.exceptions)
        todo.extend(e for e in (current.__cause__, current.__context__) if e is not None)
