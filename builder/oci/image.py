"""From layers and a config to an image: the manifest's and the config's exact bytes.

The one idea: everything in them is given, so the same values make the same digests; the only time is the
one handed in. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from builder import digest as digests
from builder.oci import spec
from builder.oci.finished import Finished
from builder.oci.names import Row
from builder.oci.spec import (
    Descriptor,
    History,
    ImageConfig,
    Index,
    LayerBlob,
    Manifest,
    Platform,
    RootFS,
)

COMMENT = "buildkit.exporter.image.v0"  # what images say of layers that no instruction accounts for


class Image(msgspec.Struct, frozen=True):
    """A finished image as documents: bytes to put into a store, and what they say.

    descriptor: the manifest's, with the image's platform.
    """

    descriptor: Descriptor
    manifest_bytes: bytes
    config_bytes: bytes
    manifest: Manifest
    config: ImageConfig
    layers: tuple[LayerBlob, ...]

    @property
    def size(self) -> int:
        """Compressed bytes: the config's, the manifest's and the layers'."""
        return len(self.manifest_bytes) + len(self.config_bytes) + sum(b.descriptor.size for b in self.layers)

    def row(self) -> Row:
        """The descriptor as plain data, as the local store's index has it."""
        row: Row = msgspec.to_builtins(self.descriptor)
        return row

    def finished(self) -> Finished:
        """What is left of it for who hands it out."""
        return Finished(
            row=self.row(),
            manifest_bytes=self.manifest_bytes,
            config=self.manifest.config.digest,
            config_bytes=self.config_bytes,
            layers=[layer.digest for layer in self.manifest.layers],
            created=self.config.created,
            size=self.size,
        )


def rfc3339(seconds: float) -> str:
    """A time as the OCI documents have it: UTC, with as many decimals as it needs."""
    moment = datetime.fromtimestamp(seconds, UTC)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{moment.microsecond:06}".rstrip("0") if moment.microsecond else "") + "Z"


def assemble(
    config: ImageConfig,
    blobs: Sequence[LayerBlob],
    history: Sequence[History],
    created: str,
    annotations: Mapping[str, str] | None = None,
    further: Mapping[str, msgspec.Raw] | None = None,
    *,
    docker: bool = False,
) -> Image:
    """Make the image of a config and its layers, bottom first. further: fields of the config that are none
    of OCI's, encoded. docker: the media types are those of Docker's schema 2, not OCI's.

    created: the time (RFC 3339) for all that has none yet: SOURCE_DATE_EPOCH's, or now. Entries of the
    history that have a time, a base image's, keep it.
    """
    dated = tuple(
        entry if entry.created else msgspec.structs.replace(entry, created=created)
        for entry in fit_history(history, len(blobs))
    )
    finished = msgspec.structs.replace(
        config,
        created=dated[-1].created if dated else created,
        rootfs=RootFS(diff_ids=tuple(blob.diff_id for blob in blobs)),
        history=dated,
    )
    config_bytes = spec.encode_with(finished, further) if further else spec.encode(finished)
    manifest_type, config_type = _DOCUMENT_TYPES[docker]
    manifest = Manifest(
        schema_version=2,
        media_type=manifest_type,
        config=Descriptor(config_type, digests.of_bytes(config_bytes), len(config_bytes)),
        layers=tuple(_bare(blob.descriptor, docker=docker) for blob in blobs),
        annotations=dict(annotations) if annotations else msgspec.UNSET,
    )
    data = spec.encode(manifest)
    descriptor = Descriptor(manifest_type, digests.of_bytes(data), len(data), platform=platform_of(finished))
    return Image(descriptor, data, config_bytes, manifest, finished, tuple(blobs))


def index_of(
    children: Sequence[Finished], annotations: Mapping[str, str] | None = None, *, docker: bool = False
) -> Finished:
    """Make the index of images, and of what is told of them, in the order given. docker: see `assemble`."""
    media_type = spec.DOCKER_INDEX if docker else spec.OCI_INDEX
    index = Index(
        media_type=media_type,
        manifests=tuple(msgspec.convert(child.row, Descriptor) for child in children),
        annotations=dict(annotations) if annotations else msgspec.UNSET,
    )
    data = spec.encode(index)
    descriptor = Descriptor(media_type, digests.of_bytes(data), len(data))
    return Finished.index(msgspec.to_builtins(descriptor), data, children)


def squash_history(
    history: Sequence[History], base_entries: int, base_layers: int, merged: int
) -> tuple[History, ...]:
    """The history of an image whose layers above the base, `merged` of them, have become one.

    base_entries: how many entries, from the beginning, are the base's. As docker's --squash has it, the
    entries above it stay, as such that made no layer, and one more, at the end, tells of the layer.
    """
    below = fit_history(history[:base_entries], base_layers)
    above = (entry for entry in history[base_entries:] if entry.created_by or entry.empty_layer)
    emptied = (msgspec.structs.replace(entry, empty_layer=True) for entry in above)
    return (*below, *emptied, History(comment=f"squashed: {merged} layers above the base are one"))


def platform_of(config: ImageConfig) -> Platform:
    """The platform that a config says its image is for."""
    return Platform(config.architecture, config.os, config.variant, config.os_version, config.os_features)


def fit_history(history: Sequence[History], layers: int) -> tuple[History, ...]:
    """History with exactly one entry without `empty_layer` per layer.

    Base images exist whose history tells of fewer or more layers than they have. As BuildKit does it:
    what is too many is made empty from the top on, what is missing is added at the end.
    """
    fitted: list[History] = []
    told = 0
    for entry in history:
        if not entry.empty_layer and told == layers:
            entry = msgspec.structs.replace(entry, empty_layer=True)
        told += not entry.empty_layer
        fitted.append(entry)
    return (*fitted, *(History(comment=COMMENT) for _ in range(layers - told)))


def _bare(descriptor: Descriptor, *, docker: bool) -> Descriptor:
    """A layer's descriptor as manifests have it: without what tools added, but for what eStargz needs."""
    media_type = _OCI_TYPES.get(descriptor.media_type, descriptor.media_type)
    if docker:
        return Descriptor(_DOCKER_TYPES.get(media_type, media_type), descriptor.digest, descriptor.size)
    kept = {key: value for key, value in descriptor.annotations.items() if key in _KEPT}
    return Descriptor(media_type, descriptor.digest, descriptor.size, kept)


_KEPT = (spec.TOC_DIGEST, spec.UNCOMPRESSED_SIZE)
_DOCUMENT_TYPES = {
    False: (spec.OCI_MANIFEST, spec.OCI_CONFIG),
    True: (spec.DOCKER_MANIFEST, spec.DOCKER_CONFIG),
}
_DOCKER_TYPES = {
    spec.OCI_LAYER: spec.DOCKER_LAYER,
    spec.OCI_LAYER_GZIP: spec.DOCKER_LAYER_GZIP,
    spec.OCI_LAYER_ZSTD: spec.DOCKER_LAYER_ZSTD,
}
_OCI_TYPES = {
    spec.DOCKER_LAYER: spec.OCI_LAYER,
    spec.DOCKER_LAYER_GZIP: spec.OCI_LAYER_GZIP,
    spec.DOCKER_LAYER_ZSTD: spec.OCI_LAYER_ZSTD,
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": spec.OCI_LAYER_GZIP,
    "application/vnd.oci.image.layer.nondistributable.v1.tar": spec.OCI_LAYER,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": spec.OCI_LAYER_GZIP,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": spec.OCI_LAYER_ZSTD,
}
