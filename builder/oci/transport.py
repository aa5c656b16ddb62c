"""HTTP to registries: mirrors, schemes, redirects, ways in, retries.

It never knows what is transferred. A request's Authorization never leaves the origin it was made for
(CVE-2018-18074), nothing goes from HTTPS to HTTP, a registry leads nobody onto this machine who is not there
already, and no body is decoded on the way (no Content-Encoding is asked for or taken).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import httpx

from builder.errors import ImageError
from builder.oci.access import Access, Asked
from builder.oci.addresses import is_inward
from builder.oci.answers import (
    ATTEMPTS,
    HUB_HOST,
    TRY_AGAIN,
    header,
    may_pass,
    pause,
    retry_after,
    unreachable,
)
from builder.oci.auth import Credentials, nobody
from builder.oci.clients import CONNECT_SECONDS, READ_SECONDS, Clients
from builder.oci.hosts import Endpoint, Hosts
from builder.oci.patience import Deadline, send
from builder.oci.reference import DOCKER_HUB
from builder.oci.urls import join_url, read_url

# Who has taken the last byte of a large blob may need a while to put it away.
UPLOAD = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, read=300.0, pool=None)
MIRROR_ATTEMPTS = 2
MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)

# What a request carries: bytes, sent again where that may help, or what makes a stream, which is sent once.
Body = bytes | Callable[[], AsyncIterator[bytes]]


class Transport:
    """Connections to any number of registries. Close it, or use it in an `async with` block.

    By itself it goes everywhere without a name; `connections.open_transport` gives it the user's. offline:
    ask token services for identity tokens, which `identity` then tells.
    """

    def __init__(
        self,
        credentials: Credentials = nobody,
        hosts: Hosts | None = None,
        environ: Mapping[str, str] = os.environ,
        *,
        offline: bool = False,
    ) -> None:
        self._hosts = hosts or Hosts()
        self._clients = Clients(environ)
        self._access = Access(self._ask_realm, credentials, self._hosts.is_known, offline=offline)
        self._bases: dict[str, str] = {}
        self._probing: dict[str, asyncio.Lock] = {}
        self._dead: dict[Endpoint, str] = {}
        self._refusals: dict[Endpoint, str] = {}

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._clients.close()

    def identity(self, registry: str) -> str:
        """The identity token that a registry's token service gave, "" for none."""
        return self._access.identities.get(registry, "")

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

        path: or a whole URL that `located` gave. scope: what is to be allowed, as `repository:NAME:pull`;
        several have a blank between them, that of the path first. Redirects are followed, a way in is found
        where one is wanted, what is only read comes from a mirror that has it, and what may pass is tried
        again: but for a `body` that is a stream, after which nobody knows how much of it arrived. Raises
        ImageError if the registry cannot be reached, and for a stream what httpx raises.
        """
        try:
            response = await self._mirrored(registry, method, path, scope, headers or {})
            if response is None:
                response = await self._persist(registry, method, path, scope, headers or {}, body)
        except ImageError as error:
            self._explain(error, registry)
            raise
        try:
            yield response
        except ImageError as error:
            self._explain(error, registry)
            raise
        finally:
            await response.aclose()

    def _explain(self, error: ImageError, registry: str) -> None:
        """Add to an error what is known of mirrors, and for who is refused of logins."""
        mirrors = self._hosts.mirrors(registry)
        useless = {**self._refusals, **self._dead}
        notes = [f"mirror {one.host} is of no use: {why}" for one, why in useless.items() if one in mirrors]
        if error.code == "registry-denied":
            troubles, user = self._access.troubles(registry)
            notes += troubles
            if user is None:
                way = f"`pybuild login {registry}` logs in there"
                error.hint = f"{error.hint}; {way}" if error.hint else way
            elif user:
                notes.append(f"asked as {user!r}, who is logged in at {registry}")
        error.notes = (*error.notes, *(note for note in notes if note not in error.notes))

    async def _mirrored(
        self, registry: str, method: str, path: str, scope: str, headers: dict[str, str]
    ) -> httpx.Response | None:
        """The answer of the first mirror that has what is asked for; None: ask the registry itself.

        Mirrors are for reading what has a name: not where an upload goes on, nor what is about to be written.
        """
        if method not in ("GET", "HEAD") or "://" in path or not path or "push" in scope:
            return None
        for mirror in self._hosts.mirrors(registry):
            if mirror in self._dead:
                continue
            place, wanted = _at(mirror, registry, path, scope)
            if mirror.scheme:
                self._bases.setdefault(mirror.host, f"{mirror.scheme}://{mirror.host}")
            try:
                response = await self._persist(
                    mirror.host, method, place, wanted, headers, None, attempts=MIRROR_ATTEMPTS
                )
            except ImageError as error:
                self._dead[mirror] = error.message
                continue
            if response.status_code < 400:
                return response
            if response.status_code != 404:  # that it has not everything is no fault
                self._refusals[mirror] = f"it answers {response.status_code}"
            await response.aclose()
        return None

    async def _persist(
        self,
        registry: str,
        method: str,
        path: str,
        scope: str,
        headers: dict[str, str],
        body: Body | None,
        *,
        attempts: int = ATTEMPTS,
    ) -> httpx.Response:
        deadline = Deadline()
        for attempt in range(1, attempts + 1):
            try:
                base = await self._base(registry)
                url = path if "://" in path else f"{base}/v2/{path}"
                there, here = _address(registry, url), httpx.URL(base)
                if origin(there) != origin(here):  # there the address itself is what lets one in
                    self._check_led(there, here)
                    response = await self._follow(registry, method, url, headers, None, body)
                else:
                    response = await self._authorized(registry, method, url, scope, headers, body)
            except httpx.HTTPError as error:
                if callable(body):
                    raise
                if attempt == attempts or not may_pass(error) or not deadline.allows(pause(attempt)):
                    raise unreachable(registry, error) from error
                await asyncio.sleep(pause(attempt))
                continue
            if response.status_code not in TRY_AGAIN or attempt == attempts or callable(body):
                return response
            seconds = retry_after(response.headers.get("retry-after", ""), attempt)
            if seconds is None or not deadline.allows(seconds):
                return response
            await response.aclose()
            await asyncio.sleep(seconds)
        raise AssertionError("the last attempt returns or raises")

    async def _authorized(
        self, registry: str, method: str, url: str, scope: str, headers: dict[str, str], body: Body | None
    ) -> httpx.Response:
        sent = await self._access.known(registry, scope)
        response = await self._follow(registry, method, url, headers, sent, body)
        if response.status_code != 401 or origin(response.url) != origin(httpx.URL(url)):
            return response  # who asks, if anybody, is not the registry
        header = ", ".join(response.headers.get_list("www-authenticate"))
        try:
            other = await self._access.answer(registry, url, header, scope, sent)
        except BaseException:
            await response.aclose()
            raise
        if other is None:
            return response
        await response.aclose()
        return await self._follow(registry, method, url, headers, other, body)

    async def _follow(
        self,
        registry: str,
        method: str,
        url: str,
        headers: dict[str, str],
        authorization: str | None,
        body: Body | None,
    ) -> httpx.Response:
        """Send, and follow redirects; the Authorization goes to the first origin only."""
        target = first = httpx.URL(url)
        for _ in range(MAX_REDIRECTS + 1):
            sent = dict(headers)
            if authorization and origin(target) == origin(first):
                sent["authorization"] = authorization
            client = self._client(registry, target)
            if body is None:
                request = client.build_request(method, target, headers=sent)
            else:
                content = body() if callable(body) else body
                request = client.build_request(method, target, headers=sent, content=content, timeout=UPLOAD)
            response = await send(client, request, _length(headers, body))
            location = header(response, "location")
            if response.status_code not in _REDIRECTS or not location:
                return response
            await response.aclose()
            target = self._redirected(target, location, first)
        raise ImageError(f"registry {first.host} redirects more than {MAX_REDIRECTS} times", code="registry")

    async def _ask_realm(self, asked: Asked) -> httpx.Response:
        """Send a request for a token. What is in its body is for the realm alone: it follows no redirect."""
        try:
            target = read_url(asked.url)
        except ValueError as error:
            raise ImageError(
                f"registry {asked.registry} names a realm that is no URL", code="registry-auth"
            ) from error
        if asked.body is None:
            return await self._follow(
                asked.registry, asked.method, asked.url, asked.headers, asked.authorization, None
            )
        client = self._client(asked.registry, target)
        request = client.build_request(asked.method, target, headers=asked.headers, content=asked.body)
        return await send(client, request, len(asked.body))

    def _redirected(self, here: httpx.URL, location: str, first: httpx.URL) -> httpx.URL:
        target = _joined(here, location, first)
        self._check_led(target, first)
        return target

    def _check_led(self, target: httpx.URL, first: httpx.URL) -> None:
        """Raise ImageError where a registry leads onto this machine who is not there itself."""
        if is_inward(target.host) and not is_inward(first.host) and not self._hosts.is_known(_netloc(target)):
            raise ImageError(
                f"registry {first.host} redirects to {target.host}, which is this machine or its link",
                code="registry",
            )

    async def _base(self, registry: str) -> str:
        """The URL of a registry: HTTPS, or what is set; where there are two ways, the first that answers."""
        host = HUB_HOST if registry == DOCKER_HUB else registry
        _address(registry, f"https://{host}/v2/")
        schemes = self._hosts.schemes(registry)
        if registry not in self._bases and len(schemes) == 1:
            self._bases[registry] = f"{schemes[0]}://{host}"
        async with self._probing.setdefault(registry, asyncio.Lock()):
            if registry not in self._bases:
                works = await self._works(registry, f"{schemes[0]}://{host}")
                self._bases[registry] = f"{schemes[0 if works else 1]}://{host}"
        return self._bases[registry]

    async def _works(self, registry: str, base: str) -> bool:
        """Whether a scheme is the server's. One that wants TLS says 400 to plain HTTP, or hangs up."""
        url = httpx.URL(f"{base}/v2/")
        client = self._client(registry, url)
        request = client.build_request("GET", url, timeout=CONNECT_SECONDS)
        try:
            response = await send(client, request)
            await response.aclose()
        except (httpx.RemoteProtocolError, httpx.ReadError):
            return False
        except httpx.ConnectError:
            if url.scheme == "http":
                raise
            return False
        return url.scheme == "https" or response.status_code != 400

    def _client(self, registry: str, url: httpx.URL) -> httpx.AsyncClient:
        host = DOCKER_HUB if url.host == HUB_HOST else _netloc(url)
        return self._clients.to(url, self._hosts.trust_by(registry, host))


