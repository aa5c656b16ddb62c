"""What is set for registries, by host: mirrors, how they are spoken to, whom to trust there.

It comes from `[registries."host"]` of the configuration file, and from folders of certificates, laid out as
docker and podman have them: HOST[:PORT]/*.crt are authorities, NAME.cert and NAME.key what is shown to the
server. Such a folder counts for its host beside the table, whose own files come first.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from builder.errors import UsageError
from builder.home import in_home
from builder.oci.addresses import is_loopback, without_port
from builder.oci.answers import HUB_HOST
from builder.oci.clients import PLAIN, Trust
from builder.oci.reference import DOCKER_HUB
from builder.settings import RegistrySettings

SYSTEM_FOLDERS = ("/etc/containers/certs.d", "/etc/docker/certs.d")
USER_FOLDERS = ("containers/certs.d", "docker/certs.d")  # in $XDG_CONFIG_HOME
_HUB_NAMES = (DOCKER_HUB, "index.docker.io", HUB_HOST)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place that has a registry's images: a host ("docker.io" for that one), and a path before their names.

    scheme: "" where that is to be found out.
    """

    host: str
    path: str = ""
    scheme: str = ""


class Hosts:
    """All that is set. insecure: registries whose certificate is not to be looked at, this time.

    Raises UsageError where two tables are for one registry.
    """

    def __init__(
        self,
        settings: Iterable[RegistrySettings] = (),
        folders: Sequence[str] = (),
        insecure: Collection[str] = (),
    ) -> None:
        self._settings = _by_name(settings)
        for host in insecure:
            name = _plain(host)
            self._settings[name] = self.settings(name).but(insecure=True)
        self._folders = folders
        self._trusts: dict[str, Trust] = {}

    def settings(self, host: str) -> RegistrySettings:
        """What the file says of a host, all defaults where it says nothing."""
        name = _plain(host)
        return self._settings.get(name) or RegistrySettings(host=name)

    def is_known(self, host: str) -> bool:
        """Whether the user has named this host."""
        return _plain(host) in self._settings

    def mirrors(self, registry: str) -> tuple[Endpoint, ...]:
        """Where to look for a registry's images before the registry itself is asked."""
        return tuple(_endpoint(text) for text in self.settings(registry).mirrors)

    def schemes(self, registry: str) -> tuple[str, ...]:
        """How a registry may be spoken to, first to last; where there is one, nothing has to be tried."""
        settings = self.settings(registry)
        if settings.http:
            return ("http",)
        if settings.insecure:
            return ("https", "http")
        own = self.trust(registry)
        return ("http", "https") if is_loopback(registry) and own == PLAIN else ("https",)

    def trust(self, host: str) -> Trust:
        """How TLS is done with a host."""
        name = _plain(host)
        if name not in self._trusts:
            settings = self.settings(name)
            own = Trust(
                settings.authorities, settings.certificate, settings.key, checked=not settings.insecure
            )
            self._trusts[name] = _with_folders(own, name, self._folders)
        return self._trusts[name]

    def trust_by(self, registry: str, host: str) -> Trust:
        """How TLS is done with a host that a registry has named: its authorities count there, too.

        What is shown to a registry is not shown to others; and certificates that are not looked at are those
        of the registry's own name, be it at another port.
        """
        own = self.trust(host)
        if own != PLAIN or _plain(host) == _plain(registry):
            return own
        there = self.trust(registry)
        same = without_port(host.lower()) == without_port(registry.lower())
        return replace(PLAIN, authorities=there.authorities, checked=there.checked or not same)


def certificate_folders(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Where folders of certificates lie: the user's first."""
    config = environ.get("XDG_CONFIG_HOME", "")
    if not config.startswith("/"):
        config = in_home(environ, ".config")
    own = USER_FOLDERS if config else ()
    return (*(os.path.join(config, folder) for folder in own), *SYSTEM_FOLDERS)


def _by_name(settings: Iterable[RegistrySettings]) -> dict[str, RegistrySettings]:
    found: dict[str, RegistrySettings] = {}
    for one in settings:
        name = _plain(one.host)
        if name in found:
            raise UsageError(
                f"the configuration file has tables for {found[name].host} and {one.host}, which are one",
                hint="put all of it into one table",
            )
        found[name] = one
    return found


def _plain(host: str) -> str:
    """A host as it is compared: the hub under one name, the port that all have left out."""
    name = host.lower().removesuffix(":443")
    return DOCKER_HUB if name in _HUB_NAMES else name


def _endpoint(text: str) -> Endpoint:
    """A mirror as it is written: `[http://|https://]HOST[:PORT][/PATH]`, which `settings` has looked at."""
    scheme, mark, rest = text.rpartition("://")
    host, _, path = rest.partition("/")
    return Endpoint(
        _plain(host) if _plain(host) == DOCKER_HUB else host, path.strip("/"), scheme if mark else ""
    )


def _with_folders(own: Trust, host: str, folders: Iterable[str]) -> Trust:
    """Add what lies in a host's folders of certificates."""
    names = _HUB_NAMES if host == DOCKER_HUB else (host,)
    for folder in (os.path.join(folder, name) for folder in folders for name in names):
        try:
            files = sorted(os.listdir(folder))
        except OSError:
            continue  # none there, or none for this user
        found = tuple(os.path.join(folder, file) for file in files if file.endswith(".crt"))
        own = replace(own, authorities=(*own.authorities, *found))
        for file in files:
            stem, dot, kind = file.rpartition(".")
            if not own.certificate and dot and kind == "cert" and f"{stem}.key" in files:
                pair = (os.path.join(folder, file), os.path.join(folder, f"{stem}.key"))
                own = replace(own, certificate=pair[0], key=pair[1])
    return own
