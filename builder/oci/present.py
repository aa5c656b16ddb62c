"""Whether a registry has all of an image already: asked with a socket and nothing else.

A push of what has not changed has nothing to do, and its whole cost would be that of loading an HTTP client.
So who pushes asks here first: one HEAD for the name's manifest, and if that is the very image, one for each
blob, all on one connection (RFC 9112, 9.3.2). Only registries on this machine's loopback are asked, in plain
HTTP and without credentials, as docker has it. Whatever is not the plainest "yes" is "no": then a client
that knows everything finds out, and does, what is missing. It never sends anything but these questions.
"""

from __future__ import annotations

import _socket
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from builder.oci.parcel import Parcel
    from builder.oci.reference import Reference

SECONDS = 2.0  # for a connection, and for each piece of an answer
MOST_SECONDS = 10.0  # for all answers
MAX_HEAD = 16 << 10  # bytes of an answer
MAX_QUESTIONS = 2000
AT_ONCE = 50  # questions sent before the first answer is read: they fit into any socket's buffer
LOOPBACK = ("127.0.0.1", "localhost")
ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


def has_all(names: Sequence[Reference], parcel: Parcel) -> bool:
    """Whether each of these names means the image there, and its repository has every blob of it."""
    if not names or any(_address(name.registry) is None for name in names):
        return False
    try:
        for registry in dict.fromkeys(name.registry for name in names):
            there = [name for name in names if name.registry == registry]
            if not _asked_all(registry, list(_questions(there, parcel))):
                return False
    except (OSError, ValueError):
        return False
    return True


def _address(registry: str) -> tuple[str, int] | None:
    """Where a registry on this machine listens; None for any other."""
    host, colon, port = registry.partition(":")
    if host not in LOOPBACK or (colon and not (port.isascii() and port.isdecimal())):
        return None
    return "127.0.0.1", int(port) if colon else 80


def _questions(names: Iterable[Reference], parcel: Parcel) -> Iterator[tuple[str, str, str]]:
    """Of each question its path, and a header of the answer with the value that it must have."""
    digest = parcel.root.digest
    repositories: dict[str, None] = {}
    for name in names:
        repositories[name.repository] = None
        yield f"{name.repository}/manifests/{name.target}", "docker-content-digest", digest
    for repository in repositories:
        for document in parcel.documents()[:-1]:
            yield f"{repository}/manifests/{document.digest}", "docker-content-digest", document.digest
        for blob in parcel.blobs:
            yield f"{repository}/blobs/{blob.digest}", "content-length", str(blob.size)


def _asked_all(registry: str, questions: list[tuple[str, str, str]]) -> bool:
    """Ask; the first question alone, as it mostly tells. Raises OSError, ValueError."""
    address = _address(registry)
    if address is None or len(questions) > MAX_QUESTIONS:
        return False
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        connection.settimeout(SECONDS)
        connection.connect(address)
        answers = _Answers(connection)
        starts = [0, *range(1, len(questions), AT_ONCE)]
        for start, end in zip(starts, [*starts[1:], len(questions)], strict=True):
            asked = questions[start:end]
            heads = "".join(_request(registry, path) for path, _, _ in asked)
            connection.sendall(heads.encode("ascii"))
            for _, header, value in asked:
                if answers.next().get(header) != value:
                    return False
    finally:
        connection.close()
    return True


def _request(registry: str, path: str) -> str:
    return f"HEAD /v2/{path} HTTP/1.1\r\nHost: {registry}\r\nUser-Agent: pybuild\r\nAccept: {ACCEPT}\r\n\r\n"


class _Answers:
    """The answers on a connection, one after the other: to HEAD none has a body (RFC 9110, 9.3.2)."""

    def __init__(self, connection: _socket.socket) -> None:
        self._connection = connection
        self._end = monotonic() + MOST_SECONDS
        self._held = b""

    def next(self) -> dict[str, str]:
        """The headers of the next answer, empty where it is not 200. Raises OSError, ValueError."""
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
