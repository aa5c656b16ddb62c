"""OCI image layouts that others made: folders with index.json and blobs (image-spec, image-layout.md).

Everything in one is foreign: documents pass oci.documents, each blob's bytes are hashed on the way out, and
links lead nowhere but inside the layout. It never writes, and knows nothing of the local store.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import msgspec

from builder import digest as digests
from builder import stop
from builder.digest import Digest
from builder.errors import ImageError, reason_of
from builder.fs.rooted import open_in, open_root, opened
from builder.oci import documents, spec
from builder.oci.reference import DEFAULT_TAG, InvalidReference, is_tag
from builder.oci.reference import parse as parse_reference
from builder.oci.spec import Descriptor
from builder.store.blobs import CHUNK, BlobStore, WrongContent


class LayoutName(msgspec.Struct, frozen=True):
    """`DIR[:TAG|@DIGEST]`: a folder, and which image of it (neither: see `Layout.find`)."""

    folder: Path
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"oci-layout://{self.folder}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse_layout_name(text: str) -> LayoutName:
    """Read `[oci-layout://]DIR[:TAG][@DIGEST]`. Raises InvalidReference."""
    rest = text.removeprefix("oci-layout://")
    folder, at, digest_text = rest.rpartition("@") if "@sha" in rest else (rest, "", "")
    digest = None
    if at:
        try:
            digest = digests.parse(digest_text)
        except ValueError:
            raise InvalidReference(f"digest {digest_text!r} of layout {text!r} is not valid") from None
    before, colon, tag = folder.rpartition(":")
    if colon and "/" not in tag:
        if not is_tag(tag):
            raise InvalidReference(f"tag {tag!r} of layout {text!r} is not valid")
        folder = before
    else:
        tag = ""
    if not folder:
        raise InvalidReference(
            f"layout {text!r} names no folder", hint="write oci-layout://DIR[:TAG|@DIGEST]"
        )
    return LayoutName(Path(folder), tag or None, digest)


class Layout:
    """An image layout at a folder, opened: its index was read and believed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _check_marker(folder)
        data = _read_file(folder, "index.json", documents.MAX_MANIFEST, f"{folder}/index.json")
        self.index = documents.parse_index(data, f"{folder}/index.json")

    def find(self, name: LayoutName) -> tuple[Descriptor, ...]:
        """The manifests (or indexes) that a name means; several only where one tag has several platforms.

        Without tag and digest: what is tagged `latest`, else the only image there is. Raises ImageError
        that lists the names.
        """
        if name.digest is not None:
            return (self._by_digest(name.digest),)
        wanted = name.tag or DEFAULT_TAG
        found = _distinct(d for d in self.index.manifests if d.annotations.get(spec.REF_NAME) == wanted)
        found = found or _distinct(d for d in self.index.manifests if wanted in tags_of(d))
        everything = _distinct(self.index.manifests)
        if not found and name.tag is None and len(everything) == 1:
            found = everything
        if not found:
            raise self._not_found(name)
        names = {d.annotations.get(spec.IMAGE_NAME) or d.annotations.get(spec.REF_NAME) for d in found}
        if len(found) > 1 and (len(names) > 1 or any(d.platform is None for d in found)):
            raise ImageError(
                f"the image layout {self.folder} has {len(found)} images tagged {wanted}",
                code="ambiguous-image",
                hint="name one by its digest: " + ", ".join(sorted(d.digest for d in found)[:5]),
            )
        return found

    def _by_digest(self, digest: Digest) -> Descriptor:
        for descriptor in self.index.manifests:
            if descriptor.digest == digest:
                return descriptor
        # Not named in index.json, yet maybe a manifest of an index that is.
        what = f"{digest} of the image layout {self.folder}"
        try:
            with _open_file(self.folder, _path(digest), what) as file:
                return Descriptor("", digest, os.fstat(file.fileno()).st_size)
        except ImageError as error:
            if error.code != "blob-not-found":
                raise
            raise ImageError(
                f"{digest} is not in the image layout {self.folder}",
                code="image-not-found",
                hint=self._choices(),
            ) from None

    def _not_found(self, name: LayoutName) -> ImageError:
        if not self.index.manifests:
            return ImageError(f"the image layout {self.folder} has no images", code="image-not-found")
        if name.tag is not None:
            message = f"the image layout {self.folder} has no image tagged {name.tag}"
        else:
            message = f"the image layout {self.folder} has several images, and none is tagged {DEFAULT_TAG}"
        return ImageError(message, code="image-not-found", hint=self._choices())

    def _choices(self) -> str:
        tags = sorted({tag for d in self.index.manifests for tag in tags_of(d)[:1]})
        shown = tags or sorted({d.digest for d in self.index.manifests})
        more = f" and {len(shown) - 20} more" if len(shown) > 20 else ""
        return f"it has {', '.join(shown[:20])}{more}" if shown else "it has no images"

    def read(self, descriptor: Descriptor, limit: int) -> bytes:
        """A small blob, verified against its descriptor."""
        what = f"{descriptor.digest} of the image layout {self.folder}"
        data = _read_file(self.folder, _path(descriptor.digest), limit, what)
        if len(data) != descriptor.size or digests.of_bytes(data) != descriptor.digest:
            raise _damaged(what)
        return data

    def copy(self, descriptor: Descriptor, blobs: BlobStore) -> None:
        """Copy a blob into a store, verified. Bounded memory."""
        what = f"{descriptor.digest} of the image layout {self.folder}"
        with _open_file(self.folder, _path(descriptor.digest), what) as file:
            if os.fstat(file.fileno()).st_size != descriptor.size:
                raise _damaged(what)
            with blobs.ingest() as ingest:
                try:
                    while data := file.read(CHUNK):
                        stop.check()
                        ingest.write(data)
                    ingest.commit(expected=digests.parse(descriptor.digest), size=descriptor.size)
                except WrongContent as error:
                    raise _damaged(what) from error
                except OSError as error:
                    raise ImageError(f"{what} cannot be read: {reason_of(error)}") from error

    def __repr__(self) -> str:
        return f"Layout({str(self.folder)!r})"


