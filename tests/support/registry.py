"""A real registry (docker-registry of Debian) on 127.0.0.1, with or without TLS; stopped with its test."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.machine import run

START_SECONDS = 60
USER, PASSWORD = "me", "canary-password"
_HTPASSWD = f"{USER}:$2y$05$abcdefghijklmnopqrstuuTvmw3qcMpAvEgQGhbFMhqjD3R/evDDW\n"  # of that password


@dataclass(frozen=True)
class RunningRegistry:
    """host: `127.0.0.1:PORT`; storage: its folder; ca: with TLS, its authority's certificate."""

    host: str
    storage: Path
    ca: Path | None = None

    def push(self, layout: Path, tag: str, name: str) -> None:
        """Push an image of a layout as `name` (`repository:tag`), all platforms of it."""
        words = ["skopeo", "copy", "--all", "--dest-tls-verify=false", f"oci:{layout}:{tag}"]
        run([*words, f"docker://{self.host}/{name}"])

    def blob(self, digest: str) -> Path:
        """The file in which the registry keeps a blob."""
        name = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"


def free_port() -> int:
    """A port of 127.0.0.1 where nobody listens, nor will: this process has it, and never gives it back."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    port: int = taken.getsockname()[1]
    taken.detach()
    return port


@contextmanager
def running_registry(
    folder: Path,
    *,
    tls: bool = False,
    basic: bool = False,
    client_certificates: bool = False,
    auth: Mapping[str, object] | None = None,
    name: str = "127.0.0.1",
) -> Iterator[RunningRegistry]:
    """Start a registry that keeps its files in `folder`.

    basic: it wants USER and PASSWORD. client_certificates: with TLS, and one of its authority (client.pem and
    client.key in `folder`). auth: what its configuration says of that. name: of this machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    storage = folder / "storage"
    storage.mkdir(exist_ok=True)
    http: dict[str, object] = {"addr": "127.0.0.1:0"}
    ca = None
    if tls:
        ca, certificate, key = make_certificates(folder)
        clients = {"clientcas": [str(ca)]} if client_certificates else {}
        http["tls"] = {"certificate": str(certificate), "key": str(key), **clients}
    if basic:
        (folder / "htpasswd").write_text(_HTPASSWD)
        auth = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    config = {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": True}},  # it says where it listens
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        "http": http,
        **({"auth": auth} if auth else {}),
    }
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    log = (folder / "log").open("wb")
    program = shutil.which("docker-registry") or "docker-registry"
    server = subprocess.Popen(
        [program, "serve", str(folder / "config.yml")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )
    try:
        yield RunningRegistry(f"{name}:{_port(server, folder / 'log')}", storage, ca)
    finally:
        server.kill()
        server.wait()
        log.close()


def make_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """An authority of our own, and a certificate for this machine and registry.example: (ca, that, key)."""
    ca, ca_key = folder / "ca.pem", folder / "ca.key"
    certificate, key, request = folder / "server.pem", folder / "server.key", folder / "server.csr"
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
    sign = ["openssl", "req", "-x509", *new_key, "-days", "2", "-subj", "/CN=test ca"]
    run([*sign, *authority, "-keyout", ca_key, "-out", ca])
    run(["openssl", "req", *new_key, "-keyout", key, "-out", request, "-subj", "/CN=127.0.0.1"])
    extensions = folder / "extensions"
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:registry.example\n")
    sign = ["openssl", "x509", "-req", "-days", "2", "-CA", str(ca), "-CAkey", str(ca_key), "-CAcreateserial"]
    run([*sign, "-in", request, "-extfile", extensions, "-out", certificate])
    client = ["-keyout", folder / "client.key", "-out", folder / "client.csr", "-subj", "/CN=client"]
    run(["openssl", "req", *new_key, *client])
    run([*sign, "-in", folder / "client.csr", "-out", folder / "client.pem"])
    return ca, certificate, key


def _port(server: subprocess.Popen[bytes], log: Path) -> int:
    """Where it listens, as soon as it does: the kernel has chosen, so that nobody else can be there."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        if told := re.search(r"listening on 127\.0\.0\.1:(\d+)\D", log.read_text(errors="replace")):
            return int(told[1])
        time.sleep(0.02)
    raise RuntimeError(f"the registry does not listen: {log.read_text(errors='replace')}")
