"""A proxy of HTTPS: it tunnels every CONNECT to one server, wherever it was meant to go."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """host: `127.0.0.1:PORT`; heads: of all requests, as they came; status: of its answers."""

    host: str
    heads: list[str] = field(default_factory=list)
    status: int = 200


@contextmanager
def connect_proxy(target: str) -> Iterator[ConnectProxy]:
    """Start one that leads to `target` (HOST:PORT)."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = ConnectProxy(f"127.0.0.1:{listener.getsockname()[1]}")
    address, _, port = target.rpartition(":")

    def loop() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_serve, args=(proxy, client, (address, int(port))), daemon=True).start()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _serve(proxy: ConnectProxy, client: socket.socket, target: tuple[str, int]) -> None:
    with client:
        head = b""
        while b"\r\n\r\n" not in head and (data := client.recv(65536)):
            head += data
        proxy.heads.append(head.decode("latin-1"))
        client.sendall(b"HTTP/1.1 %d X\r\n\r\n" % proxy.status)
        if proxy.status != 200:
            return
        with socket.create_connection(target) as server:
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return  # one of the two has gone
