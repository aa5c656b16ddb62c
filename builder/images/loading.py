"""Images out of archives into the store, with their names: `pybuild load`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from builder.errors import ImageError, UsageError
from builder.images.find import id_of, image_of
from builder.oci.names import Names, stored_name
from builder.oci.spec import Platform
from builder.store import locks
from builder.store.leases import leased
from builder.store.root import Store


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that came out of an archive: its names (none: it is dangling), the digest of its manifest or
    index, and its id, as docker has it."""

    names: tuple[str, ...]
    digest: str
    id: str


def load(store: Store, archive: str, platform: Platform | None = None) -> list[Loaded]:
    """Take the images out of an archive (a path, or "-" for standard input) into the store, with their names.

    platform: of images of several, that one alone; None: all, as far as the archive has them. Raises
    ImageError where the archive is at fault.
    """
    from builder.oci.archive import load as load_archive

    stream, name = open_archive(archive)
    with stream, locks.shared(store.folder, locks.BUILDS), leased(store):
        found = load_archive(stream, store.blobs, platform, name)
        names = Names(store)
        loaded = []
        for image in found:
            row = msgspec.to_builtins(image.descriptor)
            names.add(row, image.names)
            ident = id_of(image_of(store, row, name))
            loaded.append(Loaded(tuple(map(stored_name, image.names)), image.descriptor.digest, ident))
    return loaded


def open_archive(archive: str) -> tuple[Any, str]:
    """A file to read, or standard input for "-", and what it is called. Raises ImageError, UsageError."""
    import os
    import sys

    if archive == "-":
        if sys.stdin.isatty():
            raise UsageError("an archive is not read from a terminal", hint="name a file with --input")
        return open(os.dup(0), "rb"), "the archive on standard input"
    try:
        return open(archive, "rb"), archive
    except OSError as error:
        raise ImageError(
            f"archive {archive} cannot be read: {(error.strerror or '').lower()}", code="archive-not-found"
        ) from error
