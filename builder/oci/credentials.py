"""Who the user is to registries: logins out of files and from the programs that those name.

Of a registry's login only the one is looked for, when it is asked for. What goes wrong with it is no error
here, as most images need none: it is told to who is refused.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from builder.oci import credentialfiles as files
from builder.oci import credentialhelpers as helpers
from builder.oci.auth import Found, Login
from builder.oci.credentialfiles import CredentialError


class Keyring:
    """The user's logins. Files are read when somebody asks, a program is asked once for a registry.

    given: logins that count before all that are kept.
    """

    def __init__(self, environ: Mapping[str, str], given: Mapping[str, Login] | None = None) -> None:
        self._environ = environ
        self._given = given or {}
        self._helped: dict[tuple[str, str], Login | None] = {}
        self.places = files.find_places(environ, _own_uid())

    def find(self, registry: str, repository: str) -> Found:
        """The login for a registry, in the first place that has one, and what other places were of no use."""
        if registry in self._given:
            return Found(self._given[registry])
        troubles: list[str] = []
        for document in self._documents(troubles):
            for login in self._logins(document, registry, repository, troubles):
                return Found(login, tuple(troubles))
        return Found(None, tuple(troubles))

    def _documents(self, troubles: list[str]) -> Iterator[dict[str, Any]]:
        """What all places say, in the order in which they count."""
        readers = [partial(files.read_file, path) for path in self.places.read]
        if self.places.text:
            readers.insert(0, partial(files.parse, self.places.text, "DOCKER_AUTH_CONFIG"))
        for read in readers:
            try:
                document = read()
            except CredentialError as error:
                troubles.append(error.message)
                continue
            yield document

    def _logins(
        self, document: Mapping[str, Any], registry: str, repository: str, troubles: list[str]
    ) -> Iterator[Login]:
        """Of the program that a file names, and in the file itself."""
        try:
            if (helper := files.helper_for(document, registry)) is not None:
                if helper not in self._helped:
                    self._helped[helper] = helpers.get(*helper, self._environ)
                if (login := self._helped[helper]) is not None:
                    yield login
        except CredentialError as error:
            troubles.append(error.message)
        try:
            if (login := files.login_in(document, registry, repository)) is not None:
                yield login
        except CredentialError as error:
            troubles.append(error.message)


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a login went: into a file in plain text, or to a program ("" if none)."""

    path: str
    helper: str = ""


def keep(environ: Mapping[str, str], registry: str, login: Login) -> Kept:
    """Keep a login where docker does: by the program that its file names, else in the file itself.

    Raises CredentialError.
    """
    path = files.find_places(environ, _own_uid()).written
    key = files.server_key(registry)
    helper = files.helper_for(files.read_file(path), registry)
    entry = files.entry_of(login)
    if helper is not None:
        helpers.store(helper[0], helper[1], login, environ)
        entry = {}  # as docker has it, for who looks up what there is

    def edit(document: dict[str, Any]) -> bool:
        auths = document.get("auths")
        auths = auths if isinstance(auths, dict) else {}
        document["auths"] = auths
        for old in files.keys_of(registry, auths):
            del auths[old]
        auths[key] = entry
        return True

    files.change(path, edit)
    return Kept(path, helper[0] if helper is not None else "")


def forget(environ: Mapping[str, str], registry: str) -> bool:
    """Forget a registry's login; whether there was one. Raises CredentialError."""
    path = files.find_places(environ, _own_uid()).written
    document = files.read_file(path)
    helper = files.helper_for(document, registry)
    known = bool(files.keys_of(registry, _auths(document)))
    if helper is not None and (known or _has(helper, environ)):
        known = helpers.erase(*helper, environ) or known
    if not files.keys_of(registry, _auths(document)):
        return known  # no folder is made for what is not there

    def edit(document: dict[str, Any]) -> bool:
        auths = _auths(document)
        keys = files.keys_of(registry, auths)
        for key in keys:
            del auths[key]
        return bool(keys)

    return files.change(path, edit) or known


def find_others(environ: Mapping[str, str], registry: str) -> list[str]:
    """The other places, by their names, that have a login for a registry, which `forget` leaves there."""
    places = files.find_places(environ, _own_uid())
    readers = {path: partial(files.read_file, path) for path in places.read if path != places.written}
    if places.text:
        readers["DOCKER_AUTH_CONFIG"] = partial(files.parse, places.text, "DOCKER_AUTH_CONFIG")
    found = []
    for name, read in readers.items():
        with contextlib.suppress(CredentialError):
            if files.login_in(read(), registry, "") is not None:
                found.append(name)
    return found


def all_registries(environ: Mapping[str, str]) -> list[str]:
    """The registries that the file of logins names. Raises CredentialError."""
    document = files.read_file(files.find_places(environ, _own_uid()).written)
    return list(dict.fromkeys(files.host_of(key) for key in _auths(document)))


def _own_uid() -> int:
    """The user's number outside of a user namespace that a build may have entered (user_namespaces(7))."""
    uid = os.getuid()
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            rows = [tuple(int(word) for word in line.split()) for line in file]
    except (OSError, ValueError):
        return uid
    return next((outside + uid - inside for inside, outside, count in rows if 0 <= uid - inside < count), uid)


def _has(helper: tuple[str, str], environ: Mapping[str, str]) -> bool:
    return helpers.get(*helper, environ) is not None


def _auths(document: Mapping[str, Any]) -> dict[str, Any]:
    auths = document.get("auths")
    return auths if isinstance(auths, dict) else {}
