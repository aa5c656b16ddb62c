"""Whether a registry has an image already: asked with a socket and nothing else.

A push of what has not changed has nothing to do, and its whole cost would be that of loading an HTTP client.
So who pushes asks here first: one HEAD for what each name means, all of them at once (RFC 9112, 9.3.2), and
then one for each manifest that an index has. A registry takes no manifest without its blobs, and keeps them
as long as that is there, so blobs are not asked for; manifests that an index names have been lost by
registries. Only registries on this machine's loopback are asked, in plain HTTP and without credentials, as
docker has it. Whatever is not the plainest "yes" is "no": then a client that knows all finds out, and does,
what is missing. It never sends anything but these questions.
"""

from __future__ import annotations

import _socket
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.digest import Digest
    from builder.oci.parcel import Parcel
    from builder.oci.reference import Reference

SECONDS = 10.0  # for a connection, and for each piece of an answer: as long as clients wait for the first
MOST_SECONDS = 30.0  # for all answers on a connection
MAX_HEAD = 16 << 10  # bytes of an answer
MAX_QUESTIONS = 2000
HIGHEST_PORT = 65535
AT_ONCE = 50  # questions sent before the first answer is read: they fit into any socket's buffer
LOOPBACK = ("127.0.0.1", "localhost")
DIGEST = "docker-content-digest"
ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


class Asking:
    """Asks what names mean as soon as it is entered: who looks up the image then need not wait for that."""

    def __init__(self, names: Sequence[Reference]) -> None:
        self._names = names
        self._lines: dict[str, _Line] = {}
        self._is_asked = bool(names)

    def __enter__(self) -> Asking:
        try:
            for name in self._names:
                if name.registry not in self._lines:
                    self._lines[name.registry] = _Line(name.registry)
                self._lines[name.registry].ask(f"{name.repository}/manifests/{name.target}")
            for line in self._lines.values():
                line.send()
        except (OSError, ValueError):
            self._is_asked = False
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._lines.values():
            line.close()

    def have_it(self, parcel: Parcel) -> bool:
        """Whether each of the names means the image there, and its repository has every manifest of it."""
        if not self._is_asked:
            return False
        wanted: dict[str, list[Digest]] = {registry: [] for registry in self._lines}
        for name in self._names:
            wanted[name.registry].append(parcel.root.digest)
        for registry, repository in dict.fromkeys((name.registry, name.repository) for name in self._names):
            for document in parcel.documents()[:-1]:
                self._lines[registry].ask(f"{repository}/manifests/{document.digest}")
                wanted[registry].append(document.digest)
        try:
            return all(
                answer.get(DIGEST) == digest
                for registry, line in self._lines.items()
                for answer, digest in zip(line.answers(), wanted[registry], strict=True)
            )
        except (OSError, ValueError):
            return False


def have_it(names: Sequence[Reference], parcel: Parcel) -> bool:
    """Whether each of these names means the image there, and its repository has every manifest of it."""
    with Asking(names) as asking:
        return asking.have_it(parcel)


def _address(registry: str) -> tuple[str, int]:
    """Where a registry on this machine listens. Raises ValueError for any other."""
    host, colon, port = registry.partition(":")
    if host not in LOOPBACK or (colon and not (port.isascii() and port.isdecimal() and len(port) < 6)):
        raise ValueError("not a registry on this machine's loopback")
    number = int(port) if colon else 80
    if number > HIGHEST_PORT:
        raise ValueError("no port of any server")
    return "127.0.0.1", number


class _Line:
    """A connection to a registry, and what is asked on it. Raises OSError, ValueError."""

    def __init__(self, registry: str) -> None:
        address = _address(registry)
        self._registry = registry
        self._paths: list[str] = []
        self._sent = 0
        self._end = monotonic() + MOST_SECONDS
        self._held = b""
        self._connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        try:
            self._connection.settimeout(SECONDS)
            self._connection.connect(address)
        except OSError:
            self._connection.close()
            raise

    def ask(self, path: str) -> None:
        """Note a question; it is sent by `send`, or with those before it."""
        self._paths.append(path)

    def send(self) -> None:
        """Ask as much as goes at once."""
        paths = self._paths[self._sent : self._sent + AT_ONCE]
        heads = [
            f"HEAD /v2/{path} HTTP/1.1\r\nHost: {self._registry}\r\nUser-Agent: pybuild\r\n"
            f"Accept: {ACCEPT}\r\n\r\n"
            for path in paths
        ]
        self._connection.sendall("".join(heads).encode("ascii"))
        self._sent += len(paths)

    def answers(self) -> Iterator[dict[str, str]]:
        """The headers of each answer, empty where it is not 200."""
        if len(self._paths) > MAX_QUESTIONS:
            raise ValueError("too many questions")
        for number in range(len(self._paths)):
            if number == self._sent:
                self.send()
            yield self._next()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _next(self) -> dict[str, str]:
        """An answer to HEAD has no body (RFC 9110, 9.3.2)."""
        while b"\r\n\r\n" not in self._held:
            data = self._connection.recv(MAX_HEAD)
            if not data or len(self._held) > MAX_HEAD or monotonic() > self._end:
                raise ValueError("not a whole answer")
            self._held += data
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        if not status.startswith("HTTP/1.1 200"):
            return {}
        pairs = (line.partition(":") for line in lines)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}


def may_ask(environ: Mapping[str, str]) -> bool:
    """Whether nothing is set up for registries that this module would not know of."""
    from builder.configfile import find

    path = find(environ)
    if not path:
        return True
    try:
        with open(path, "rb") as file:
            return b"registries" not in file.read()
    except OSError:
        return False
