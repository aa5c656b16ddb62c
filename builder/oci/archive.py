"""Images out of an archive: what `docker save`, `podman save` and OCI tools write, compressed or not.

One pass over a stream, which may be a pipe: members become blobs as they come by (small ones wait in
memory until it is known what they are), and at the end the documents say which of them are images.
Names of members are only ever compared with names in the documents; nothing is written under them.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from builder import digest as digests
from builder.digest import Digest
from builder.errors import ImageError
from builder.oci import compression, documents, reference, spec, tar
from builder.oci.image import platform_of
from builder.oci.platform import choose
from builder.oci.reference import InvalidReference, Reference
from builder.oci.spec import Descriptor, ImageConfig, Index, Manifest, Platform
from builder.snapshots.snapshot import FILE, SYMLINK
from builder.store.blobs import CHUNK, BlobStore

if TYPE_CHECKING:
    from builder.fs.copy import Readable

SMALL = 1 << 20  # members up to this may wait in memory,
WAITING = 64 << 20  # all of them together up to this
MAX_MEMBERS = 200_000
MAX_LINKS = 16


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that is in the store now, yet without a name: its descriptor, with platform, and the names
    that the archive has for it."""

    descriptor: Descriptor
    names: tuple[Reference, ...]


class _Docker(msgspec.Struct, rename="pascal"):
    """An image in manifest.json (docker's image-spec v1.2)."""

    config: str
    repo_tags: tuple[str, ...] | None = None
    layers: tuple[str, ...] | None = None


def load(stream: Readable, blobs: BlobStore, platform: Platform, name: str) -> list[Loaded]:
    """Bring the images of an archive into the store; `name` is how messages call it.

    Where an image is there for several platforms, the one for `platform` is taken. Raises ImageError,
    StoreError.
    """
    try:
        members = _read(compression.open_reader(stream, name=name), blobs, name)
    except ImageError as error:
        raise ImageError(f"{name}: {error.message}", code=error.code, hint=error.hint) from error
    if members.has("index.json"):
        loaded = _from_index(members, platform)
    elif members.has("manifest.json"):
        loaded = _from_docker(members, blobs)
    else:
        raise ImageError(
            f"{name} is no image archive: it has neither index.json nor manifest.json",
            code="not-an-archive",
            hint="docker save, podman save and --output type=oci write such archives",
        )
    if not loaded:
        raise ImageError(f"{name} has no images", code="not-an-archive")
    return loaded


class _Members:
    """What an archive has: small members as bytes, large ones as blobs, links by their targets."""

    def __init__(self, name: str, blobs: BlobStore) -> None:
        self.name = name
        self.blobs = blobs
        self.small: dict[str, bytes] = {}
        self.large: dict[str, tuple[Digest, int]] = {}
        self.links: dict[str, str] = {}

    def _real(self, path: str) -> str:
        for _ in range(MAX_LINKS):
            if path not in self.links:
                return path
            path = self.links[path]
        raise ImageError(f"{self.name} has links that go round in a circle", code="invalid-archive")

    def has(self, path: str) -> bool:
        """Whether there is such a member."""
        real = self._real(path)
        return real in self.small or real in self.large

    def read(self, path: str, limit: int) -> bytes:
        """A document's bytes."""
        real = self._real(path)
        if real in self.small:
            return self.small[real]
        return self.blobs.read(self._large(real, path)[0], limit)

    def blob(self, path: str) -> tuple[Digest, int]:
        """The blob that a member is, in the store afterwards."""
        real = self._real(path)
        if real in self.small:
            return self.blobs.put(self.small[real]), len(self.small[real])
        return self._large(real, path)

    def head(self, path: str) -> bytes:
        """A member's first bytes, which tell how it is compressed."""
        real = self._real(path)
        if real in self.small:
            return self.small[real][:6]
        with self.blobs.open(self._large(real, path)[0]) as file:
            return file.read(6)

    def _large(self, real: str, path: str) -> tuple[Digest, int]:
        try:
            return self.large[real]
        except KeyError:
            raise ImageError(f"{self.name} lacks {path}", code="invalid-archive") from None


def _read(stream: Readable, blobs: BlobStore, name: str) -> _Members:
    members = _Members(name, blobs)
    waiting = 0
    for count, (entry, reader) in enumerate(tar.read(stream)):
        if count > MAX_MEMBERS:
            raise ImageError(f"{name} has more than {MAX_MEMBERS} members", code="invalid-archive")
        if entry.kind == SYMLINK:
            # Old docker archives link equal layers: <id>/layer.tar -> ../<other id>/layer.tar
            target = posixpath.join(posixpath.dirname(entry.path), entry.link)
            members.links[entry.path] = posixpath.normpath(target).lstrip("/")
        elif entry.kind == FILE and entry.hardlink is not None:
            members.links[entry.path] = entry.hardlink
        elif entry.kind == FILE and entry.size <= SMALL and waiting + entry.size <= WAITING:
            members.small[entry.path] = _whole(reader)
            waiting += entry.size
        elif entry.kind == FILE:
            members.large[entry.path] = _ingest(reader, blobs)
    return members


def _whole(reader: Readable) -> bytes:
    pieces = []
    while data := reader.read(CHUNK):
        pieces.append(data)
    return b"".join(pieces)


def _ingest(reader: Readable, blobs: BlobStore) -> tuple[Digest, int]:
    with blobs.ingest() as ingest:
        while data := reader.read(CHUNK):
            ingest.write(data)
        return ingest.commit()


# ── OCI archives ─────────────────────────────────────────────────────────────────────────────────────────


