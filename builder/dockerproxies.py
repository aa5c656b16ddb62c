"""What docker's configuration says of proxies: build arguments of every build, as `docker build` has it.

    {"proxies": {"default": {"httpProxy": "http://proxy:3128", "httpsProxy": …, "ftpProxy": …, "noProxy": …,
                             "allProxy": …},
                 "unix:///var/run/docker.sock": {…}}}

The file is `config.json` in $DOCKER_CONFIG, or ~/.docker. By host goes before `default`; the host is
$DOCKER_HOST, as docker would be told, or the socket on this machine. What RUN sees of them is not in its key
(see `compiler.scope`). On the path of a fully cached build: plainjson is used only where proxies are named.
"""

from __future__ import annotations

import os

from builder.home import in_home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET = "unix:///var/run/docker.sock"
FIELDS = {
    "httpProxy": "HTTP_PROXY", "httpsProxy": "HTTPS_PROXY", "ftpProxy": "FTP_PROXY", "noProxy": "NO_PROXY",
    "allProxy": "ALL_PROXY",
}  # fmt: skip
MAX_FILE = 4 << 20


def find_proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """The build arguments that docker's configuration makes; {} where it makes none, or cannot be read."""
    folder = environ.get("DOCKER_CONFIG") or in_home(environ, ".docker")
    if not folder:
        return {}
    try:
        with open(os.path.join(folder, "config.json"), "rb", buffering=0) as file:
            data = file.read(MAX_FILE) or b""
    except OSError:
        return {}
    return read_proxies(data, environ.get("DOCKER_HOST") or SOCKET) if b'"proxies"' in data else {}


def read_proxies(data: bytes, host: str) -> dict[str, str]:
    """The build arguments, in both spellings, for builds at a host. What is no such file has none. Pure."""
    from builder import plainjson

    try:
        proxies = plainjson.loads(data)["proxies"]
        told = proxies[host] if host in proxies else proxies["default"]
        given = {name: told[field] for field, name in FIELDS.items() if told.get(field)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    # Not printable is what no environment can hold, too: NUL, and half a character of JSON.
    given = {name: value for name, value in given.items() if isinstance(value, str) and value.isprintable()}
    return {**given, **{name.lower(): value for name, value in given.items()}}
