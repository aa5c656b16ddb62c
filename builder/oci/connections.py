"""The one way to registries: a transport with the user's logins, settings, certificates and proxies.

Whoever asks a registry on a user's behalf opens its transport here, so that what is set for a registry holds
for all that is done with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from builder import settings
from builder.oci.auth import Login
from builder.oci.credentials import Keyring
from builder.oci.hosts import Hosts, certificate_folders
from builder.oci.transport import Transport


def open_transport(
    environ: Mapping[str, str],
    *,
    insecure: Collection[str] = (),
    logins: Mapping[str, Login] | None = None,
    offline: bool = False,
    mirrors: bool = True,
) -> Transport:
    """A transport with all that the user has set. Close it, or use it in an `async with` block.

    insecure: registries (hosts) whose certificate is not looked at this time, nor plain HTTP refused, as
    `insecure = true` in the configuration file means. logins: some that count before those that are kept, by
    registry. offline: ask token services for identity tokens, as a login does. mirrors: False for who must
    know what the registry itself has, as he is about to change it. Raises UsageError for a configuration
    file that is no good; nothing is connected, and no login is looked up, before it is needed.
    """
    tables = settings.load(environ).registries
    if not mirrors:
        tables = tuple(table.but(mirrors=()) for table in tables)
    hosts = Hosts(tables, certificate_folders(environ), insecure)
    return Transport(Keyring(environ, logins).find, hosts, environ, offline=offline)
