"""A cache's folder as a destination: an OCI image layout, in which each tag is a cache.

Files appear by rename, once they are on the disk; the table of tags (index.json) changes last, by rename too.
So a reader never sees a tag ahead of its blobs. Who writes holds the folder's lock: two builds do not lose
each other's tags.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from io import BytesIO
from typing import BinaryIO

from builder import digest as digests
from builder import stop
from builder.errors import BuildError, ImageError
from builder.exporters.oci import MARKER, blob_path
from builder.oci import documents, spec
from builder.oci.spec import Descriptor, Index

LOCK_PAUSE = 0.05
OURS = re.compile(r"[0-9a-f]{64}(\.[0-9a-f-]+\.part)?")  # a blob, or what somebody who was killed left of one
CHUNK = 1 << 20


class Folder:
    """The layout at `path`, made if it is not there. Calls raise OSError and BuildError; they block.

    damaged: blobs that are known to be wrong here, and are written again.
    """

    def __init__(self, path: str, damaged: Collection[str]) -> None:
        self._path = path
        self._damaged = damaged

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Hold the folder's lock. Polled, as a blocked flock could not be cancelled.

        Raises BuildError where the folder is a store, whose table of names is not ours to change.
        """
        if os.path.exists(os.path.join(self._path, "VERSION")):
            raise BuildError(
                "the folder is a store of pybuild", code="cache-export-failed", hint="choose another folder"
            )
        os.makedirs(os.path.join(self._path, "blobs", "sha256"), exist_ok=True)
        fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            while not _lock(fd):  # noqa: ASYNC110 - another process has it
                await asyncio.sleep(LOCK_PAUSE)
            yield
        finally:
            os.close(fd)

    def has(self, blob: Descriptor) -> bool:
        """Whether a blob is there."""
        try:
            size = os.stat(os.path.join(self._path, blob_path(blob.digest))).st_size
        except FileNotFoundError:
            return False
        return size == blob.size and blob.digest not in self._damaged

    def add(self, blob: Descriptor, open_blob: Callable[[], BinaryIO]) -> None:
        """Write a blob, unless it is there."""
        if self.has(blob):
            return
        with open_blob() as source:
            _write(os.path.join(self._path, blob_path(blob.digest)), source, blob.size)

    def finish(self, manifest: bytes, tag: str, *, reset: bool) -> None:
        """Write the manifest, and give it its tag. With `reset` what no tag needs any more goes."""
        digest = digests.of_bytes(manifest)
        _write(os.path.join(self._path, blob_path(digest)), BytesIO(manifest), len(manifest))
        named = Descriptor(spec.OCI_MANIFEST, digest, len(manifest), annotations={spec.REF_NAME: tag})
        index = Index(manifests=(*self._others(tag), named))
        for name, data in (("oci-layout", MARKER), ("index.json", spec.encode(index))):
            _write(os.path.join(self._path, name), BytesIO(data), len(data))
        if reset:
            self._sweep(index)

    def _others(self, tag: str) -> tuple[Descriptor, ...]:
        """The entries of other tags."""
        path = os.path.join(self._path, "index.json")
        try:
            with open(path, "rb") as file:
                index = documents.parse_index(file.read(documents.MAX_MANIFEST + 1), path)
        except FileNotFoundError:
            return ()
        except ImageError as error:
            raise BuildError(f"{path} is not valid", code="cache-export-failed", hint="remove it") from error
        return tuple(d for d in index.manifests if d.annotations.get(spec.REF_NAME) != tag)

    def _sweep(self, index: Index) -> None:
        """Remove the blobs that no tag needs; nothing, where one has a manifest that cannot be read."""
        needed: set[str] = set()
        todo = list(index.manifests)
        while todo:
            descriptor = todo.pop()
            if descriptor.digest in needed:
                continue
            needed.add(descriptor.digest)
            try:
                with open(os.path.join(self._path, blob_path(descriptor.digest)), "rb") as file:
                    found = documents.parse_manifest_or_index(
                        file.read(documents.MAX_MANIFEST + 1), "", self._path, further=None
                    )
            except (OSError, ImageError):
                return
            if isinstance(found, Index):
                todo += found.manifests
            else:
                needed.update(blob.digest for blob in (found.config, *found.layers))
        folder = os.path.join(self._path, "blobs", "sha256")
        for name in os.listdir(folder):
            if OURS.fullmatch(name) and f"sha256:{name}" not in needed:
                os.unlink(os.path.join(folder, name))


def _write(path: str, source: BinaryIO, size: int) -> None:
    """Put a file there by rename, once its bytes are on the disk: by its size it is known to be whole.

    Raises OSError, BuildError.
    """
    temporary = f"{path}.{os.getpid()}-{os.urandom(6).hex()}.part"
    try:
        with open(temporary, "xb", buffering=0) as out:
            while data := source.read(CHUNK):
                stop.check()
                view = memoryview(data)
                while view:
                    view = view[out.write(view) :]
            if out.tell() != size:
                raise BuildError(f"{os.path.basename(path)} is cut short", code="blob-damaged")
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
