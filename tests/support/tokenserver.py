"""A token service, as distribution's spec/auth describes it, whose tokens a real registry believes."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.support.registry import PASSWORD, USER

ISSUER, SERVICE = "tests", "registry of tests"
IDENTITY = "identity-token-of-me"


@dataclass
class TokenServer:
    """url: of its realm; asked: (method, Authorization, parameters) of each request.

    identities: whether it gives IDENTITY for an offline token. anonymous: whether all may pull.
    """

    certificate: Path
    key: rsa.RSAPrivateKey
    chain: str
    url: str = ""
    identities: bool = False
    anonymous: bool = False
    asked: list[tuple[str, str, dict[str, list[str]]]] = field(default_factory=list)

    @property
    def auth(self) -> dict[str, object]:
        """For the configuration of a registry."""
        bundle = str(self.certificate)
        return {"token": {"realm": self.url, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}}

    def answer(
        self, method: str, authorization: str, given: dict[str, list[str]]
    ) -> tuple[int, dict[str, object]]:
        """Status and document for a request."""
        self.asked.append((method, authorization, given))
        basic = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        known = authorization == basic
        if method == "POST":
            known = given.get("refresh_token") == [IDENTITY]
        if not known and (authorization or method == "POST" or not self.anonymous):
            return 401, {"details": "incorrect username or password"}
        scopes = " ".join(given.get("scope", [])).split()
        token = self._token([_allowed(scope, known=known) for scope in scopes])
        document: dict[str, object] = {
            "access_token" if method == "POST" else "token": token,
            "expires_in": 300,
        }
        if self.identities and given.get("offline_token") == ["true"]:
            document["refresh_token"] = IDENTITY
        return 200, document

    def _token(self, access: list[dict[str, object]]) -> str:
        now = int(time.time())
        header = {"typ": "JWT", "alg": "RS256", "x5c": [self.chain]}
        claims = {
            "iss": ISSUER, "sub": USER, "aud": SERVICE, "exp": now + 300, "nbf": now - 5, "iat": now,
            "jti": uuid4().hex, "access": access,
        }  # fmt: skip
        text = b".".join(_coded(json.dumps(part).encode()) for part in (header, claims))
        return (text + b"." + _coded(self.key.sign(text, padding.PKCS1v15(), hashes.SHA256()))).decode()


@contextmanager
def token_server(folder: Path) -> Iterator[TokenServer]:
    """Start one on 127.0.0.1; the certificate of its key is kept in `folder`."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens of tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file = folder / "tokens.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    chain = b64encode(certificate.public_bytes(Encoding.DER)).decode()
    service = TokenServer(file, key, chain)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(parse_qs(urlsplit(self.path).query))

        def do_POST(self) -> None:
            self._reply(parse_qs(self.rfile.read(int(self.headers["content-length"])).decode()))

        def _reply(self, given: dict[str, list[str]]) -> None:
            status, document = service.answer(self.command, self.headers.get("authorization", ""), given)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing is told."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_address[1]}/token"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _allowed(scope: str, *, known: bool) -> dict[str, object]:
    """The access that a token gives for a scope: who is not known may only pull."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    granted = [action for action in actions.split(",") if known or action == "pull"]
    return {"type": kind, "name": name, "actions": granted}


def _coded(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
