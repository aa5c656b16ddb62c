"""HTTP to registries: which scheme, which proxy, redirects, tokens, retries; errors in words.

The one place besides oci.registry that knows httpx. It never knows what is transferred. A request's
Authorization never leaves the origin it was made for (CVE-2018-18074), nothing goes from HTTPS to HTTP,
and no body is decoded on the way (no Content-Encoding is asked for or taken).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from time import time

import httpx
import msgspec

from builder import __version__
from builder.errors import ImageError
from builder.oci.auth import Credentials, bearer, check_realm
from builder.oci.reference import DOCKER_HUB

HUB_HOST = "registry-1.docker.io"
CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0
# Who has taken the last byte of a large blob may need a while to put it away.
UPLOAD = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, read=300.0, pool=None)
SMALL_SECONDS = 90.0  # for a whole manifest or token
ATTEMPTS = 5
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 60.0
MAX_REDIRECTS = 5
MAX_TOKEN = 1 << 20
MAX_ERROR = 64 << 10
_TRY_AGAIN = (408, 429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)

# What a request carries: bytes, sent again where that may help, or what makes a stream, which is sent once.
Body = bytes | Callable[[], AsyncIterator[bytes]]


class Transport:
    """Connections to any number of registries. Close it, or use it in an `async with` block."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        self._credentials = credentials
        self._clients: dict[bool, httpx.AsyncClient] = {}
        self._bases: dict[str, str] = {}
        self._probing = asyncio.Lock()
        self._tokens: dict[tuple[str, str], str] = {}

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    @asynccontextmanager
    async def open(
        self,
        registry: str,
        method: str,
        path: str,
        scope: str,
        headers: dict[str, str] | None = None,
        body: Body | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Ask for `/v2/<path>`; gives the answer, its body unread, whatever its status.

        path: or a whole URL that `located` gave. Redirects are followed, a token is got where one is wanted
        (`scope`), and what may pass is tried again: but for a `body` that is a stream, after which nobody
        knows how much of it arrived. Raises ImageError if the registry cannot be reached, and for a stream
        what httpx raises.
        """
        response = await self._persist(registry, method, path, scope, headers or {}, body)
        try:
            yield response
        finally:
            await response.aclose()

    async def _persist(
        self, registry: str, method: str, path: str, scope: str, headers: dict[str, str], body: Body | None
    ) -> httpx.Response:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                base = await self._base(registry)
                url = path if "://" in path else f"{base}/v2/{path}"
                if origin(httpx.URL(url)) != origin(httpx.URL(base)):  # elsewhere, the address is the right
                    response = await self._follow(method, url, headers, None, body)
                else:
                    response = await self._authorized(registry, method, url, scope, headers, body)
            except httpx.HTTPError as error:
                if callable(body):
                    raise
                if attempt == ATTEMPTS or not may_pass(error):
                    raise unreachable(registry, error) from error
                await asyncio.sleep(pause(attempt))
                continue
            if response.status_code not in _TRY_AGAIN or attempt == ATTEMPTS or callable(body):
                return response
            seconds = retry_after(response.headers.get("retry-after", ""), attempt)
            if seconds is None:
                return response
            await response.aclose()
            await asyncio.sleep(seconds)
        raise AssertionError("the last attempt returns or raises")

    async def _authorized(
        self, registry: str, method: str, url: str, scope: str, headers: dict[str, str], body: Body | None
    ) -> httpx.Response:
        token = self._tokens.get((registry, scope))
        response = await self._follow(method, url, headers, token, body)
        if response.status_code != 401:
            return response
        challenge = bearer(response.headers.get("www-authenticate", ""))
        if challenge is None or response.url != httpx.URL(url):
            return response  # the one who asks is not the registry, or wants a password
        await response.aclose()
        token = await self._token(registry, url, challenge.parameters, scope)
        self._tokens[registry, scope] = token
        return await self._follow(method, url, headers, token, body)

    async def _follow(
        self, method: str, url: str, headers: dict[str, str], token: str | None, body: Body | None
    ) -> httpx.Response:
        """Send, and follow redirects; the token goes to the first origin only."""
        target = first = httpx.URL(url)
        for _ in range(MAX_REDIRECTS + 1):
            sent = dict(headers)
            if token and origin(target) == origin(first):
                sent["authorization"] = f"Bearer {token}"
            client = self._client(target.host)
            if body is None:
                request = client.build_request(method, target, headers=sent)
            else:
                content = body() if callable(body) else body
                request = client.build_request(method, target, headers=sent, content=content, timeout=UPLOAD)
            response = await client.send(request, stream=True)
            location = response.headers.get("location")
            if response.status_code not in _REDIRECTS or not location:
                return response
            await response.aclose()
            target = _redirected(target, location, first)
        raise ImageError(f"registry {first.host} redirects more than {MAX_REDIRECTS} times", code="registry")

    async def _token(self, registry: str, url: str, parameters: dict[str, str], scope: str) -> str:
        """Get a token from the realm that the registry names (distribution's spec/auth/token.md)."""
        realm = parameters["realm"]
        check_realm(realm, url)
        query = {"scope": scope}
        if service := parameters.get("service"):
            query["service"] = service
        target = httpx.URL(realm)
        credentials = self._credentials(registry) if self._credentials else None
        auth = httpx.BasicAuth(*credentials) if credentials else None
        client = self._client(target.host)
        request = client.build_request("GET", target.copy_merge_params(query))
        async with asyncio.timeout(SMALL_SECONDS):
            response = await client.send(request, auth=auth, stream=True)
            try:
                data = await read_small(response, MAX_TOKEN, f"the token of registry {registry}")
            finally:
                await response.aclose()
        if response.status_code != 200:
            raise denied(registry, f"its token service answers {response.status_code}")
        try:
            answer = msgspec.json.decode(data, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ImageError(
                f"the token of registry {registry} is not valid", code="registry-auth"
            ) from error
        token = answer.token or answer.access_token
        if not token or not token.isascii() or not token.isprintable():
            raise ImageError(f"registry {registry} gave no token", code="registry-auth")
        return token

    async def _base(self, registry: str) -> str:
        """The URL of a registry: HTTPS, but on this machine's loopback HTTP where that is what answers."""
        host = HUB_HOST if registry == DOCKER_HUB else registry
        if not is_loopback(host):
            return f"https://{host}"
        async with self._probing:
            if registry not in self._bases:
                self._bases[registry] = await self._probe(host)
        return self._bases[registry]

    async def _probe(self, host: str) -> str:
        """Ask in plain HTTP. A server that wants TLS says 400, or hangs up."""
        client = self._client(httpx.URL(f"http://{host}").host)
        try:
            response = await client.get(f"http://{host}/v2/", timeout=CONNECT_SECONDS)
        except (httpx.RemoteProtocolError, httpx.ReadError):
            return f"https://{host}"
        return f"https://{host}" if response.status_code == 400 else f"http://{host}"

    def _client(self, host: str) -> httpx.AsyncClient:
        """Loopback never goes through a proxy, as curl and Go have it."""
        direct = is_loopback(host)
        if direct not in self._clients:
            self._clients[direct] = make_client(host)
        return self._clients[direct]


def make_client(host: str, *, plain: bool = False) -> httpx.AsyncClient:
    """A client for a host: one that follows no redirects, and has no bodies decoded.

    plain: nothing but HTTP without TLS, and so no proxy with it either, will be asked for.
    """
    return httpx.AsyncClient(
        verify=_tls() if not plain else False,
        trust_env=not is_loopback(host),
        timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, pool=None),
        follow_redirects=False,
        limits=httpx.Limits(max_connections=32, max_keepalive_connections=8),
        headers={"user-agent": f"pybuild/{__version__}", "accept-encoding": "identity"},
    )


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""


def _tls() -> ssl.SSLContext:
    """The system's authorities (or SSL_CERT_FILE and SSL_CERT_DIR); certifi's where there are none."""
    paths = ssl.get_default_verify_paths()
    context = ssl.create_default_context()
    if not any(path and os.path.exists(path) for path in (paths.cafile, paths.capath)):
        import certifi

        context.load_verify_locations(cafile=certifi.where())
    return context


def is_loopback(host: str) -> bool:
    """Whether `host`, with or without a port, is this machine by docker's rule: localhost or 127.0.0.0/8."""
    name = host
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


async def read_small(response: httpx.Response, limit: int, what: str) -> bytes:
    """A whole body of at most `limit` bytes, as it was sent. Raises ImageError."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise ImageError(f"{what} comes with a Content-Encoding that was not asked for", code="registry")
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_raw():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise ImageError(f"{what} has more than {limit} bytes", code="document-too-large")
    return b"".join(chunks)


class _Problem(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct):
    errors: list[_Problem] = []


async def said(response: httpx.Response) -> str:
    """What an error's body says, made fit for a message."""
    try:
        data = await read_small(response, MAX_ERROR, "an error message")
        problems = msgspec.json.decode(data, type=_Problems).errors
    except (ImageError, httpx.HTTPError, msgspec.DecodeError, UnicodeDecodeError):
        return ""
    text = "; ".join(p.message or p.code for p in problems[:3])
    return "".join(c if c.isprintable() else " " for c in text)[:300].lower()


def located(response: httpx.Response) -> str | None:
    """The whole URL of an answer's Location, None where it has none. Raises ImageError where it is odd."""
    location = response.headers.get("location")
    return str(_redirected(response.url, location, response.url)) if location else None


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
    who = _who(registry, error)
    code = "registry-unreachable"
    for cause in causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return ImageError(
                    f"the certificate of {who} is not trusted: {cause.verify_message}",
                    code="registry-tls",
                    hint="set SSL_CERT_FILE to a file with the certificate of its authority",
                )
            case ssl.SSLError():
                return ImageError(f"TLS with {who} failed: {cause.reason}", code="registry-tls")
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


def _who(registry: str, error: httpx.HTTPError) -> str:
    """The server that an error is about, which may be another one than the registry."""
    try:
        url = error.request.url
    except RuntimeError:
        return f"registry {registry}"
    there = url.netloc.decode("ascii", "replace")
    if there in (registry, HUB_HOST):
        return f"registry {registry}"
    return f"{there}, named by registry {registry},"


def denied(registry: str, reason: str, name: str = "") -> ImageError:
    """The registry does not let anonymous clients at it."""
    return ImageError(
        f"registry {registry} denies access{f' to {name}' if name else ''}: {reason}",
        code="registry-denied",
        hint="the image may be private, or not exist",
    )


def _redirected(here: httpx.URL, location: str, first: httpx.URL) -> httpx.URL:
    try:
        target = here.join(location)
    except (httpx.InvalidURL, ValueError) as error:
        raise ImageError(f"registry {first.host} redirects to no valid URL", code="registry") from error
    if target.scheme not in ("http", "https") or (here.scheme == "https" and target.scheme == "http"):
        raise ImageError(
            f"registry {first.host} redirects from HTTPS to {target.scheme}://{target.host}", code="registry"
        )
    return target


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """What credentials are for (RFC 6454)."""
    return url.scheme, url.host, url.port


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that led to it, groups included, nearest first."""
    todo: list[BaseException] = [error]
    seen: set[int] = set()
    while todo:
        current = todo.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            todo.extend(current.exceptions)
        todo.extend(e for e in (current.__cause__, current.__context__) if e is not None)