def tags_of(descriptor: Descriptor) -> list[str]:
    """What an entry of index.json answers to: its ref.name, and name and tag of its containerd name."""
    found = []
    if ref_name := descriptor.annotations.get(spec.REF_NAME):
        found.append(ref_name)
    for text in (descriptor.annotations.get(spec.IMAGE_NAME), ref_name):
        if not text or ("/" not in text and ":" not in text):
            continue
        try:
            reference = parse_reference(text)
        except InvalidReference:
            continue
        if reference.tag:
            found.append(reference.tag)
    return found


def _distinct(descriptors: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
    return tuple({d.digest: d for d in descriptors}.values())


def _path(digest: str) -> str:
    """Where a blob is in a layout."""
    return f"blobs/sha256/{digests.hex_of(digests.parse(digest))}"


def _check_marker(folder: Path) -> None:
    if not folder.is_dir():
        raise ImageError(f"the image layout {folder} is not there", code="layout-not-found")
    try:
        data = _read_file(folder, "oci-layout", 4096, f"{folder}/oci-layout")
    except ImageError as error:
        raise ImageError(
            f"{folder} is no OCI image layout: it has no file oci-layout", code="not-a-layout"
        ) from error
    if b'"imageLayoutVersion"' not in data:
        raise ImageError(f"{folder} is no OCI image layout: its file oci-layout is odd", code="not-a-layout")


def _open_file(folder: Path, path: str, what: str) -> BinaryIO:
    """Open a regular file of a layout; a fifo or device in its place must not hold us up."""
    try:
        with opened(open_root(folder)) as root:
            fd = open_in(root, path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise _missing(folder, path, what) from error
        raise ImageError(f"{what} cannot be read: {reason_of(error)}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ImageError(f"{what} is no regular file", code="not-a-layout")
    return open(fd, "rb", buffering=0)


def _missing(folder: Path, path: str, what: str) -> ImageError:
    if not os.path.exists(folder / path):
        return ImageError(f"{what} is missing", code="blob-not-found")
    return ImageError(
        f"{what} is a link that leads out of the layout",
        code="link-outside",
        hint="copy the layout with what its links mean, as `cp -rL` does",
    )


def _read_file(folder: Path, path: str, limit: int, what: str) -> bytes:
    with _open_file(folder, path, what) as file:
        chunks: list[bytes] = []
        size = 0
        while size <= limit and (data := file.read(min(CHUNK, limit + 1 - size))):
            chunks.append(data)
            size += len(data)
    if size > limit:
        raise ImageError(f"{what} has more than {limit} bytes", code="document-too-large")
    return b"".join(chunks)


def _damaged(what: str) -> ImageError:
    return ImageError(f"{what} is damaged: its bytes are not what its digest says", code="blob-damaged")
