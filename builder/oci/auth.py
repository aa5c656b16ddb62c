"""What a registry asks for when it says 401, and what it may be given (distribution-spec; RFC 9110).

Pure: parses challenges, decides whether a realm may be asked, knows what a login is. It never sends anything,
and does not know where logins are kept.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from builder.errors import ImageError
from builder.oci.addresses import is_inward

_SCHEME = re.compile(r"[\s,]*([A-Za-z][A-Za-z0-9+.-]*)(?:\s+|$)")
_PARAMETER = re.compile(r'[\s,]*([A-Za-z_][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
MAX_HEADER = 8192


@dataclass(frozen=True, slots=True)
class Login:
    """Who a user is to a registry: a name and a password, or instead of the password a token.

    identity_token: for a token service, which gives access tokens for it. registry_token: is such a token.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Raise ValueError where a part is no text: a byte of a command line, or half a character of JSON."""
        try:
            "".join((self.user, self.password, self.identity_token, self.registry_token)).encode()
        except UnicodeEncodeError:
            raise ValueError("a login is no text") from None  # it is not told: it may be a password

    @property
    def basic(self) -> str | None:
        """The Authorization of name and password; None where there is none, as with an identity token."""
        if self.identity_token or self.registry_token or not (self.user or self.password):
            return None
        return "Basic " + b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")


@dataclass(frozen=True, slots=True)
class Found:
    """What is kept for a registry: a login or none; and what went wrong, for who is then refused."""

    login: Login | None = None
    troubles: tuple[str, ...] = ()


# What is kept for a registry and one of its repositories ("" for none); it may take its time, in a thread.
Credentials = Callable[[str, str], Found]


def nobody(_registry: str, _repository: str) -> Found:
    """Credentials of who goes everywhere without a name."""
    return Found()


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in that a server offers: "bearer" or "basic", with its parameters."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges of a WWW-Authenticate header (RFC 9110, 11.6.1); what is odd ends the list."""
    header = header[:MAX_HEADER]
    found: list[Challenge] = []
    position = 0
    while position < len(header) and (scheme := _SCHEME.match(header, position)):
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            quoted, token = parameter[2], parameter[3]
            parameters[parameter[1].lower()] = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            position = parameter.end()
        found.append(Challenge(scheme[1].lower(), parameters))
    return found


def chosen(header: str) -> Challenge | None:
    """The offer to take: a token where there is one with a realm, else name and password."""
    offers = parse_challenges(header)
    bearer = (c for c in offers if c.scheme == "bearer" and "realm" in c.parameters)
    return next(bearer, next((c for c in offers if c.scheme == "basic"), None))


def check_realm(
    realm: str, registry_url: str, *, is_known: Callable[[str], bool] = lambda _host: False
) -> None:
    """Refuse a realm that is no place for a login, or not the registry's to send us to.

    It must not take a request off HTTPS, unless the registry itself is without it; nor lead to this machine
    or its link from a registry that is elsewhere (a cloud's metadata service, a debugger's port), unless the
    user has named that host (`is_known`). Raises ImageError.
    """
    try:
        there, here = urlsplit(realm), urlsplit(registry_url)
        there_host, here_host = there.hostname or "", here.hostname or ""
        _ = there.port
    except ValueError:
        raise _odd_realm(realm, registry_url) from None
    if not there_host or there.username is not None or there.scheme not in ("https", "http"):
        raise _odd_realm(realm, registry_url)
    if there.scheme == "http" and here.scheme == "https":
        raise _odd_realm(realm, registry_url)
    if is_inward(there_host) and not is_inward(here_host) and not is_known(there.netloc):
        raise _odd_realm(realm, registry_url)


def _odd_realm(realm: str, registry_url: str) -> ImageError:
    return ImageError(
        f"{registry_url} asks to get a token from {realm[:200]!r}, which is not allowed", code="registry-auth"
    )
