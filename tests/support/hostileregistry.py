"""A registry that means harm: it has good images, and any of its answers can be a script of raw bytes.

Every connection has one request. What is asked of the host next door, where nobody has any business, is kept
in `elsewhere`. Nothing here builds up what it sends: a body without an end is sent piece by piece, until who
asked hangs up or the test is over.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from builder.oci import spec

MOST = 64 << 20  # bytes of a request that are taken
PIECE = 64 << 10
Headers = Sequence[tuple[str, str]]


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Asked:
    """One request; header names in lower case. body: how many bytes came behind it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: int = 0

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Wire:
    """What a script writes to. over: set when the test ends; layer: that of the registry's image."""

    def __init__(self, connection: socket.socket, over: threading.Event, layer: bytes) -> None:
        self._connection = connection
        self.over = over
        self.layer = layer

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def head(self, status: int, *headers: tuple[str, str]) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        self.send(f"HTTP/1.1 {status} X\r\nconnection: close\r\n{lines}\r\n".encode("latin-1"))

    def answer(self, status: int, body: bytes = b"", *headers: tuple[str, str]) -> None:
        """A whole answer, as it should be."""
        self.head(status, ("content-length", str(len(body))), *headers)
        self.send(body)

    def repeat(self, piece: bytes) -> None:
        """The same bytes, again and again, for as long as somebody takes them."""
        many = piece * max(1, PIECE // len(piece))
        while not self.over.is_set():
            self.send(many)

    def drip(self, piece: bytes, seconds: float) -> None:
        """The same bytes, with a pause behind each."""
        while not self.over.wait(seconds):
            self.send(piece)

    def wait(self) -> None:
        """Say nothing more, and do not hang up."""
        self.over.wait()


Script = Callable[[Asked, Wire], None]


@dataclass
class HostileRegistry:
    """host: `127.0.0.1:PORT`; other: the same of the host next door; layer: what images are made of, if of
    nothing else."""

    layer: bytes = b""
    host: str = ""
    other: str = ""
    asked: list[Asked] = field(default_factory=list)
    elsewhere: list[Asked] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    scripts: list[tuple[re.Pattern[str], Script]] = field(default_factory=list)
    pushed: dict[str, bytes] = field(default_factory=dict)

    # ── what there is ────────────────────────────────────────────────────────────────────────────────────

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Have a blob; its descriptor."""
        self.blobs[digest_of(data)] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def document(self, value: Any, media_type: str, tag: str = "") -> dict[str, Any]:
        """Have a manifest, an index, or bytes in the place of one; its descriptor."""
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.manifests[digest_of(data)] = (media_type, data)
        if tag:
            self.manifests[tag] = (media_type, data)
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def image(
        self,
        *layers: bytes,
        tag: str = "1",
        config: Mapping[str, Any] | None = None,
        manifest: Mapping[str, Any] | None = None,
        diff_ids: Sequence[str] | None = None,
        media_type: str = spec.OCI_LAYER_GZIP,
    ) -> dict[str, Any]:
        """Have an image of these compressed layers; its manifest as a document."""
        layers = layers or (self.layer,)
        if diff_ids is None:
            diff_ids = [digest_of(gzip.decompress(layer)) for layer in layers]
        described = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            **(config or {}),
        }
        document = {
            "schemaVersion": 2,
            "mediaType": spec.OCI_MANIFEST,
            "config": self.blob(json.dumps(described).encode(), spec.OCI_CONFIG),
            "layers": [self.blob(layer, media_type) for layer in layers],
            **(manifest or {}),
        }
        self.document(document, spec.OCI_MANIFEST, tag)
        return document

    def on(self, pattern: str, script: Script) -> None:
        """Let a script answer what looks so: `METHOD /path`, an expression; LAYER is the layer's digest."""
        self.scripts.append((re.compile(pattern.replace("LAYER", digest_of(self.layer))), script))

    # ── what is answered ─────────────────────────────────────────────────────────────────────────────────

    def serve(self, asked: Asked, wire: Wire, body: bytes) -> None:
        """Answer as a good registry, unless there is a script for it."""
        self.asked.append(asked)
        for pattern, script in self.scripts:
            if pattern.search(str(asked)):
                script(asked, wire)
                return
        if asked.method in ("GET", "HEAD"):
            self._give(asked, wire)
        else:
            self._take(asked, wire, body)

    def _give(self, asked: Asked, wire: Wire) -> None:
        path = asked.path.partition("?")[0]
        kind, data = "application/octet-stream", None
        if path in ("/v2", "/v2/"):
            data = b"{}"
        elif "/manifests/" in path:
            kind, data = self.manifests.get(path.rpartition("/")[2], (kind, None))
        elif "/blobs/" in path:
            data = self.blobs.get(path.rpartition("/")[2])
        elif path.endswith("/tags/list"):
            tags = [name for name in self.manifests if ":" not in name]
            kind, data = "application/json", json.dumps({"name": "app", "tags": tags}).encode()
        if data is None:
            wire.answer(404)
            return
        headers: list[tuple[str, str]] = [("content-length", str(len(data))), ("content-type", kind)]
        if "/manifests/" in path:
            headers.append(("docker-content-digest", digest_of(data)))
        wire.head(200, *headers)
        if asked.method == "GET":
            wire.send(data)

    def _take(self, asked: Asked, wire: Wire, body: bytes) -> None:
        path, _, query = asked.path.partition("?")
        if asked.method == "POST":
            wire.answer(202, b"", ("location", f"{path}upload"), ("range", "0-0"))
        elif asked.method == "PATCH":
            self.pushed[path] = self.pushed.get(path, b"") + body
            wire.answer(202, b"", ("location", path), ("range", f"0-{len(self.pushed[path]) - 1}"))
        elif "/manifests/" in path:
            self.manifests[path.rpartition("/")[2]] = (asked.headers.get("content-type", ""), body)
            wire.answer(201, b"", ("docker-content-digest", digest_of(body)))
        elif "digest=" in query:
            whole = self.pushed.pop(path, b"") + body
            self.blobs[digest_of(whole)] = whole
            wire.answer(201)
        else:
            wire.answer(404)


@contextmanager
def hostile_registry(layer: bytes) -> Iterator[HostileRegistry]:
    """Serve until the block ends; every thread has ended then. layer: compressed, of the image `app:1`."""
    registry, over = HostileRegistry(layer), threading.Event()
    registry.image()
    threads: list[threading.Thread] = []

    def attend(connection: socket.socket, *, next_door: bool) -> None:
        with connection, suppress(OSError):
            connection.settimeout(120)
            asked, body = _read(connection)
            if asked is None:
                return
            wire = Wire(connection, over, layer)
            if next_door:
                registry.elsewhere.append(asked)
                _answer_next_door(registry, asked, wire)
            else:
                registry.serve(asked, wire, body)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(1)
            while connection.recv(PIECE):  # what it has not read would make the kernel drop what it should
                pass

    def listen(listener: socket.socket, *, next_door: bool) -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                thread = threading.Thread(target=attend, args=(connection,), kwargs={"next_door": next_door})
                thread.start()
                threads.append(thread)

    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    for listener in listeners:
        listener.settimeout(0.05)
    registry.host, registry.other = (f"127.0.0.1:{one.getsockname()[1]}" for one in listeners)
    for listener, next_door in zip(listeners, (False, True), strict=True):
        threads.append(threading.Thread(target=listen, args=(listener,), kwargs={"next_door": next_door}))
        threads[-1].start()
    try:
        yield registry
    finally:
        over.set()
        for thread in threads:
            thread.join()
        for listener in listeners:
            listener.close()


def _answer_next_door(registry: HostileRegistry, asked: Asked, wire: Wire) -> None:
    """The host next door has the same blobs, and gives tokens to whoever asks."""
    data = registry.blobs.get(asked.path.partition("?")[0].rpartition("/")[2])
    wire.answer(200, data if data is not None else b'{"token":"of-next-door"}')


def _read(connection: socket.socket) -> tuple[Asked | None, bytes]:
    """A request: its head, and its body, which is kept up to MOST bytes."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(PIECE)
        if not more or len(data) > 1 << 20:
            return None, b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    wanted = int(headers.get("content-length", "0"))
    pieces, count = [body], len(body)
    while count < wanted and (more := connection.recv(min(PIECE, wanted - count))):
        count += len(more)
        if count <= MOST:
            pieces.append(more)
    return Asked(method, path, headers, count), b"".join(pieces)
