"""Digests: what names content and definitions.

A digest is the text `sha256:<64 lower-case hex digits>` (OCI image-spec, descriptor.md). It becomes
part of paths, so nothing but `parse` and the functions here may turn foreign text into one.
This module knows nothing but bytes. It is on the path of a fully cached build, where loading OpenSSL would
take longer than all that is hashed: `light_sha256` is the interpreter's own (as the library's random has
it), hashlib is loaded for what is large.
"""

from __future__ import annotations

from builder import plainjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib
    from typing import NewType

    Digest = NewType("Digest", str)
    light_sha256 = hashlib.sha256
else:
    try:
        from _sha2 import sha256 as light_sha256
    except ImportError:
        try:
            from _sha256 import sha256 as light_sha256  # Python 3.11
        except ImportError:
            from hashlib import sha256 as light_sha256

    def Digest(text):  # noqa: N802 - a NewType without the import of typing
        """Call a text a digest that is known to be one."""
        return text


HEX = frozenset("0123456789abcdef")
_ENCODED = plainjson.encoder(compact=True, sort_keys=True)
LARGE = 1 << 18  # bytes, from which on OpenSSL's speed makes up for its loading


def parse(text: str) -> Digest:
    """Return `text` as a digest, or raise ValueError; only sha256 is taken."""
    algorithm, _, hexadecimal = text.partition(":")
    if algorithm != "sha256" or len(hexadecimal) != 64 or not HEX.issuperset(hexadecimal):
        raise ValueError(f"not a sha256 digest: {text!r}")
    return Digest(text)


def hex_of(digest: Digest) -> str:
    """The 64 hex digits, safe as a file name."""
    return digest[7:]


def from_hex(hexadecimal: str) -> Digest:
    """The digest with these 64 hex digits (as hashlib gives them)."""
    return Digest("sha256:" + hexadecimal)


def of_bytes(data: bytes) -> Digest:
    """The digest of some bytes."""
    return from_hex(sha256_of(data).hex())


def sha256_of(data: bytes | memoryview) -> bytes:
    """The 32 bytes of some bytes' SHA-256."""
    if len(data) < LARGE:
        return light_sha256(data).digest()
    import hashlib

    return hashlib.sha256(data).digest()


def of_value(value: object) -> Digest:
    """The digest of plain data (None, bool, int, str, list, tuple, dict with str keys).

    The encoding is JSON with sorted keys and no spaces, ASCII only, so it is the same everywhere and
    keeps names that are no UTF-8 (lone surrogates) apart.
    """
    return of_bytes(_ENCODED(value).encode())
