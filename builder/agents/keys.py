"""Private keys: read from what ssh-keygen or openssl write, and asked for signatures.

The mathematics are the `cryptography` package's, which is loaded with this module; so load this module where
a key is used, and nowhere else. Formats follow RFC 4253, RFC 5656, RFC 8332 and RFC 8709.
"""

from __future__ import annotations

import base64

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from builder.agents.protocol import RSA_SHA2_256, RSA_SHA2_512, big_number, framed
from builder.errors import BuildError

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_CURVES: dict[str, tuple[bytes, hashes.HashAlgorithm]] = {
    "secp256r1": (b"ecdsa-sha2-nistp256", hashes.SHA256()),
    "secp384r1": (b"ecdsa-sha2-nistp384", hashes.SHA384()),
    "secp521r1": (b"ecdsa-sha2-nistp521", hashes.SHA512()),
}


class Key:
    """A private key; `blob` is the public one, by which it is asked for."""

    __slots__ = ("_private", "blob")

    def __init__(self, private: PrivateKey) -> None:
        self._private = private
        public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self.blob = base64.b64decode(public.split()[1])

    def sign(self, data: bytes, flags: int) -> bytes | None:
        """The signature of the data, behind the name of its kind; None where this machine's policy rules the
        kind out."""
        try:
            kind, signature = self._sign(data, flags)
        except UnsupportedAlgorithm:
            return None
        return framed(kind) + framed(signature)

    def _sign(self, data: bytes, flags: int) -> tuple[bytes, bytes]:
        private = self._private
        if isinstance(private, ed25519.Ed25519PrivateKey):
            return b"ssh-ed25519", private.sign(data)
        if isinstance(private, ec.EllipticCurvePrivateKey):
            kind, digest = _CURVES[private.curve.name]
            first, second = decode_dss_signature(private.sign(data, ec.ECDSA(digest)))
            return kind, big_number(first) + big_number(second)
        kind, digest = _rsa_kind(flags)
        return kind, private.sign(data, padding.PKCS1v15(), digest)


def _rsa_kind(flags: int) -> tuple[bytes, hashes.HashAlgorithm]:
    if flags & RSA_SHA2_512:
        return b"rsa-sha2-512", hashes.SHA512()
    if flags & RSA_SHA2_256:
        return b"rsa-sha2-256", hashes.SHA256()
    return b"ssh-rsa", hashes.SHA1()  # what is asked for by who knows no flags


def parse_key(data: bytes, shown: str) -> Key:
    """The key in a file that is called `shown`. Raises BuildError for what is none, or is locked."""
    load = load_ssh_private_key if data.lstrip().startswith(_OPENSSH) else load_pem_private_key
    try:
        private = load(data, password=None)
    except TypeError as error:
        raise BuildError(
            f"the key {shown} is locked with a passphrase",
            code="ssh-key",
            hint="add it to an agent with ssh-add, and pass that with --ssh default",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BuildError(f"{shown} is no private key that can be read", code="ssh-key") from error
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _CURVES:
        return Key(private)
    if isinstance(private, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        return Key(private)
    raise BuildError(f"the key {shown} is of a kind that ssh has no more use for", code="ssh-key")
