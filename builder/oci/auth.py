"""What a registry asks for when it says 401, and the tokens it gave (distribution-spec, token auth).

Pure: parses challenges, decides whether a realm may be asked, and remembers tokens. It never sends
anything. Credentials, once there are any, come in through `Credentials` and go only to realms allowed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from builder.errors import ImageError

# (user, password) for a registry, or None to go there anonymously.
Credentials = Callable[[str], tuple[str, str] | None]

_SCHEME = re.compile(r"[\s,]*([A-Za-z][A-Za-z0-9+.-]*)(?:\s+|$)")
_PARAMETER = re.compile(r'[\s,]*([A-Za-z_][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
MAX_HEADER = 8192


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


def bearer(header: str) -> Challenge | None:
    """The offer to get a token, if there is one with a realm."""
    return next(
        (c for c in parse_challenges(header) if c.scheme == "bearer" and "realm" in c.parameters), None
    )


def check_realm(realm: str, registry_url: str) -> None:
    """Refuse a realm that would take a request off HTTPS, unless the registry itself is without it."""
    try:
        there, here = urlsplit(realm), urlsplit(registry_url)
    except ValueError:
        raise _odd_realm(realm, registry_url) from None
    if not there.hostname or there.username is not None or there.scheme not in ("https", "http"):
        raise _odd_realm(realm, registry_url)
    if there.scheme == "http" and here.scheme == "https":
        raise _odd_realm(realm, registry_url)


def _odd_realm(realm: str, registry_url: str) -> ImageError:
    return ImageError(
        f"{registry_url} asks to get a token from {realm[:200]!r}, which is not allowed", code="registry-auth"
    )