def _from_index(members: _Members, platform: Platform) -> list[Loaded]:
    index = documents.parse_index(members.read("index.json", documents.MAX_MANIFEST), members.name)
    docker_names = _docker_names(members)
    found: dict[str, tuple[Descriptor, dict[Reference, None]]] = {}
    for entry in index.manifests:
        descriptor, manifest, config = _manifest_of(members, entry, platform, 0)
        for layer in manifest.layers:
            documents.compression_of(layer, members.name)
            _checked_blob(members, layer)
        documents.check_layers(manifest, config, members.name)
        _, names = found.setdefault(descriptor.digest, (descriptor, {}))
        names.update(dict.fromkeys(_names_of(entry) or docker_names.get(manifest.config.digest, [])))
    return [Loaded(descriptor, tuple(names)) for descriptor, names in found.values()]


def _manifest_of(
    members: _Members, entry: Descriptor, platform: Platform, depth: int
) -> tuple[Descriptor, Manifest, ImageConfig]:
    """An entry's manifest, for the platform where there is a choice; document and config are in the store."""
    data = _document(members, entry, documents.MAX_MANIFEST)
    document = documents.parse_manifest_or_index(data, entry.media_type, members.name)
    if isinstance(document, Index):
        chosen = choose(document.manifests, platform)
        present = [d for d in document.manifests if members.has(_path(d)) and not _is_attestation(d)]
        if chosen is None or chosen not in present:
            chosen = present[0] if len(present) == 1 else None
        if chosen is None or depth > 2:
            raise ImageError(
                f"{members.name} has no image for {platform}",
                code="platform-not-found",
                hint=f"it is there for {', '.join(str(d.platform) for d in present)}" if present else None,
            )
        return _manifest_of(members, chosen, platform, depth + 1)
    config = documents.parse_config(_document(members, document.config, documents.MAX_CONFIG), members.name)
    descriptor = Descriptor(document.media_type, entry.digest, len(data), platform=platform_of(config))
    return descriptor, document, config


def _is_attestation(descriptor: Descriptor) -> bool:
    return descriptor.platform is not None and descriptor.platform.os == "unknown"


def _document(members: _Members, descriptor: Descriptor, limit: int) -> bytes:
    _checked_blob(members, descriptor)
    return members.read(_path(descriptor), limit)


def _checked_blob(members: _Members, descriptor: Descriptor) -> None:
    digest, size = members.blob(_path(descriptor))
    if digest != descriptor.digest or size != descriptor.size:
        raise ImageError(
            f"{descriptor.digest} of {members.name} is damaged: it has {size} bytes and the digest {digest}",
            code="blob-damaged",
        )


def _path(descriptor: Descriptor) -> str:
    return f"blobs/sha256/{digests.hex_of(digests.parse(descriptor.digest))}"


def _names_of(entry: Descriptor) -> list[Reference]:
    """The full names of an entry; a ref.name that is a mere tag is none."""
    for annotation in (spec.IMAGE_NAME, spec.REF_NAME):
        text = entry.annotations.get(annotation, "")
        if "/" in text or ":" in text:
            return _parsed([text])
    return []


def _docker_names(members: _Members) -> dict[str, list[Reference]]:
    """Config digest -> names, from the manifest.json that may stand beside an index.json."""
    if not members.has("manifest.json"):
        return {}
    return {
        members.blob(image.config)[0]: _parsed(image.repo_tags or ())
        for image in _docker_images(members)
        if members.has(image.config)
    }


def _parsed(texts: list[str] | tuple[str, ...]) -> list[Reference]:
    found = []
    for text in texts:
        try:
            found.append(reference.parse(text).without_digest())
        except InvalidReference as error:
            raise ImageError(f"the archive has an image of the name {text!r}: {error.message}") from error
    return found


# ── docker save ──────────────────────────────────────────────────────────────────────────────────────────


def _docker_images(members: _Members) -> list[_Docker]:
    data = members.read("manifest.json", documents.MAX_MANIFEST)
    try:
        return msgspec.json.decode(data, type=list[_Docker])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ImageError(f"manifest.json of {members.name} is not valid: {error}") from error


def _from_docker(members: _Members, blobs: BlobStore) -> list[Loaded]:
    return [_docker_image(members, blobs, image) for image in _docker_images(members)]


def _docker_image(members: _Members, blobs: BlobStore, image: _Docker) -> Loaded:
    """An image of manifest.json: its config and layers as they are, under a manifest of ours."""
    config_bytes = members.read(image.config, documents.MAX_CONFIG)
    config = documents.parse_config(config_bytes, members.name)
    layers = tuple(_docker_layer(members, path) for path in image.layers or ())
    manifest = Manifest(
        schema_version=2,
        media_type=spec.OCI_MANIFEST,
        config=Descriptor(spec.OCI_CONFIG, blobs.put(config_bytes), len(config_bytes)),
        layers=layers,
    )
    documents.check_layers(manifest, config, members.name)
    for layer, diff_id in zip(layers, config.rootfs.diff_ids, strict=True):
        if layer.media_type == spec.OCI_LAYER and layer.digest != diff_id:
            raise ImageError(
                f"a layer of {members.name} is damaged: it is {layer.digest}, and {diff_id} by the config",
                code="blob-damaged",
            )
    data = spec.encode(manifest)
    descriptor = Descriptor(spec.OCI_MANIFEST, blobs.put(data), len(data), platform=platform_of(config))
    return Loaded(descriptor, tuple(_parsed(image.repo_tags or ())))


def _docker_layer(members: _Members, path: str) -> Descriptor:
    digest, size = members.blob(path)
    head = members.head(path)
    media_type = spec.OCI_LAYER
    if head.startswith(compression.GZIP_MAGIC):
        media_type = spec.OCI_LAYER_GZIP
    elif head.startswith(compression.ZSTD_MAGIC):
        media_type = spec.OCI_LAYER_ZSTD
    return Descriptor(media_type, digest, size)
