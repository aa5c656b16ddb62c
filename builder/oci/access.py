"""The way into registries: who asks is known there by a token, or by a name and password.

Nothing is given to a registry before it asks for it, and what is kept for a registry goes to that registry
and to the token service that it names, and nowhere else. Tokens are remembered for one transport, until
shortly before they end, by registry and scope; many that want the same one get it once between them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode

import httpx
import msgspec

from builder.errors import ImageError
from builder.oci.answers import ATTEMPTS, SMALL_SECONDS, TRY_AGAIN, denied, read_small, retry_after, said
from builder.oci.auth import Challenge, Credentials, Found, Login, check_realm, chosen

CLIENT = "pybuild"  # the client_id of token requests
MAX_TOKEN = 1 << 20
LEAST_SECONDS, MOST_SECONDS = 10.0, 3600.0  # that a token is believed to last
USUAL_SECONDS = 60.0  # by the specification, where the service does not say
EARLY = 0.8  # of its time, after which a new one is got


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a token: everything but the way to send it."""

    registry: str
    method: str
    url: str
    headers: dict[str, str]
    authorization: str | None = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


Send = Callable[[Asked], Awaitable[httpx.Response]]


@dataclass(frozen=True, slots=True)
class _Pass:
    """An Authorization, and when (monotonic seconds) it ends."""

    text: str = field(repr=False)
    end: float


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    refresh_token: str = ""
    expires_in: object = None


