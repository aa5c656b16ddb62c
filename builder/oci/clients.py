"""HTTP clients: one for each way to a server, by its proxy, by whom it trusts, and by what is shown to it.

A certificate of a client is shown only to the host that it was set for. No client follows redirects, decodes
bodies, or looks for settings by itself.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import httpx

from builder import __version__
from builder.errors import UsageError, reason_of
from builder.oci.answers import ProxyUnreachable, causes
from builder.oci.proxies import proxy_for
from builder.oci.urls import read_url

CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0


@dataclass(frozen=True, slots=True)
class Trust:
    """How TLS is done with a server.

    authorities: files of certificates that are believed beside the system's. certificate, key: files of what
    is shown to the server. checked: whether its own certificate is looked at.
    """

    authorities: tuple[str, ...] = ()
    certificate: str = ""
    key: str = ""
    checked: bool = True


PLAIN = Trust()


class Clients:
    """The clients of one transport, made as they are needed. Close them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._made: dict[tuple[str, bool, Trust], httpx.AsyncClient] = {}

    def to(self, url: httpx.URL, trust: Trust = PLAIN) -> httpx.AsyncClient:
        """The client for a URL. Raises UsageError where a proxy or a file that is set is no good."""
        proxy = proxy_for(url.scheme, url.host, url.port, self._environ)
        secure = url.scheme != "http"
        name = (proxy, secure, trust if secure else PLAIN)
        if name not in self._made:
            self._made[name] = make_client(proxy, trust if secure else None)
        return self._made[name]

    async def close(self) -> None:
        """Close all connections."""
        for client in self._made.values():
            await client.aclose()
        self._made.clear()


def client_for(url: httpx.URL) -> httpx.AsyncClient:
    """A client for one URL, with the environment's proxies and the system's trust. Raises UsageError."""
    proxy = proxy_for(url.scheme, url.host, url.port, os.environ)
    return make_client(proxy, PLAIN if url.scheme != "http" else None)


def make_client(proxy: str, trust: Trust | None) -> httpx.AsyncClient:
    """A client that asks by a proxy ("" for none), with TLS as `trust` says; None: without it."""
    return httpx.AsyncClient(
        transport=_Wires(
            tls_context(trust) if trust is not None else False, _proxy(proxy) if proxy else None
        ),
        trust_env=False,
        timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, pool=None),
        follow_redirects=False,
        headers={"user-agent": f"pybuild/{__version__}", "accept-encoding": "identity"},
    )


class _Wires(httpx.AsyncHTTPTransport):
    """Connections whose failures of TLS are httpx's errors, also those that come after the handshake, and
    whose proxy is told from the server behind it.

    TLS 1.3 refuses a client's certificate only then. httpx lets the ssl.SSLError through, an OSError, which
    whoever writes what comes would take for the disk's.
    """

    def __init__(self, verify: ssl.SSLContext | bool, proxy: httpx.Proxy | None) -> None:
        limits = httpx.Limits(max_connections=32, max_keepalive_connections=8)
        super().__init__(verify=verify, proxy=proxy, trust_env=False, limits=limits)
        self._proxy = proxy.url.netloc.decode("ascii", "replace") if proxy is not None else ""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await super().handle_async_request(request)
        except ssl.SSLError as error:
            raise httpx.ReadError(str(error), request=request) from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            # With the server, the proxy connects; TLS with that is what is left to this side.
            if not self._proxy or any(isinstance(cause, ssl.SSLError) for cause in causes(error)):
                raise
            reason = next(filter(None, map(_said_of, causes(error))), "it does not answer")
            message = f"the proxy {self._proxy} cannot be reached: {reason}"
            raise ProxyUnreachable(message, request=request) from error
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _Stream(response.stream, request)
        return response


def _said_of(cause: BaseException) -> str:
    """What the system says of a connection that was not made; asyncio puts words of its own before that."""
    match cause:
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number).lower()
        case OSError(strerror=str(text)):  # of names, whose errors have numbers of their own
            return text.lower()
    return ""


class _Stream(httpx.AsyncByteStream):
    """A body, as `_Wires` has it."""

    def __init__(self, stream: httpx.AsyncByteStream, request: httpx.Request) -> None:
        self._stream = stream
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._stream:
                yield piece
        except ssl.SSLError as error:
            raise httpx.ReadError(str(error), request=self._request) from error

    async def aclose(self) -> None:
        await self._stream.aclose()


def _proxy(url: str) -> httpx.Proxy:
    try:
        secure = url.lower().startswith("https://")
        return httpx.Proxy(read_url(url), ssl_context=tls_context(PLAIN) if secure else None)
    except ValueError as error:
        raise UsageError(
            "the environment names a proxy that is no URL", hint="proxies are http://HOST:PORT"
        ) from error


def tls_context(trust: Trust) -> ssl.SSLContext:
    """The system's authorities (or SSL_CERT_FILE and SSL_CERT_DIR), certifi's where there are none, and the
    ones that were set. Raises UsageError where a file cannot be used.
    """
    paths = ssl.get_default_verify_paths()
    context = ssl.create_default_context()
    if not any(path and os.path.exists(path) for path in (paths.cafile, paths.capath)):
        import certifi

        context.load_verify_locations(cafile=certifi.where())
    for file in trust.authorities:
        try:
            context.load_verify_locations(cafile=file)
        except OSError as error:
            raise _unusable("certificates", file, error) from error
    if trust.certificate:
        try:
            context.load_cert_chain(trust.certificate, trust.key or None, password=_no_password)
        except OSError as error:
            raise _unusable("client certificate", trust.certificate, error) from error
    if not trust.checked:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_password() -> str:
    """For an encrypted key: OpenSSL would ask at the terminal, in the middle of a build."""
    return ""


def _unusable(what: str, file: str, error: OSError) -> UsageError:
    """ssl.SSLError is an OSError, too."""
    reason = error.reason if isinstance(error, ssl.SSLError) else reason_of(error)
    return UsageError(
        f"the {what} in {file} cannot be used: {reason or 'no such form'}",
        hint="certificates and keys are PEM, and keys without a password",
    )
