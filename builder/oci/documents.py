"""Foreign manifests, indexes and configs, read with suspicion: size, depth, shape and digests are checked.

A document from a registry, a layout or an archive passes here before anything believes it. Absent and
`null` are the same, as Go writes empty lists as null. Knows nothing of where the bytes came from but
the name used in messages. Every failure is an ImageError that names it. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

import msgspec

from builder import digest as digests
from builder.errors import ImageError
from builder.oci import spec
from builder.oci.spec import Descriptor, ImageConfig, Index, Manifest

MAX_MANIFEST = 4 << 20  # as registries have it (distribution-spec: at least 4 MiB must be taken)
MAX_CONFIG = 8 << 20
MAX_PARTS = 300_000  # values of one document: a few bytes of JSON may take a hundred in memory
MANIFEST_TYPES = (spec.OCI_MANIFEST, spec.DOCKER_MANIFEST)
INDEX_TYPES = (spec.OCI_INDEX, spec.DOCKER_INDEX)
TREE_TYPES = (*MANIFEST_TYPES, *INDEX_TYPES)
SCHEMA1_TYPES = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
# Media types of layers -> how their tar is compressed.
LAYER_TYPES = {
    spec.OCI_LAYER: "none",
    spec.OCI_LAYER_GZIP: "gzip",
    spec.OCI_LAYER_ZSTD: "zstd",
    spec.DOCKER_LAYER: "none",
    spec.DOCKER_LAYER_GZIP: "gzip",
    spec.DOCKER_LAYER_ZSTD: "zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar": "none",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": "zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": "gzip",
}
CONFIG_TYPES = (spec.OCI_CONFIG, spec.DOCKER_CONFIG)

S = TypeVar("S", bound=msgspec.Struct)


def parse_manifest_or_index(
    data: bytes, media_type: str, name: str, *, further: Collection[str] | None = ()
) -> Manifest | Index:
    """A manifest or an index, whichever `media_type` (of its descriptor, "" if unknown) says it is.

    further: media types that a manifest's config may have besides those of images; None: whatever it has.
    """
    document = _object(data, MAX_MANIFEST, f"the manifest of {name}")
    kind = _kind(document, media_type, name)
    if kind in INDEX_TYPES:
        return _index(document, kind, name)
    return _manifest(document, kind, name, None if further is None else (*CONFIG_TYPES, *further))


def parse_manifest(data: bytes, name: str, media_type: str = "") -> Manifest:
    """An image's manifest, and nothing else."""
    document = parse_manifest_or_index(data, media_type, name)
    if isinstance(document, Index):
        raise ImageError(f"{name} is an index where a manifest should be", code="invalid-manifest")
    return document


def parse_index(data: bytes, name: str) -> Index:
    """An index, such as a layout's index.json."""
    document = _object(data, MAX_MANIFEST, name)
    if "manifests" not in document or "layers" in document:
        raise ImageError(f"{name} is no image index", code="invalid-index")
    return _index(document, spec.OCI_INDEX, name)


def parse_config(data: bytes, name: str) -> ImageConfig:
    """An image's config. Unknown fields are dropped."""
    what = f"the config of {name}"
    config = _convert(_object(data, MAX_CONFIG, what), ImageConfig, what)
    for diff_id in config.rootfs.diff_ids:
        _check_digest(diff_id, what)
    if not config.os or not config.architecture:
        raise ImageError(f"{what} has no os or no architecture", code="invalid-config")
    return config


def check_layers(manifest: Manifest, config: ImageConfig, name: str) -> None:
    """Manifest and config must tell of the same number of layers."""
    check_count(len(manifest.layers), config, name)


def check_count(layers: int, config: ImageConfig, name: str) -> None:
    """A config must tell of that many layers."""
    diff_ids = len(config.rootfs.diff_ids)
    if layers != diff_ids:
        raise ImageError(
            f"the manifest of {name} has {layers} layers, and its config {diff_ids}", code="invalid-manifest"
        )


