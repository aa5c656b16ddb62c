"""Signatures of images as cosign makes them with a key.

    https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md

What is signed is a small JSON text that names an image's digest (simple signing); the text is the layer of a
manifest, whose annotation has the signature. The manifest is found by a tag made of the image's digest.
The same image signed with the same key is the same manifest, where OpenSSL can (RFC 6979).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from builder import digest as digests
from builder.attest.statement import Carried, finish
from builder.digest import Digest
from builder.oci import spec
from builder.oci.reference import DOCKER_HUB, Reference

if TYPE_CHECKING:
    from builder.attest.keys import SigningKey

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
CLAIM = "cosign container image signature"
NEVER = "0001-01-01T00:00:00Z"  # Go's zero time, which cosign writes


def payload(digest: Digest, repository: str) -> bytes:
    """What is signed: that this digest is an image of that repository ("" for none)."""
    critical = {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": digest},
        "type": CLAIM,
    }
    return msgspec.json.encode({"critical": critical, "optional": None})


def signed(digest: Digest, names: Sequence[Reference], key: SigningKey) -> Carried:
    """The manifest of an image's signatures: one for each repository that it is named in."""
    texts = [payload(digest, repository) for repository in dict.fromkeys(map(_repository, names))]
    texts = texts or [payload(digest, "")]
    layers = [
        {
            "mediaType": PAYLOAD_TYPE,
            "size": len(text),
            "digest": str(digests.of_bytes(text)),
            "annotations": {SIGNATURE: base64.b64encode(key.sign(text)).decode("ascii")},
        }
        for text in texts
    ]
    config = msgspec.json.encode(_config([str(layer["digest"]) for layer in layers]))
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": spec.OCI_MANIFEST,
        "config": {
            "mediaType": spec.OCI_CONFIG,
            "size": len(config),
            "digest": str(digests.of_bytes(config)),
        },
        "layers": layers,
    }
    blobs = {str(digests.of_bytes(text)): text for text in texts}
    return Carried(finish(document, config, {}, sum(map(len, texts))), blobs)


def _repository(name: Reference) -> str:
    """A repository as cosign writes it."""
    registry = "index.docker.io" if name.registry == DOCKER_HUB else name.registry
    return f"{registry}/{name.repository}"


def _config(diff_ids: Sequence[str]) -> dict[str, Any]:
    return {
        "architecture": "",
        "created": NEVER,
        "history": [{"created": NEVER} for _ in diff_ids],
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "config": {},
    }
