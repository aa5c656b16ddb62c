"""Signatures as cosign makes them: keys in their forms, the payload, the manifest; boxes by vectors."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from builder.attest import keys
from builder.attest.keys import read_key
from builder.attest.secretbox import NotOpened, open_box
from builder.attest.signing import signed
from builder.digest import Digest
from builder.errors import BuildError
from builder.oci.reference import parse
from tests.support.machine import needs

DIGEST = Digest("sha256:" + "a" * 64)
# tests/secretbox.c of NaCl.
KEY = "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389"
NONCE = "69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37"
TEXT = (
    "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c6129"
    "6cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde"
    "048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705"
)
BOX = (
    "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186a"
    "c0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae"
    "90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74"
    "e355a5"
)
# A key of nobody's, put into cosign's form by libsodium, and its public key.
PASSWORD = "pass word"
COSIGN_KEY = """\
-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----
eyJrZGYiOnsibmFtZSI6InNjcnlwdCIsInBhcmFtcyI6eyJOIjozMjc2OCwiciI6
OCwicCI6MX0sInNhbHQiOiI5YXVHc011b1AyUlhNSXZydjlCVnc3UkdDZzRFN0Np
UW5PT25jbjYwNVc4PSJ9LCJjaXBoZXIiOnsibmFtZSI6Im5hY2wvc2VjcmV0Ym94
Iiwibm9uY2UiOiJKMk1TdXF5QXZMd1RJZFdQd25RdGJmSDdDZm5SMUw3WSJ9LCJj
aXBoZXJ0ZXh0IjoiOVlnSGNUUWw5S0JyWUhWSDlISzBqeXF2cTVHOWFLWStxaHcx
Mit2d0Z2VmJleTBWZFhJSVBrTU9naGptS0JqMXd6OFNtOUwvNUthTUcvc05ZVmlU
MjhYRkVPSnFYUGhxcGxlZG5EcW1BVzVJRlBEcWNIK2FXUWJmNnByR3k0VVM4azhp
RlVVZG15TnBUK21WdTY1R0g0SWxZZys3VlZDTW1KTVpBdXorZm1taGYzeW9URkN5
YWRTQ01SeW9vakpRTEw4eUVZeFMxQ2EwOUE9PSJ9
-----END ENCRYPTED SIGSTORE PRIVATE KEY-----
"""
PUBLIC = b"""\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEn9nSJZHwYiraVHfWLEI+F/GRgxZj
7JeZ35jk6/xolpM/GiAlPqNHscMCIDk5Ia5DeyufLRnu3lzvg4xXF+PURA==
-----END PUBLIC KEY-----
"""


def verify(public: bytes, signature: bytes, data: bytes) -> None:
    key = load_pem_public_key(public)
    assert isinstance(key, EllipticCurvePublicKey)
    key.verify(signature, data, ECDSA(SHA256()))


def openssl(*words: str | Path) -> bytes:
    return subprocess.run(["openssl", *words], check=True, capture_output=True).stdout


@pytest.fixture
def plain_key(tmp_path: Path) -> Path:
    path = tmp_path / "cosign.key"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
    return path


def test_a_box_is_opened_as_nacl_opens_it() -> None:
    box, nonce, key = bytes.fromhex(BOX), bytes.fromhex(NONCE), bytes.fromhex(KEY)

    assert open_box(box, nonce, key).hex() == TEXT


@pytest.mark.parametrize("harm", ["box", "nonce", "key", "size"])
def test_a_box_that_is_another_is_not_opened(harm: str) -> None:
    parts = {"box": bytearray.fromhex(BOX), "nonce": bytearray.fromhex(NONCE), "key": bytearray.fromhex(KEY)}
    if harm == "size":
        del parts["nonce"][-1]
    else:
        parts[harm][20] ^= 1

    with pytest.raises(NotOpened):
        open_box(bytes(parts["box"]), bytes(parts["nonce"]), bytes(parts["key"]))


def test_a_key_of_cosigns_own_form_signs(tmp_path: Path) -> None:
    path = tmp_path / "cosign.key"
    path.write_text(COSIGN_KEY)

    signature = read_key(str(path), {"COSIGN_PASSWORD": PASSWORD}).sign(b"data")

    verify(PUBLIC, signature, b"data")
    with pytest.raises(InvalidSignature):
        verify(PUBLIC, signature, b"other")


@pytest.mark.parametrize("environ", [{}, {"COSIGN_PASSWORD": "wrong"}])
def test_without_its_password_it_does_not(tmp_path: Path, environ: dict[str, str]) -> None:
    path = tmp_path / "cosign.key"
    path.write_text(COSIGN_KEY)

    with pytest.raises(BuildError) as caught:
        read_key(str(path), environ)

    assert caught.value.code == "signing-key"
    assert "COSIGN_PASSWORD" in (caught.value.hint or "")


def test_a_key_may_not_ask_for_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cosign.key"
    path.write_text(COSIGN_KEY)
    monkeypatch.setattr(keys, "MAX_SCRYPT", 1 << 20)

    with pytest.raises(BuildError, match="too much memory"):
        read_key(str(path), {"COSIGN_PASSWORD": PASSWORD})


@needs("openssl")
@pytest.mark.parametrize("form", ["sec1", "pkcs8", "encrypted"])
def test_keys_of_openssl_sign_in_all_their_forms(plain_key: Path, tmp_path: Path, form: str) -> None:
    path, environ = plain_key, {}
    if form != "sec1":
        path = tmp_path / form
        how = ["-nocrypt"] if form == "pkcs8" else ["-passout", "pass:secret"]
        openssl("pkcs8", "-topk8", "-in", plain_key, "-out", path, *how)
        environ = {"COSIGN_PASSWORD": "secret"}

    verify(openssl("ec", "-in", plain_key, "-pubout"), read_key(str(path), environ).sign(b"data"), b"data")


@needs("openssl")
def test_another_kind_of_key_is_refused_with_the_kind_that_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "other.key"
    for words in (
        ["ecparam", "-name", "secp384r1", "-genkey", "-noout"],
        ["genpkey", "-algorithm", "ed25519"],
    ):
        openssl(*words, "-out", path)
        with pytest.raises(BuildError) as caught:
            read_key(str(path), {})
        assert "P-256" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "data", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", None]
)
def test_what_is_no_key_is_told(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "key"
    if data is not None:
        path.write_bytes(data)

    with pytest.raises(BuildError, match="cannot be read"):
        read_key(str(path), {"COSIGN_PASSWORD": "x"})


def test_the_manifest_is_what_cosign_looks_for(tmp_path: Path) -> None:
    path = tmp_path / "cosign.key"
    path.write_text(COSIGN_KEY)
    key = read_key(str(path), {"COSIGN_PASSWORD": PASSWORD})

    carried = signed(DIGEST, [parse("app:1"), parse("app:2"), parse("host.x/me/app:1")], key)

    document = json.loads(carried.manifest.manifest_bytes)
    assert carried.manifest.is_sound()
    references = []
    for layer in document["layers"]:
        assert layer["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
        data = carried.blobs[layer["digest"]]
        verify(PUBLIC, base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"]), data)
        told = json.loads(data)
        assert told["critical"]["image"] == {"docker-manifest-digest": DIGEST}
        assert (told["critical"]["type"], told["optional"]) == ("cosign container image signature", None)
        references.append(told["critical"]["identity"]["docker-reference"])
    assert references == ["index.docker.io/library/app", "host.x/me/app"]
    config = json.loads(carried.manifest.config_bytes)
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in document["layers"]]
