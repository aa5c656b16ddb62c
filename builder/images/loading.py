"""Images out of archives into the store, with their names: `pybuild load`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from builder.errors import ImageError, UsageError, reason_of
from builder.images.find import id_of, image_of
from builder.oci.names import Names, stored_name
from builder.oci.spec import Platform
from builder.store import locks
from builder.store.ingest import sweep_ingest
from builder.store.leases import leased
from builder.store.root import Store

if TYPE_CHECKING:
    from builder.oci.archive import Loaded as Taken


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that came out of an archive: its names (none: it is dangling), the digest of its manifest or
    index, and its id, as docker has it."""

    names: tuple[str, ...]
    digest: str
    id: str


def load(store: Store, archive: str, platform: Platform | None = None) -> list[Loaded]:
    """Take the images out of an archive (a path, or "-" for standard input) into the store, with their names.

    A folder is an archive whose files lie in it, as an OCI layout's do. platform: of images of several, that
    one alone; None: all, as far as the archive has them. Raises ImageError where the archive is at fault.
    """
    with locks.shared(store.folder, locks.BUILDS), leased(store):
        sweep_ingest(store.folder)
        name, found = _read(store, archive, platform)
        names = Names(store)
        loaded = []
        for image in found:
            row = msgspec.to_builtins(image.descriptor)
            names.add(row, image.names)
            ident = id_of(image_of(store, row, name))
            loaded.append(Loaded(tuple(map(stored_name, image.names)), image.descriptor.digest, ident))
    return loaded


def _read(store: Store, archive: str, platform: Platform | None) -> tuple[str, list[Taken]]:
    """What the archive is called, and its images, without their names."""
    from builder.oci.archive import load as load_archive
    from builder.oci.archive import load_folder

    if os.path.isdir(archive):
        try:
            return archive, load_folder(archive, store.blobs, platform)
        except OSError as error:
            raise ImageError(
                f"the layout {archive} cannot be read: {reason_of(error)}", code="archive-not-found"
            ) from error
    stream, name = open_archive(archive)
    try:
        with stream:
            return name, load_archive(stream, store.blobs, platform, name)
    except OSError as error:  # what the store's disk refuses is told as that
        raise ImageError(f"{name} cannot be read: {reason_of(error)}", code="archive-not-found") from error


def open_archive(archive: str) -> tuple[Any, str]:
    """A file to read, or standard input for "-", and what it is called. Raises ImageError, UsageError."""
    if archive == "-":
        if sys.stdin.isatty():
            raise UsageError("an archive is not read from a terminal", hint="name a file with --input")
        return open(os.dup(0), "rb"), "the archive on standard input"
    try:
        return open(archive, "rb"), archive
    except OSError as error:
        raise ImageError(
            f"archive {archive} cannot be read: {reason_of(error)}", code="archive-not-found"
        ) from error
