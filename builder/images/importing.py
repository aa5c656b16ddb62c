"""An image of one layer from a tarball: `pybuild import`.

The tarball is unpacked on paper as ADD unpacks one into an empty folder: with its checks, and so that nothing
in it can name a path outside the image. Its bytes go from a spool in the store into the layer's blob.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from builder import loops
from builder.compiler.created_by import valid
from builder.compiler.remotes import WEB, AddressError, read_file, redact
from builder.digest import Digest
from builder.errors import BuildError, ImageError, UsageError, reason_of
from builder.exporters import parse_name
from builder.images.changes import config_of
from builder.images.find import this_machine
from builder.oci import compression, tar_header
from builder.oci.compressed import Compression
from builder.oci.image import assemble, rfc3339
from builder.oci.names import Names
from builder.oci.spec import History, LayerBlob, Platform
from builder.snapshots import archive, forms
from builder.snapshots.canvas import Canvas
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import Entry, LayerId
from builder.snapshots.tree import Tree
from builder.solver.cache import Cache
from builder.sources.archive import Archives
from builder.sources.shelf import Shelf
from builder.store import locks
from builder.store.blobs import BlobStore
from builder.store.failure import told_as
from builder.store.ingest import sweep_ingest
from builder.store.leases import leased
from builder.store.root import Store

STDIN = "-"
SECOND = 1_000_000_000
CHUNK = 1 << 20


def import_image(
    store: Store,
    source: str,
    name: str | None = None,
    *,
    changes: Sequence[str] = (),
    message: str | None = None,
    platform: Platform | None = None,
    created: int | None = None,
) -> str:
    """Make an image of a tarball, and give its id (the config's digest).

    source: a file, the address of one, or "-" for standard input; compressed or not. created: seconds since
    the epoch, None is now. Raises BuildError, as ADD does of an archive.
    """
    names = [parse_name(name)] if name is not None else []
    config = config_of(changes, platform or this_machine())
    seconds = time.time() if created is None else created
    shown = "standard input" if source == STDIN else redact(source)
    with locks.shared(store.folder, locks.BUILDS), leased(store):
        sweep_ingest(store.folder)
        with _opened(store, source, shown) as file:
            blob = _layer(store, file, shown, int(seconds) * SECOND)
        told = message if message is not None else f"Imported from {redact(source)}"
        history = [History(created=rfc3339(seconds), comment=valid(told))]
        image = assemble(config, [blob], history, rfc3339(seconds)).finished()
        for document in reversed(image.documents().values()):
            store.blobs.put(document)
        Names(store).add(image.row, names)
    return image.config


# ── where the tarball is ─────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def _opened(store: Store, source: str, shown: str) -> Iterator[BinaryIO]:
    """The tarball, as a file in which one can go back."""
    if source.startswith(WEB):
        with _fetched(store, source) as file:
            yield file
        return
    with _local(source) as file:
        if file.seekable():
            yield file
            return
        with told_as(store.folder, "keeping what is imported"), _temporary(store) as spool:
            for data in _pieces(file, shown):
                spool.write(data)
            spool.seek(0)
            yield spool


def _pieces(file: BinaryIO, shown: str) -> Iterator[bytes]:
    with _reading(shown):
        while data := file.read(CHUNK):
            yield data


@contextlib.contextmanager
def _reading(shown: str) -> Iterator[None]:
    """A block in which an OSError is the archive's."""
    try:
        yield
    except OSError as error:
        raise ImageError(
            f"archive {shown} cannot be read: {reason_of(error)}", code="archive-not-found"
        ) from error


def _local(source: str) -> BinaryIO:
    if source == STDIN:
        if sys.stdin.isatty():
            raise UsageError("an archive is not read from a terminal", hint="name a file")
        return open(os.dup(0), "rb", buffering=0)
    with _reading(source):
        return open(source, "rb", buffering=0)


def _fetched(store: Store, address: str) -> BinaryIO:
    from builder.sources import http

    try:
        op = read_file(address, "import")
    except AddressError as error:
        raise BuildError(f"{redact(address)}: {error}", code="bad-address") from error
    layers = LayerStore(Path(store.folder, "layers"), store.blobs)
    shelf = Shelf(store.folder, layers, Cache(os.path.join(store.folder, "cache"), layers.exists))
    layer = loops.run(http.fetch(shelf, op))
    return layers.open(layer, layers.entries(layer)[0])


def _temporary(store: Store) -> BinaryIO:
    folder = os.path.join(store.folder, "ingest")
    return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))


# ── what it holds ────────────────────────────────────────────────────────────────────────────────────────


def _layer(store: Store, file: BinaryIO, shown: str, now: int) -> LayerBlob:
    with Archives(os.path.join(store.folder, "ingest")) as archives:
        with _reading(shown):
            read = archives.read(file, shown)
            is_archive = read is not None or _is_empty_archive(file)
        if not is_archive:
            raise ImageError(
                f"{shown} is no tar archive", code="not-an-archive", hint="docker export writes such archives"
            )
        canvas = Canvas(Tree(), _digest_of)
        if read is not None:
            archive.apply(canvas, ".", read, owner=None, now=now)
        planned = canvas.finish(now)
        origins = {item.entry.path: item.origin for item in planned}

        def content(entry: Entry) -> BinaryIO:
            origin = origins[entry.path]
            assert isinstance(origin, tuple)
            return archives.open(origin[1])

        return _written(store.blobs, [item.entry for item in planned], content)


def _written(blobs: BlobStore, entries: Sequence[Entry], content: forms.Content) -> LayerBlob:
    blob, _ = forms.write_blob(blobs, entries, content, Compression())
    return blob


def _digest_of(_layer: LayerId, entry: Entry) -> Digest:
    return Digest(entry.digest or "")


def _is_empty_archive(file: BinaryIO) -> bool:
    """Whether there is nothing but the end of an archive."""
    file.seek(0)
    stream = compression.open_reader(file)
    block = b""
    while len(block) < 2 * tar_header.BLOCK and (data := stream.read(2 * tar_header.BLOCK - len(block))):
        block += data
    return len(block) == 2 * tar_header.BLOCK and not any(block)
