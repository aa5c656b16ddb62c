"""Images out of an archive: what `docker save`, `podman save` and OCI tools write, compressed or not.

One pass over a stream, which may be a pipe: members become blobs as they come by (small ones wait in
memory until it is known what they are), and at the end the documents say which of them are images.
Names of members are only ever compared with names in the documents; nothing is written under them.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from builder import digest as digests
from builder.digest import Digest
from builder.errors import ImageError
from builder.fs.rooted import open_in, open_root, opened
from builder.fs.walk import walk
from builder.oci import compression, documents, reference, spec, tar
from builder.oci.held import MAX_NESTING, is_attestation
from builder.oci.image import platform_of
from builder.oci.platform import choose, fits
from builder.oci.reference import InvalidReference, Reference
from builder.oci.spec import Descriptor, Manifest, Platform
from builder.oci.weight import Weight
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
    """An image that is in the store now, yet without a name: its descriptor, with the platform of a single
    one, and the names that the archive has for it."""

    descriptor: Descriptor
    names: tuple[Reference, ...]


class _Docker(msgspec.Struct, rename="pascal"):
    """An image in manifest.json (docker's image-spec v1.2)."""

    config: str
    repo_tags: tuple[str, ...] | None = None
    layers: tuple[str, ...] | None = None


def load(stream: Readable, blobs: BlobStore, platform: Platform | None, name: str) -> list[Loaded]:
    """Bring the images of an archive into the store; `name` is how messages call it.

    Where an image is there for several platforms, the one for `platform` is taken, and without one all, as
    their index. Raises ImageError, StoreError.
    """
    try:
        members = _read(compression.open_reader(stream, name="the archive"), blobs, name)
    except ImageError as error:
        raise ImageError(f"{name}: {error.message}", code=error.code, hint=error.hint) from error
    return _images(members, blobs, platform)


def load_folder(folder: str, blobs: BlobStore, platform: Platform | None) -> list[Loaded]:
    """The same of such an archive's files in a folder, an OCI layout for one. No link is followed.

    Raises OSError, too.
    """
    members = _Members(folder, blobs)
    with opened(open_root(folder)) as root:
        if {"index.json", "manifest.json"}.isdisjoint(os.listdir(root)):
            raise _no_archive(folder)
        for count, found in enumerate(walk(root, file_xattrs=())):
            if count > MAX_MEMBERS:
                raise ImageError(f"{folder} has more than {MAX_MEMBERS} files", code="invalid-archive")
            if not stat.S_ISREG(found.status.st_mode):
                continue
            fd = open_in(root, found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(fd, "rb", buffering=0) as file:
                members.take(found.path, found.status.st_size, file)
    return _images(members, blobs, platform)


def _images(members: _Members, blobs: BlobStore, platform: Platform | None) -> list[Loaded]:
    name = members.name
    if members.has("index.json"):
        loaded = _from_index(members, platform)
    elif members.has("manifest.json"):
        loaded = _from_docker(members, blobs, platform)
    else:
        raise _no_archive(name)
    if not loaded:
        raise ImageError(f"{name} has no images", code="not-an-archive")
    return loaded


def _no_archive(name: str) -> ImageError:
    return ImageError(
        f"{name} is no image archive: it has neither index.json nor manifest.json",
        code="not-an-archive",
        hint="docker save, podman save and --output type=oci write such archives",
    )


class _Members:
    """What an archive has: small members as bytes, large ones as blobs, links by their targets."""

    def __init__(self, name: str, blobs: BlobStore) -> None:
        self.name = name
        self.blobs = blobs
        self.small: dict[str, bytes] = {}
        self.large: dict[str, tuple[Digest, int]] = {}
        self.links: dict[str, str] = {}
        self._waiting = 0

    def take(self, path: str, size: int, reader: Readable) -> None:
        """Take a member in."""
        if size <= SMALL and self._waiting + size <= WAITING:
            self.small[path] = _whole(reader)
            self._waiting += size
        else:
            self.large[path] = _ingest(reader, self.blobs)

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


def _read(stream: compression.Reader, blobs: BlobStore, name: str) -> _Members:
    members = _Members(name, blobs)
    weight = Weight(lambda: stream.consumed)
    for count, (entry, reader) in enumerate(tar.read(stream)):
        if count > MAX_MEMBERS:
            raise ImageError(f"it has more than {MAX_MEMBERS} members", code="invalid-archive")
        weight.add(entry.path, len(entry.path) + len(entry.link))
        if entry.kind == SYMLINK:
            # Old docker archives link equal layers: <id>/layer.tar -> ../<other id>/layer.tar
            target = posixpath.join(posixpath.dirname(entry.path), entry.link)
            members.links[entry.path] = posixpath.normpath(target).lstrip("/")
        elif entry.kind == FILE and entry.hardlink is not None:
            members.links[entry.path] = entry.hardlink
        elif entry.kind == FILE:
            members.take(entry.path, entry.size, reader)
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


def _from_index(members: _Members, platform: Platform | None) -> list[Loaded]:
    index = documents.parse_index(members.read("index.json", documents.MAX_MANIFEST), members.name)
    docker_names = _docker_names(members)
    found: dict[str, tuple[Descriptor, dict[Reference, None]]] = {}
    for entry in index.manifests:
        if is_attestation(entry):
            continue  # of an image that is listed beside it, not in an index of its own
        descriptor, configs = _taken(members, entry, platform, 0)
        _, names = found.setdefault(descriptor.digest, (descriptor, {}))
        told = _names_of(entry) or [name for config in configs for name in docker_names.get(config, [])]
        names.update(dict.fromkeys(name for name in told if name.digest in (None, descriptor.digest)))
    return [Loaded(descriptor, tuple(names)) for descriptor, names in found.values()]


def _taken(
    members: _Members, entry: Descriptor, platform: Platform | None, depth: int
) -> tuple[Descriptor, list[str]]:
    """What an entry is, all its blobs in the store afterwards: its descriptor, and its images' configs.

    Of an index the image for a platform is taken; without one the index itself, where the archive has more
    than one of its images, else that image.
    """
    data = _document(members, entry, documents.MAX_MANIFEST)
    document = documents.parse_manifest_or_index(data, entry.media_type, members.name)
    if isinstance(document, Manifest):
        return _image(members, entry, document, platform)
    present = [each for each in document.manifests if members.has(_path(each))]
    images = [each for each in present if not is_attestation(each)]
    if depth > MAX_NESTING or not images:
        raise ImageError(f"an index of {members.name} has no image", code="platform-not-found")
    if platform is None and (len(images) > 1 or len(present) == len(document.manifests)):
        taken = [_taken(members, each, None, depth + 1) for each in images]
        for each in present:
            if is_attestation(each):
                _take_further(members, each)
        descriptor = Descriptor(document.media_type, entry.digest, len(data))
        return descriptor, [config for _, configs in taken for config in configs]
    chosen = choose(images, platform) if platform is not None else images[0]
    if chosen is None and len(images) == 1:
        chosen = images[0]  # which may say for itself what it is for
    if chosen is None:
        raise _no_platform(members, platform, images)
    return _taken(members, chosen, platform, depth + 1)


def _image(
    members: _Members, entry: Descriptor, manifest: Manifest, platform: Platform | None
) -> tuple[Descriptor, list[str]]:
    config = documents.parse_config(_document(members, manifest.config, documents.MAX_CONFIG), members.name)
    own = platform_of(config)
    if platform is not None and not fits(own, platform):
        raise _no_platform(members, platform, [msgspec.structs.replace(entry, platform=own)])
    for layer in manifest.layers:
        documents.compression_of(layer, members.name)
        _checked_blob(members, layer)
    documents.check_layers(manifest, config, members.name)
    descriptor = Descriptor(manifest.media_type, entry.digest, entry.size, platform=own)
    return descriptor, [manifest.config.digest]


def _take_further(members: _Members, entry: Descriptor) -> None:
    """Bring what an index lists besides images (an attestation) into the store."""
    data = _document(members, entry, documents.MAX_MANIFEST)
    document = documents.parse_manifest_or_index(data, entry.media_type, members.name, further=None)
    if isinstance(document, Manifest):
        for blob in (document.config, *document.layers):
            _checked_blob(members, blob)


def _no_platform(members: _Members, platform: Platform | None, images: Sequence[Descriptor]) -> ImageError:
    known = ", ".join(str(each.platform) for each in images)
    return ImageError(
        f"{members.name} has no image for {platform}",
        code="platform-not-found",
        hint=f"it is there for {known}" if images else None,
    )


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
            return _parsed([text], by_digest=True)
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


def _parsed(texts: list[str] | tuple[str, ...], *, by_digest: bool = False) -> list[Reference]:
    """Names to give to an image; by_digest: those of a digest and no tag, too."""
    found = []
    for text in texts:
        try:
            name = reference.parse(text)
        except InvalidReference as error:
            raise ImageError(f"the archive has an image of the name {text!r}: {error.message}") from error
        if name.familiar_name() == "sha256":
            raise ImageError(f"the archive has an image of the name {text!r}, which is how an id is written")
        if name.tag is not None or by_digest:
            found.append(name if name.tag is None else name.without_digest())
    return found


# ── docker save ──────────────────────────────────────────────────────────────────────────────────────────


def _docker_images(members: _Members) -> list[_Docker]:
    data = members.read("manifest.json", documents.MAX_MANIFEST)
    try:
        return msgspec.json.decode(data, type=list[_Docker])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        one = data.lstrip().startswith(b"{") and b'"schemaVersion"' in data  # as skopeo's dir: has it
        hint = "that is one image's manifest: skopeo copy dir:… oci:… makes a layout of it" if one else None
        raise ImageError(f"manifest.json of {members.name} is not valid: {error}", hint=hint) from error


def _from_docker(members: _Members, blobs: BlobStore, platform: Platform | None) -> list[Loaded]:
    loaded = [_docker_image(members, blobs, image) for image in _docker_images(members)]
    for image in loaded:
        own = image.descriptor.platform
        if platform is not None and own is not None and not fits(own, platform):
            raise _no_platform(members, platform, [image.descriptor])
    return loaded


def _docker_image(members: _Members, blobs: BlobStore, image: _Docker) -> Loaded:
    """An image of manifest.json: its config and layers as they are, under a manifest of ours."""
    config_bytes = members.read(image.config, documents.MAX_CONFIG)
    config = documents.parse_config(config_bytes, members.name)
    named = image.layers or ()
    documents.check_count(len(named), config, members.name)
    found = {path: _docker_layer(members, path) for path in dict.fromkeys(named)}
    layers = tuple(found[path] for path in named)
    manifest = Manifest(
        schema_version=2,
        media_type=spec.OCI_MANIFEST,
        config=Descriptor(spec.OCI_CONFIG, blobs.put(config_bytes), len(config_bytes)),
        layers=layers,
    )
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
