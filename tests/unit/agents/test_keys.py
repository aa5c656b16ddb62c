"""Private keys as ssh-keygen and openssl write them; signatures are verified by the library's public half."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_public_key,
)

from builder.agents.keys import Key, parse_key
from builder.agents.protocol import RSA_SHA2_256, RSA_SHA2_512, texts_of
from builder.errors import BuildError

DATA = b"what a server wants to have signed"
ED25519 = ed25519.Ed25519PrivateKey.generate()
LOCKED = b"""-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABAKjauWcT
t18YY8GcPV6c+NAAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIF4GF0AMqm+vDtiT
lm2ubsDjGidvHrI2pkjMf4uGhXPJAAAAkJaSuLzQZhOQ83XZh2HubfPbOWsJIZJ59wf14q
EHwyJTKKK/w+h2RA7jbdIy8FDUFf3Iq9GPh35uvGOPSF288qf6sy2gScJUJ6o2W6tRo779
PzazpK3iKBysFmwV5ugeKdoRkdHh273DO4qw/eNXljyPLJyLqiFa00pV1BzTg8EUWgPYFH
Gvb05Nh18DbJoMVw==
-----END OPENSSH PRIVATE KEY-----
"""  # by ssh-keygen, for nobody
RSA = rsa.generate_private_key(65537, 2048)


def written(private: object, form: PrivateFormat = PrivateFormat.OpenSSH, word: bytes = b"") -> bytes:
    lock = BestAvailableEncryption(word) if word else NoEncryption()
    return private.private_bytes(Encoding.PEM, form, lock)  # type: ignore[attr-defined, no-any-return]


def signature_of(key: Key, flags: int = 0) -> tuple[bytes, bytes]:
    """(kind, bytes)."""
    signed = key.sign(DATA, flags)
    assert signed is not None
    (kind, signature), rest = texts_of(b"?" + signed, 2)
    assert rest == b""
    return kind, signature


@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8])
def test_an_ed25519_key_signs(form: PrivateFormat) -> None:
    kind, signature = signature_of(parse_key(written(ED25519, form), "k"))

    assert kind == b"ssh-ed25519"
    ED25519.public_key().verify(signature, DATA)


@pytest.mark.parametrize(
    ("flags", "kind", "digest"),
    [
        (0, b"ssh-rsa", hashes.SHA1()),
        (RSA_SHA2_256, b"rsa-sha2-256", hashes.SHA256()),
        (RSA_SHA2_512, b"rsa-sha2-512", hashes.SHA512()),
        (RSA_SHA2_256 | RSA_SHA2_512, b"rsa-sha2-512", hashes.SHA512()),
    ],
)
@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.TraditionalOpenSSL])
def test_an_rsa_key_signs_as_the_flags_ask(
    form: PrivateFormat, flags: int, kind: bytes, digest: hashes.HashAlgorithm
) -> None:
    found, signature = signature_of(parse_key(written(RSA, form), "k"), flags)

    assert found == kind
    RSA.public_key().verify(signature, DATA, padding.PKCS1v15(), digest)


@pytest.mark.parametrize(
    ("curve", "kind", "digest"),
    [
        (ec.SECP256R1(), b"ecdsa-sha2-nistp256", hashes.SHA256()),
        (ec.SECP384R1(), b"ecdsa-sha2-nistp384", hashes.SHA384()),
        (ec.SECP521R1(), b"ecdsa-sha2-nistp521", hashes.SHA512()),
    ],
)
def test_a_key_on_a_curve_signs_with_the_digest_that_goes_with_it(
    curve: ec.EllipticCurve, kind: bytes, digest: hashes.HashAlgorithm
) -> None:
    private = ec.generate_private_key(curve)

    found, signature = signature_of(parse_key(written(private), "k"))

    assert found == kind
    (first, second), rest = texts_of(b"?" + signature, 2)
    assert rest == b""
    encoded = encode_dss_signature(int.from_bytes(first, "big"), int.from_bytes(second, "big"))
    private.public_key().verify(encoded, DATA, ec.ECDSA(digest))


def test_a_key_is_asked_for_by_its_public_half() -> None:
    import base64

    blob = parse_key(written(ED25519), "k").blob

    public = load_ssh_public_key(b"ssh-ed25519 " + base64.b64encode(blob))
    assert isinstance(public, ed25519.Ed25519PublicKey)
    assert public.public_bytes_raw() == ED25519.public_key().public_bytes_raw()


@pytest.mark.parametrize("data", [LOCKED, written(ED25519, PrivateFormat.PKCS8, b"word")], ids=["ssh", "pem"])
def test_a_locked_key_says_so(data: bytes) -> None:
    with pytest.raises(BuildError, match="the key mine is locked with a passphrase") as caught:
        parse_key(data, "mine")

    assert "ssh-add" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no key",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        written(ED25519)[:-60],
    ],
)
def test_what_is_no_key_is_told_without_its_bytes(data: bytes) -> None:
    with pytest.raises(BuildError, match="mine is no private key that can be read") as caught:
        parse_key(data, "mine")

    assert "AAAA" not in str(caught.value)


@pytest.mark.parametrize(
    "private", [dsa.generate_private_key(1024), ec.generate_private_key(ec.SECP256K1())], ids=["dsa", "k1"]
)
def test_kinds_that_ssh_gave_up_are_refused(private: object) -> None:
    with pytest.raises(BuildError, match="the key mine is of a kind"):
        parse_key(written(private, PrivateFormat.PKCS8), "mine")
