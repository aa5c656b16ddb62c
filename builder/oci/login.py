"""Logging in at a registry: a login is tried there before it is kept, and kept where docker keeps it.

Where the registry's token service gives an identity token for a password, that token is kept in its place. A
registry that lets everybody in says nothing of a login, which is then kept as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from builder.errors import ImageError
from builder.oci.answers import denied, said
from builder.oci.auth import Login
from builder.oci.connections import open_transport
from builder.oci.credentials import Kept, Keyring, keep


async def log_in(
    environ: Mapping[str, str], registry: str, login: Login, insecure: Collection[str] = ()
) -> Kept:
    """Try a login at a registry and keep it; where it went.

    insecure: registries whose certificate is not looked at. Raises ImageError where the registry does not
    take it or cannot be asked, CredentialError where it cannot be kept.
    """
    identity = await try_login(environ, registry, login, insecure)
    if identity:
        login = Login(login.user, identity_token=identity)
    return keep(environ, registry, login)


async def try_login(
    environ: Mapping[str, str], registry: str, login: Login, insecure: Collection[str] = ()
) -> str:
    """Ask a registry for nothing but to be let in; the identity token it gave, "" for none.

    Raises ImageError.
    """
    async with open_transport(
        environ, insecure=insecure, logins={registry: login}, offline=not login.identity_token
    ) as transport:
        try:
            async with transport.open(registry, "GET", "", "") as response:
                if response.status_code in (401, 403):
                    raise denied(
                        registry, await said(response) or "it does not take the user name and password"
                    )
                if response.status_code != 200:
                    raise ImageError(
                        f"registry {registry} answers {response.status_code} to a login",
                        code="registry",
                        hint="is it a registry? a name is HOST or HOST:PORT",
                    )
        except ImageError as error:
            if error.code == "registry-denied":
                error.hint, error.notes = "check the user name, and the password or access token", ()
            raise
        return transport.identity(registry)


def known_login(environ: Mapping[str, str], registry: str) -> Login | None:
    """The login that is kept for a registry already."""
    return Keyring(environ).find(registry, "").login