def _length(headers: Mapping[str, str], body: Body | None) -> int:
    """How many bytes go with a request, as far as that is known."""
    if isinstance(body, bytes):
        return len(body)
    return int(headers.get("content-length", "0"))


def _at(mirror: Endpoint, registry: str, path: str, scope: str) -> tuple[str, str]:
    """The path and the scope at a mirror; it is told whose image it is, as containerd does (`ns`)."""
    joint = "&" if "?" in path else "?"
    place = f"{path}{joint}ns={registry}"
    if not mirror.path:
        return place, scope
    return f"{mirror.path}/{place}", scope.replace("repository:", f"repository:{mirror.path}/", 1)


def located(response: httpx.Response) -> str | None:
    """The whole URL of an answer's Location, None where it has none. Raises ImageError where it is odd."""
    location = header(response, "location")
    if not location:
        return None
    # What is added to an address must not end up in its fragment, which is never sent.
    return str(_joined(response.url, location, response.url).copy_with(fragment=None))


def _joined(here: httpx.URL, location: str, first: httpx.URL) -> httpx.URL:
    try:
        target = join_url(here, location).copy_with(userinfo=None)
    except ValueError as error:
        raise ImageError(f"registry {first.host} redirects to no valid URL", code="registry") from error
    if target.scheme not in ("http", "https") or (here.scheme == "https" and target.scheme == "http"):
        raise ImageError(
            f"registry {first.host} redirects from HTTPS to {target.scheme}://{target.host}", code="registry"
        )
    return target


def _address(registry: str, url: str) -> httpx.URL:
    """The URL of something in a registry. Raises ImageError where it cannot be one."""
    try:
        return read_url(url)
    except ValueError as error:
        raise ImageError(
            f"registry {registry} cannot be asked: {error}",
            code="registry-unreachable",
            hint="check its name",
        ) from error


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """What credentials are for (RFC 6454)."""
    return url.scheme, url.host, url.port


def _netloc(url: httpx.URL) -> str:
    return url.netloc.decode("ascii", "replace")
