"""OCI image-spec documents as frozen values; encode to exact, deterministic JSON.

Field names and order follow image-spec v1.1 (manifest.md, config.md, image-index.md, descriptor.md) and
Docker's image config where it has more (HEALTHCHECK, ONBUILD, SHELL). Unknown fields are dropped.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"

# What the descriptor of an eStargz layer says of it.
TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
UNCOMPRESSED_SIZE = "io.containers.estargz.uncompressed-size"
TOC, LANDMARK = "stargz.index.json", ".no.prefetch.landmark"
ESTARGZ_FILES = (TOC, LANDMARK, ".prefetch.landmark")  # names at the top of its tar that are the format's own


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an image runs on."""

    architecture: str
    os: str
    variant: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: tuple[str, ...] = msgspec.field(default=(), name="os.features")

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What a blob is: media type, digest, size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = {}
    platform: Platform | None = None
    urls: tuple[str, ...] = ()
    artifact_type: str = ""


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """An image: its config and its layers, bottom first."""

    schema_version: int
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class Index(msgspec.Struct, frozen=True, rename="camel"):
    """Several manifests, for platforms or (in a layout's index.json) by name."""

    schema_version: int = 2
    media_type: str = OCI_INDEX
    manifests: tuple[Descriptor, ...] = ()
    annotations: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class Healthcheck(msgspec.Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """Docker's health check; times in nanoseconds."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Empty(msgspec.Struct, frozen=True):
    """`{}`, as a member of a set of ports or volumes."""


class RunConfig(msgspec.Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """How to run the image: the `config` object."""

    user: str = ""
    exposed_ports: dict[str, Empty] | None = None
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: dict[str, Empty] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    args_escaped: bool = False
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] | None = None
    shell: tuple[str, ...] | None = None


class History(msgspec.Struct, frozen=True, omit_defaults=True):
    """What made a layer, or changed only the config (`empty_layer`)."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class RootFS(msgspec.Struct, frozen=True):
    """The layers by the digests of their uncompressed tars."""

    type: str = "layers"
    diff_ids: tuple[str, ...] = ()


class ImageConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """The image config."""

    architecture: str
    os: str
    created: str = ""
    author: str = ""
    variant: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: tuple[str, ...] = msgspec.field(default=(), name="os.features")
    config: RunConfig = RunConfig()
    rootfs: RootFS = msgspec.field(default_factory=RootFS)
    history: tuple[History, ...] = ()


class LayerBlob(msgspec.Struct, frozen=True):
    """A layer as a tar in the store: its descriptor, its diff id, and the size of the uncompressed tar."""

    descriptor: Descriptor
    diff_id: str
    size: int


# msgspec looks at a type's fields when it first decodes one, and a second thread that comes meanwhile meets a
# type half known, which ends the process. So that is done here, where one thread is alone.
_KNOWN = tuple(map(msgspec.json.Decoder, (Manifest, Index, ImageConfig, LayerBlob)))


def encode_with(document: msgspec.Struct, further: Mapping[str, msgspec.Raw]) -> bytes:
    """The exact bytes of a document and further fields of it, sorted by their names."""
    fields = msgspec.json.decode(encode(document), type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**fields, **further}, order="deterministic")


def encode(document: msgspec.Struct) -> bytes:
    """The exact bytes of a document: field order as declared, maps sorted, no spaces."""
    return msgspec.json.encode(document, order="deterministic")