def compression_of(layer: Descriptor, name: str) -> str:
    """How a layer's tar is compressed: "none", "gzip" or "zstd"."""
    try:
        return LAYER_TYPES[layer.media_type]
    except KeyError:
        raise ImageError(
            f"layer {layer.digest} of {name} has the media type {layer.media_type!r}, which is not known",
            code="unknown-media-type",
        ) from None


def _object(data: bytes, limit: int, what: str) -> dict[str, Any]:
    if len(data) > limit:
        raise ImageError(f"{what} has more than {limit >> 20} MiB", code="document-too-large")
    if data.count(b",") + data.count(b"{") + data.count(b"[") > MAX_PARTS:
        raise ImageError(f"{what} has more than {MAX_PARTS} values", code="document-too-large")
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ImageError(f"{what} is no JSON: {error}", code="invalid-json") from error
    if not isinstance(document, dict):
        raise ImageError(f"{what} is no JSON object", code="invalid-json")
    return document


def _kind(document: dict[str, Any], media_type: str, name: str) -> str:
    """The media type of a document, all that is told of it being of one mind (CVE-2021-41190)."""
    if document.get("schemaVersion") == 1 or "fsLayers" in document or media_type in SCHEMA1_TYPES:
        raise ImageError(
            f"{name} is an image of the old schema 1, which is not supported",
            code="schema1",
            hint="push it again with a current tool",
        )
    looks_index, looks_manifest = "manifests" in document, "layers" in document or "config" in document
    if looks_index == looks_manifest:
        what = "both a manifest and an index" if looks_index else "neither a manifest nor an index"
        raise ImageError(f"the manifest of {name} is {what}", code="invalid-manifest")
    told = [t for t in (media_type, document.get("mediaType")) if t]
    kinds = INDEX_TYPES if looks_index else MANIFEST_TYPES
    for kind in told:
        if kind not in kinds:
            found = "an index" if looks_index else "a manifest"
            raise ImageError(
                f"the manifest of {name} is {found} with the media type {kind!r}", code="invalid-manifest"
            )
    if len(set(told)) > 1:
        raise ImageError(
            f"the manifest of {name} says {told[1]!r} and was announced as {told[0]!r}",
            code="invalid-manifest",
        )
    return str(told[0]) if told else kinds[0]


def _manifest(document: dict[str, Any], kind: str, name: str, configs: Collection[str] | None) -> Manifest:
    what = f"the manifest of {name}"
    if document.get("layers") is None:
        document["layers"] = []
    manifest = _convert({"schemaVersion": 2, **document, "mediaType": kind}, Manifest, what)
    _check_version(manifest.schema_version, what)
    if configs is not None and manifest.config.media_type not in configs:
        raise ImageError(
            f"{name} is no container image but {manifest.config.media_type!r}", code="not-an-image"
        )
    for descriptor in (manifest.config, *manifest.layers):
        _check_descriptor(descriptor, what)
    return manifest


def _index(document: dict[str, Any], kind: str, name: str) -> Index:
    if document.get("manifests") is None:
        document["manifests"] = []
    index = _convert({**document, "mediaType": document.get("mediaType") or kind}, Index, name)
    _check_version(index.schema_version, name)
    for descriptor in index.manifests:
        _check_descriptor(descriptor, name)
    return index


def _convert(document: dict[str, Any], kind: type[S], what: str) -> S:
    try:
        return msgspec.convert(_without_nulls(document), kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ImageError(f"{what} is not valid: {error}", code="invalid-document") from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _check_version(version: int, what: str) -> None:
    if version != 2:
        raise ImageError(f"{what} has the schema version {version}, not 2", code="invalid-manifest")


def _check_descriptor(descriptor: Descriptor, what: str) -> None:
    _check_digest(descriptor.digest, what)
    if not 0 <= descriptor.size < 1 << 62:
        raise ImageError(f"{what} gives a blob the size {descriptor.size}", code="invalid-manifest")


def _check_digest(text: str, what: str) -> None:
    try:
        digests.parse(text)
    except ValueError:
        raise ImageError(
            f"{what} has the digest {text!r}, which is no sha256 digest", code="invalid-digest"
        ) from None