class Access:
    """What one transport knows of its ways in.

    send: sends a request, following redirects without the Authorization elsewhere. is_known: whether the user
    has named a host. offline: ask token services for identity tokens, too; they are in `identities`, by
    registry.
    """

    def __init__(
        self, send: Send, credentials: Credentials, is_known: Callable[[str], bool], *, offline: bool = False
    ) -> None:
        self._send = send
        self._credentials = credentials
        self._is_known = is_known
        self._offline = offline
        self._found: dict[tuple[str, str], Found] = {}
        self._passes: dict[tuple[str, str], _Pass] = {}
        self._challenges: dict[str, tuple[str, Challenge]] = {}
        self._guards: dict[tuple[str, str], asyncio.Lock] = {}
        self.identities: dict[str, str] = {}

    async def known(self, registry: str, scope: str) -> str | None:
        """The Authorization to begin with: what this registry has asked for before, None where it did not."""
        challenge = self._challenges.get(registry)
        if challenge is None:
            return None
        kept = self._passes.get((registry, scope))
        if kept is not None and time.monotonic() < kept.end:
            return kept.text
        return await self.gain(registry, scope, kept.text if kept else None, *challenge)

    async def answer(self, registry: str, url: str, header: str, scope: str, sent: str | None) -> str | None:
        """The Authorization for a 401 at `url`, whose WWW-Authenticate this is; None: there is nothing else.

        sent: what the request had. Raises ImageError where the token service refuses, and httpx's errors.
        """
        challenge = chosen(header)
        if challenge is None:
            return None
        self._challenges[registry] = (url, challenge)
        return await self.gain(registry, scope, sent, url, challenge)

    async def gain(
        self, registry: str, scope: str, sent: str | None, url: str, challenge: Challenge
    ) -> str | None:
        """An Authorization other than the one that was sent; others may have got it meanwhile."""
        async with self._guards.setdefault((registry, scope), asyncio.Lock()):
            kept = self._passes.get((registry, scope))
            if kept is not None and kept.text != sent and time.monotonic() < kept.end:
                return kept.text
            login = (await self.found(registry, _repository(scope))).login
            if login is not None and login.registry_token:
                new: _Pass | None = _Pass(f"Bearer {login.registry_token}", time.monotonic() + MOST_SECONDS)
            elif challenge.scheme == "basic":
                basic = login.basic if login is not None else None
                new = _Pass(basic, float("inf")) if basic else None
            else:
                return await self._renewed(registry, scope, url, challenge.parameters, login)
            if new is None or new.text == sent:
                return None
            self._passes[registry, scope] = new
            return new.text

    async def found(self, registry: str, repository: str) -> Found:
        """What is kept for a registry; looked up once, in a thread, as a program may have to be asked."""
        name = (registry, repository)
        if name not in self._found:
            self._found[name] = await asyncio.to_thread(self._credentials, registry, repository)
        return self._found[name]

    def troubles(self, registry: str) -> tuple[tuple[str, ...], str | None]:
        """For who is refused: what went wrong with logins for this registry; who was known there, if any."""
        mine = [found for (name, _), found in self._found.items() if name == registry]
        users = [found.login.user for found in mine if found.login is not None]
        return tuple(dict.fromkeys(t for found in mine for t in found.troubles)), users[0] if users else None

    async def _renewed(
        self, registry: str, scope: str, url: str, parameters: dict[str, str], login: Login | None
    ) -> str:
        answer = await self._token(registry, scope, url, parameters, login)
        token = answer.token or answer.access_token
        if not token or not token.isascii() or not token.isprintable():
            raise ImageError(f"registry {registry} gave no token", code="registry-auth")
        if answer.refresh_token and answer.refresh_token.isprintable():
            self.identities[registry] = answer.refresh_token
        text = f"Bearer {token}"
        self._passes[registry, scope] = _Pass(text, time.monotonic() + EARLY * _seconds(answer.expires_in))
        return text

    async def _token(
        self, registry: str, scope: str, url: str, parameters: dict[str, str], login: Login | None
    ) -> _Token:
        """Ask the realm that the registry names (distribution's spec/auth/token.md and oauth.md)."""
        realm = parameters["realm"]
        check_realm(realm, url, is_known=self._is_known)
        asked = self._question(registry, realm, parameters.get("service", ""), scope, login)
        try:
            async with asyncio.timeout(SMALL_SECONDS):
                return await self._asked(asked, registry)
        except TimeoutError as error:
            raise ImageError(
                f"the token service of registry {registry} is too slow", code="registry-unreachable"
            ) from error

    async def _asked(self, asked: Asked, registry: str) -> _Token:
        """Send a question until there is an answer. Raises ImageError for one that is no token."""
        for attempt in range(1, ATTEMPTS + 1):
            response = await self._send(asked)
            try:
                if response.status_code == 200:
                    data = await read_small(response, MAX_TOKEN, f"the token of registry {registry}")
                    return _decoded(data, registry)
                told = await said(response)
            finally:
                await response.aclose()
            seconds = retry_after(response.headers.get("retry-after", ""), attempt)
            if response.status_code not in TRY_AGAIN or attempt == ATTEMPTS or seconds is None:
                break
            await asyncio.sleep(seconds)
        if response.status_code in TRY_AGAIN:
            raise ImageError(
                f"the token service of registry {registry} answers {response.status_code}",
                code="registry-busy",
                hint="try again later",
            )
        raise denied(registry, told or f"its token service answers {response.status_code}")

    def _question(self, registry: str, realm: str, service: str, scope: str, login: Login | None) -> Asked:
        """The request for a token: with an identity token by POST, else by GET."""
        pairs = [("service", service)] if service else []
        scopes = scope.split()
        if login is not None and login.identity_token:
            form = [*pairs, ("grant_type", "refresh_token"), ("client_id", CLIENT)]
            form += [("scope", " ".join(scopes)), ("refresh_token", login.identity_token)]
            headers = {"content-type": "application/x-www-form-urlencoded"}
            return Asked(registry, "POST", realm, headers, None, urlencode(form).encode())
        pairs = [*[("scope", one) for one in scopes], *pairs]
        if login is not None and login.user:
            pairs.append(("account", login.user))
        if self._offline:
            pairs += [("client_id", CLIENT), ("offline_token", "true")]
        joint = "&" if "?" in realm else "?"
        url = f"{realm.partition('#')[0]}{joint}{urlencode(pairs)}" if pairs else realm
        return Asked(registry, "GET", url, {}, login.basic if login is not None else None)


def _decoded(data: bytes, registry: str) -> _Token:
    try:
        return msgspec.json.decode(data, type=_Token)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ImageError(f"the token of registry {registry} is not valid", code="registry-auth") from error


def _seconds(told: object) -> float:
    """How long a token lasts, by what its service says of it."""
    if isinstance(told, bool) or not isinstance(told, int | float):
        return USUAL_SECONDS
    return float(min(max(told, LEAST_SECONDS), MOST_SECONDS))


def _repository(scope: str) -> str:
    """The repository that a scope is about, the first of several; "" for none."""
    return scope.partition(" ")[0].removeprefix("repository:").rpartition(":")[0]
