"""How git shows who it is: as settings for one remote, and no other. Pure.

A password in an address is taken out of it: git would hand it on as an argument of its helpers, where every
user of the machine can read it, and write it into `.git/config`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

WEB = ("http://", "https://")
GITHUB = ("https://github.com/", "https://www.github.com/")


def without_credentials(remote: str) -> str:
    """The address as git is told it. Who logs in by ssh is no secret, and stays."""
    if not remote.startswith(WEB):
        return remote
    scheme, _, rest = remote.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def credentials(secret_of: Callable[[str], bytes | None], remote: str) -> tuple[tuple[str, str], ...]:
    """The settings by which git authenticates itself to this remote, as (name, value).

    By the secrets GIT_AUTH_HEADER or GIT_AUTH_TOKEN, the ones with `.host` behind them first; else by what is
    in the address. github.com is one place, as submodules there have the same owner.
    """
    if not remote.startswith(WEB):
        return ()
    header = _from_secrets(secret_of, urlsplit(remote).hostname or "") or _from_address(remote)
    if not header:
        return ()
    url = without_credentials(remote)
    scope = next((place for place in GITHUB if url.startswith(place)), url)
    return ((f"http.{scope}.extraHeader", f"Authorization: {header}"),)


def _from_secrets(secret_of: Callable[[str], bytes | None], host: str) -> str:
    for suffix in (f".{host}", ""):
        if value := secret_of(f"GIT_AUTH_HEADER{suffix}"):
            return _text(value)
        if value := secret_of(f"GIT_AUTH_TOKEN{suffix}"):
            return _basic("x-access-token", _text(value))
    return ""


def _from_address(remote: str) -> str:
    parts = urlsplit(remote)
    if not parts.username and not parts.password:
        return ""
    return _basic(unquote(parts.username or ""), unquote(parts.password or ""))


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip()


def _basic(user: str, password: str) -> str:
    return "basic " + base64.b64encode(f"{user}:{password}".encode("utf-8", "surrogateescape")).decode()
