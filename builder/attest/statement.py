"""In-toto statements, and the manifests that carry them.

    https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
    BuildKit's docs/attestations/attestation-storage.md
    OCI image-spec 1.1, manifest.md (subject, artifactType)

BuildKit's way is a manifest for each image, beside it in the index, of the platform unknown/unknown; the
other is one artifact for each statement, found by its subject. Pure: the blobs are handed back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from builder import digest as digests
from builder.oci import spec
from builder.oci.finished import Finished

STATEMENT = "https://in-toto.io/Statement/v1"
IN_TOTO = "application/vnd.in-toto+json"
PREDICATE_TYPE = "in-toto.io/predicate-type"
REFERENCE_TYPE, REFERENCE_DIGEST = "vnd.docker.reference.type", "vnd.docker.reference.digest"
ATTESTATION_MANIFEST = "attestation-manifest"
ARTIFACT = "application/vnd.docker.attestation.manifest.v1+json"
EMPTY_TYPE, EMPTY = "application/vnd.oci.empty.v1+json", b"{}"
EMPTY_DIGEST = digests.of_bytes(EMPTY)
NOWHERE = {"architecture": "unknown", "os": "unknown"}

Json = dict[str, Any]


class Statement(msgspec.Struct, frozen=True):
    """A predicate by its type, and the file that tar and local outputs have it in."""

    type: str
    predicate: Json
    filename: str

    def about(self, subjects: Sequence[tuple[str, str]]) -> Json:
        """The statement about subjects: (name, hex digits of a sha256)."""
        named = [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects]
        return {
            "_type": STATEMENT,
            "predicateType": self.type,
            "subject": named,
            "predicate": self.predicate,
        }


class Carried(msgspec.Struct, frozen=True):
    """A manifest, and the blobs that it lists by their digests."""

    manifest: Finished
    blobs: dict[str, bytes]


def attestation_manifest(
    image: Finished, statements: Sequence[tuple[str, bytes]], *, artifact: bool = True
) -> Carried:
    """BuildKit's manifest of (predicate type, statement) pairs about an image.

    artifact: as an OCI artifact with a subject, as BuildKit has it by default; else with an image's config.
    """
    layers = [_layer(kind, data) for kind, data in statements]
    config_bytes = EMPTY if artifact else _image_config(layers)
    document: Json = {"schemaVersion": 2, "mediaType": spec.OCI_MANIFEST}
    if artifact:
        document["artifactType"] = ARTIFACT
    document["config"] = _config(config_bytes, artifact=artifact)
    document["layers"] = layers
    if artifact:
        document["subject"] = subject_of(image)
    annotations = {REFERENCE_DIGEST: str(image.digest), REFERENCE_TYPE: ATTESTATION_MANIFEST}
    more = {"annotations": annotations, "platform": NOWHERE}
    blobs = {str(digests.of_bytes(data)): data for _, data in statements}
    return Carried(finish(document, config_bytes, more, sum(map(len, blobs.values()))), blobs)


def referrer(image: Finished, kind: str, data: bytes) -> Carried:
    """An artifact with one statement, which refers to an image."""
    annotations = {PREDICATE_TYPE: kind}
    document: Json = {
        "schemaVersion": 2,
        "mediaType": spec.OCI_MANIFEST,
        "artifactType": IN_TOTO,
        "config": _config(EMPTY, artifact=True),
        "layers": [_layer(kind, data)],
        "subject": subject_of(image),
        "annotations": annotations,
    }
    more = {"artifactType": IN_TOTO, "annotations": annotations}
    return Carried(finish(document, EMPTY, more, len(data)), {digests.of_bytes(data): data})


def subject_of(image: Finished) -> Json:
    """An image's descriptor, bare, as a subject."""
    return {key: image.row[key] for key in ("mediaType", "digest", "size")}


def finish(document: Json, config_bytes: bytes, further: Mapping[str, object], size: int) -> Finished:
    """A manifest as what is handed out. further: fields of its descriptor; size: bytes of its layers."""
    data = msgspec.json.encode(document)
    row = {
        "mediaType": document["mediaType"],
        "digest": str(digests.of_bytes(data)),
        "size": len(data),
        **further,
    }
    return Finished(
        row=row,
        manifest_bytes=data,
        config=digests.of_bytes(config_bytes),
        config_bytes=config_bytes,
        layers=[layer["digest"] for layer in document["layers"]],
        created="",
        size=len(data) + len(config_bytes) + size,
    )


def _layer(kind: str, data: bytes) -> Json:
    return {
        "mediaType": IN_TOTO,
        "digest": str(digests.of_bytes(data)),
        "size": len(data),
        "annotations": {PREDICATE_TYPE: kind},
    }


def _config(data: bytes, *, artifact: bool) -> Json:
    described: Json = {
        "mediaType": EMPTY_TYPE if artifact else spec.OCI_CONFIG,
        "digest": str(digests.of_bytes(data)),
        "size": len(data),
    }
    return described | {"data": "e30="} if artifact else described


def _image_config(layers: Sequence[Json]) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}
    return msgspec.json.encode({**NOWHERE, "config": {}, "rootfs": rootfs})
