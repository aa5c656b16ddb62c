"""Files with logins, as docker and podman keep them: what they say of a registry, and how they are changed.

`~/.docker/config.json` ($DOCKER_CONFIG) and podman's `auth.json` have one form: "auths" by host (podman's
also by host and path, the longest counts), "credHelpers" by host, "credsStore" for all others. What else is
in them is kept as it is. A file is changed by one rename, is nobody else's to read (0600), and two that
change it at the same time do so one after the other. Nothing is known here of the programs that it names.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from builder.errors import BuildError, reason_of
from builder.home import in_home
from builder.oci.auth import Login
from builder.oci.reference import DOCKER_HUB

HUB_KEY = "https://index.docker.io/v1/"  # what docker calls its hub
MAX_FILE = 4 << 20
_HUB_HOSTS = (DOCKER_HUB, "index.docker.io", "registry-1.docker.io")


class CredentialError(BuildError):
    """A file or a program with logins is at fault."""

    code = "credentials"


@dataclass(frozen=True, slots=True)
class Places:
    """The files with logins. read: as they count, first to last. written: the one that `login` changes."""

    read: tuple[str, ...]
    written: str
    text: str = ""  # of a file's form, from the environment; before all files


def find_places(environ: Mapping[str, str], uid: int) -> Places:
    """Where logins are kept, by docker's and podman's variables."""
    docker = environ.get("DOCKER_CONFIG") or in_home(environ, ".docker")
    config = environ.get("XDG_CONFIG_HOME", "")
    config = config if config.startswith("/") else in_home(environ, ".config")
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    runtime = os.path.join(runtime, "containers") if runtime else f"/run/containers/{uid}"
    first = environ.get("REGISTRY_AUTH_FILE", "")
    found = (
        first,
        docker and os.path.join(docker, "config.json"),
        os.path.join(runtime, "auth.json"),
        config and os.path.join(config, "containers", "auth.json"),
    )
    read = tuple(os.path.abspath(path) for path in found if path)
    return Places(read, read[0], environ.get("DOCKER_AUTH_CONFIG", ""))


def read_file(path: str) -> dict[str, Any]:
    """What a file says; an empty object where there is none. Raises CredentialError."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CredentialError(f"{path} cannot be read: {reason_of(error)}") from error
    if len(data) > MAX_FILE:
        raise CredentialError(f"{path} has more than {MAX_FILE >> 20} MiB")
    return parse(data, path) if data.strip() else {}


def parse(data: bytes | str, name: str) -> dict[str, Any]:
    """The object that a file's text is. Raises CredentialError."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):  # what the decoder says may quote the text, so a password
        raise CredentialError(f"{name} is no JSON") from None
    if not isinstance(document, dict):
        raise CredentialError(f"{name} is no JSON object")
    return document


def login_in(document: Mapping[str, Any], registry: str, repository: str) -> Login | None:
    """The login that "auths" has for a repository ("" for none). Raises CredentialError for a damaged one."""
    auths = document.get("auths")
    if not isinstance(auths, dict):
        return None
    parts = [part for part in repository.split("/") if part]
    paths = ["/".join([registry, *parts[:count]]) for count in range(len(parts), 0, -1)]
    for key in [*paths, *keys_of(registry, auths)]:
        entry = auths.get(key)
        if isinstance(entry, dict) and (login := _login(entry, key)) is not None:
            return login
    return None


def keys_of(registry: str, entries: Mapping[str, Any]) -> list[str]:
    """The names by which a table by host knows a registry, the most exact first."""
    names = (HUB_KEY, *_HUB_HOSTS) if registry == DOCKER_HUB else (registry,)
    exact = [name for name in names if name in entries]
    return exact + [key for key in entries if key not in exact and "://" in key and host_of(key) in names]


def host_of(server: str) -> str:
    """The host that is meant by `https://HOST/v2/` and the like, as docker takes it; the hub by its name."""
    host = server.partition("://")[2] if server.startswith(("http://", "https://")) else server
    host = host.partition("/")[0]
    return DOCKER_HUB if host in _HUB_HOSTS else host


def helper_for(document: Mapping[str, Any], registry: str) -> tuple[str, str] | None:
    """The program that a file names for a registry, and what the program calls the registry."""
    own = document.get("credHelpers")
    if isinstance(own, dict):
        for key in keys_of(registry, own):
            if isinstance(own[key], str) and own[key]:
                return own[key], key
    store = document.get("credsStore")
    return (store, server_key(registry)) if isinstance(store, str) and store else None


def server_key(registry: str) -> str:
    """What docker calls a registry in files and to programs."""
    return HUB_KEY if registry == DOCKER_HUB else registry


def entry_of(login: Login) -> dict[str, str]:
    """The entry of "auths" for a login."""
    entry = {"auth": b64encode(f"{login.user}:{login.password}".encode()).decode("ascii")}
    if login.identity_token:
        entry["identitytoken"] = login.identity_token
    return entry


def _login(entry: Mapping[str, Any], key: str) -> Login | None:
    """The login of an entry; one that a program keeps has an empty entry."""

    def text(name: str) -> str:
        value = entry.get(name, "")
        return value if isinstance(value, str) else ""

    user, password = text("username"), text("password")
    if auth := text("auth"):
        try:
            decoded = b64decode(auth, validate=True).decode()
        except (NotBase64, ValueError):
            raise CredentialError(f"the login for {key} is damaged: it is no base64") from None
        user, _, password = decoded.partition(":")
        password = password.strip("\0")
    try:
        login = Login(user, password, text("identitytoken"), text("registrytoken"))
    except ValueError:
        raise CredentialError(f"the login for {key} is damaged: it is no text") from None
    return login if user or password or login.identity_token or login.registry_token else None


def change(path: str, edit: Callable[[dict[str, Any]], bool]) -> bool:
    """Change a file, which need not be there; whether `edit` said that there is something to write.

    Raises CredentialError.
    """
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with _locked(folder):
            document = read_file(path)
            if not edit(document):
                return False
            _write(
                path, json.dumps(document, indent="\t", ensure_ascii=False).encode(errors="backslashreplace")
            )
    except OSError as error:
        raise CredentialError(f"{path} cannot be written: {reason_of(error)}") from error
    return True


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _write(path: str, data: bytes) -> None:
    """Put a file in the place of another, whose owner it keeps."""
    new = f"{path}.{os.getpid()}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            with contextlib.suppress(FileNotFoundError, PermissionError):
                before = os.stat(path)
                os.fchown(fd, before.st_uid, before.st_gid)
            os.fsync(fd)
        os.rename(new, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        raise
