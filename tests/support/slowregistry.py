"""A registry that serves one image of a layout, and its layers as slowly as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from builder.oci import spec

SMALL = 64 << 10  # what is no larger is a document


class SlowRegistry:
    """host: `127.0.0.1:PORT`; every name is the layout's image. trickling: set once a layer is asked for."""

    def __init__(self, layout: Path, manifest: str) -> None:
        self.layout = layout
        self.manifest = manifest
        self.trickling = threading.Event()
        self.over = threading.Event()
        self.host = ""

    def read(self, digest: str) -> bytes | None:
        path = self.layout / "blobs/sha256" / digest.removeprefix("sha256:")
        return path.read_bytes() if path.is_file() else None


@contextmanager
def slow_registry(layout: Path, manifest: str) -> Iterator[SlowRegistry]:
    """Serve the image whose manifest has that digest; what is large comes in drops, without end."""
    registry = SlowRegistry(layout, manifest)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _, _, name = self.path.rpartition("/")
            digest = registry.manifest if "/manifests/" in self.path else name
            data = registry.read(digest) if digest else b""
            self.send_response(200 if data is not None else 404)
            self.send_header("content-length", str(len(data or b"")))
            if "/manifests/" in self.path:
                self.send_header("content-type", spec.OCI_MANIFEST)
            self.end_headers()
            if self.command == "GET":
                self.send(data or b"")

        do_HEAD = do_GET  # noqa: N815 - the name that http.server asks for

        def send(self, data: bytes) -> None:
            if len(data) <= SMALL:
                self.wfile.write(data)
                return
            self.close_connection = True
            for start in range(0, len(data), 1024):
                try:
                    self.wfile.write(data[start : start + 1024])
                except OSError:
                    return
                registry.trickling.set()
                if registry.over.wait(0.05):
                    return

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield registry
    finally:
        registry.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
