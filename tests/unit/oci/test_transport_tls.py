"""TLS with registries: which scheme is spoken, and what its failures are."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builder.errors import ImageError
from builder.oci import clients, reference
from builder.oci.hosts import Hosts
from builder.oci.registry import Registry
from builder.oci.spec import OCI_LAYER, Descriptor
from builder.oci.transport import Transport
from builder.settings import RegistrySettings
from builder.store.blobs import BlobStore
from tests.support.layouts import digest_of
from tests.support.machine import needs
from tests.support.registry import make_certificates

BODY = b"x" * 1000
openssl = needs("openssl")


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server of one connection after another, which `serve` handles; its `127.0.0.1:PORT`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def loop() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with connection:
                    serve(connection)
            except OSError:
                continue  # who has hung up

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def plain(connection: socket.socket) -> None:
    """Speak HTTP, and no TLS."""
    first = connection.recv(65536)
    status = b"400 Bad Request" if first[:1] == b"\x16" else b"200 OK"
    connection.sendall(b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)


def damaged(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    """Answer with half a body in TLS, and go on with what is none."""

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(65536)
            wrapped.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY[:500]))
            os.write(wrapped.fileno(), b"this is no record of TLS")

    return serve


@pytest.mark.hostile("DoS")
@openssl
async def test_tls_that_breaks_within_a_body_is_the_registrys_fault_and_not_the_disks(tmp_path: Path) -> None:
    _, certificate, key = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    blob = Descriptor(OCI_LAYER, digest_of(BODY), len(BODY))

    with server(damaged(context)) as host:
        hosts = Hosts([RegistrySettings(host=host, authorities=(str(tmp_path / "ca.pem"),))])
        name = reference.parse(f"{host}/a:1")
        async with Registry(Transport(hosts=hosts)) as registry:
            with pytest.raises(ImageError, match="cut short: 500 of 1000 bytes came"):
                await registry.blob(name, blob, BlobStore(tmp_path / "store"), lambda *_: None)


@openssl
async def test_who_speaks_plain_http_is_told_from_who_wants_tls(tmp_path: Path) -> None:
    ca, _, _ = make_certificates(tmp_path)
    with server(plain) as host:
        hosts = Hosts([RegistrySettings(host=host, authorities=(str(ca),))])
        async with Transport(hosts=hosts) as transport:
            with pytest.raises(ImageError, match="TLS with registry") as caught:
                async with transport.open(host, "GET", "", ""):
                    raise AssertionError("it was answered")

    assert f'`http = true` in [registries."{host}"]' in (caught.value.hint or "")


async def test_an_insecure_registry_may_be_without_tls() -> None:
    with server(plain) as host:
        async with (
            Transport(hosts=Hosts(insecure=[host])) as transport,
            transport.open(host, "GET", "a/tags/list", "") as response,
        ):
            assert response.url.scheme == "http"


@openssl
async def test_a_server_that_wants_time_for_tls_is_one_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "CONNECT_SECONDS", 0.2)
    ca, _, _ = make_certificates(tmp_path)
    done = threading.Event()

    def silent(_connection: socket.socket) -> None:
        done.wait(20)

    with server(silent) as host:
        hosts = Hosts([RegistrySettings(host=host, authorities=(str(ca),))])
        async with Transport(hosts=hosts) as transport:
            with pytest.raises(ImageError, match="does not answer"):
                async with transport.open(host, "GET", "", ""):
                    raise AssertionError("it was answered")
        done.set()
