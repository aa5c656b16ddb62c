"""Private keys that sign images: PEM, plain or encrypted, and cosign's own form of it.

    BEGIN EC PRIVATE KEY, BEGIN PRIVATE KEY, BEGIN ENCRYPTED PRIVATE KEY    as openssl writes them
    BEGIN ENCRYPTED SIGSTORE PRIVATE KEY (formerly COSIGN)                  as `cosign generate-key-pair` does

The last is JSON: the key (PKCS#8) in a secret box under what scrypt makes of the password. A password comes
from $COSIGN_PASSWORD. Keys are ECDSA on P-256, as cosign's are.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from builder.attest.secretbox import NotOpened, open_box
from builder.errors import BuildError, reason_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

PASSWORD = "COSIGN_PASSWORD"
MAX_KEY = 1 << 20  # bytes of a key's file
MAX_SCRYPT = 256 << 20  # bytes of memory that a key's parameters may ask for
_OWN = re.compile(
    r"-----BEGIN ENCRYPTED (?:SIGSTORE|COSIGN) PRIVATE KEY-----(.*?)-----END ENCRYPTED "
    r"(?:SIGSTORE|COSIGN) PRIVATE KEY-----",
    re.DOTALL,
)


class _Kdf(msgspec.Struct):
    name: str
    params: dict[str, int]
    salt: bytes


class _Cipher(msgspec.Struct):
    name: str
    nonce: bytes


class _Boxed(msgspec.Struct):
    kdf: _Kdf
    cipher: _Cipher
    ciphertext: bytes


class SigningKey:
    """A private key that signs."""

    def __init__(self, private: EllipticCurvePrivateKey) -> None:
        self._private = private

    def sign(self, data: bytes) -> bytes:
        """An ECDSA signature of the SHA-256, in DER; openssl-dgst(1) verifies it.

        The same of the same data where OpenSSL can (RFC 6979).
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            return self._private.sign(data, ECDSA(SHA256(), deterministic_signing=True))
        except UnsupportedAlgorithm:
            return self._private.sign(data, ECDSA(SHA256()))


def read_key(path: str, environ: Mapping[str, str]) -> SigningKey:
    """The private key in a file. Raises BuildError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

    data = _read(path)
    password = environ.get(PASSWORD)
    try:
        if own := _OWN.search(data.decode("utf-8", "replace")):
            key: Any = load_der_private_key(_unboxed(own[1], path, password), None)
        else:
            secret = _bytes(password) if b"ENCRYPTED" in data and password is not None else None
            key = load_pem_private_key(data, secret)
    except TypeError as error:  # encrypted, and no password
        raise _no_password(path) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        hint = f"is ${PASSWORD} its password?" if b"ENCRYPTED" in data else "a key in PEM form is expected"
        raise BuildError(f"the key {path} cannot be read", code="signing-key", hint=hint) from error
    return _checked(key, path)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_KEY + 1)
    except OSError as error:
        raise BuildError(f"the key {path} cannot be read: {reason_of(error)}", code="signing-key") from error
    if len(data) > MAX_KEY:
        raise BuildError(f"{path} is too large for a key", code="signing-key")
    return data


def _checked(key: Any, path: str) -> SigningKey:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey

    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise BuildError(
            f"the key {path} is not of the kind that signs images",
            code="signing-key",
            hint="it is ECDSA on P-256: openssl ecparam -name prime256v1 -genkey -noout -out cosign.key",
        )
    return SigningKey(key)


def _unboxed(text: str, path: str, password: str | None) -> bytes:
    """The key in cosign's form of a file. Raises BuildError, ValueError."""
    if password is None:
        raise _no_password(path)
    try:
        boxed = msgspec.json.decode(base64.b64decode("".join(text.split()), validate=True), type=_Boxed)
    except (binascii.Error, msgspec.DecodeError) as error:
        raise BuildError(f"the key {path} is damaged", code="signing-key") from error
    if boxed.kdf.name != "scrypt" or boxed.cipher.name != "nacl/secretbox":
        raise BuildError(
            f"the key {path} is encrypted by {boxed.kdf.name[:40]} and {boxed.cipher.name[:40]}, which are "
            "not known here",
            code="signing-key",
        )
    size, block, lanes = (boxed.kdf.params.get(name, 0) for name in ("N", "r", "p"))
    if min(size, block, lanes) < 1 or 128 * size * block * lanes > MAX_SCRYPT:
        raise BuildError(f"the key {path} asks for too much memory", code="signing-key")
    made = hashlib.scrypt(
        _bytes(password), salt=boxed.kdf.salt, n=size, r=block, p=lanes, maxmem=MAX_SCRYPT * 2, dklen=32
    )
    try:
        return open_box(boxed.ciphertext, boxed.cipher.nonce, made)
    except NotOpened as error:
        raise BuildError(
            f"the key {path} is not opened by this password", code="signing-key", hint=f"see ${PASSWORD}"
        ) from error


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogateescape")


def _no_password(path: str) -> BuildError:
    return BuildError(
        f"the key {path} is encrypted", code="signing-key", hint=f"put its password into ${PASSWORD}"
    )
