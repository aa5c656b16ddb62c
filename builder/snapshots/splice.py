"""A layer's blob made of another layer's: what is the same in both tars is copied, the rest is written anew.

The tar of a layer is a function of its entries and their bytes, so where it differs from another's is known
from the entries alone. Thousands of files need not be opened for one that has changed: their bytes come out
of the other blob, in one stream. What comes out is byte for byte what packing would have given.

The other blob is believed as far as its digests go: one that is damaged is no help, and nothing comes of it.
Blocking. Must never know: what lies below a layer, folders.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from builder import digest as digests
from builder.errors import ImageError, StoreError
from builder.oci import layer as tars
from builder.oci import tar
from builder.oci.compression import NO_LIMITS, open_reader
from builder.snapshots import forms
from builder.snapshots.delta import is_same

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from builder.fs.copy import Readable
    from builder.oci.compressed import Compression
    from builder.oci.spec import LayerBlob
    from builder.oci.tar import Content, Writable
    from builder.snapshots.layers import LayerStore
    from builder.snapshots.snapshot import Entry, LayerId

CHUNK = 1 << 18
SMALL = 1 << 17  # bytes of a file in the mean, above which to open it costs next to nothing


class _Unfit(Exception):
    """The other blob is not what it should be."""


def splice(
    store: LayerStore,
    rows: list[Entry],
    model: LayerId,
    content: Content,
    compression: Compression,
    clamp: int | None,
) -> tuple[LayerBlob, list[Entry]] | None:
    """The blob of the rows made of the model's of that compression and clamp; the rows with their digests.

    None where there is no such blob, or it would spare nothing. `content` gives the bytes of FILEs that are
    not the model's. Raises as packing does.
    """
    if compression.kind == "estargz":  # whose tar has files of its own
        return None
    other = forms.read_blobs(store.path(model)).get(forms.blob_key(compression, clamp))
    if other is None or sum(row.size for row in rows) > SMALL * len(rows) or not store.has_blob(other):
        return None
    pieces = _plan(rows, store.entries(model), clamp)
    if sum(len(piece.new) for piece in pieces) * 2 > len(rows):
        return None
    checked = forms.CheckedContent(content)
    wanted = {row.path: row for row in rows}

    def fresh(entry: Entry) -> BinaryIO:
        return checked(wanted[entry.path])

    try:
        with store.blobs.open(digests.parse(other.descriptor.digest)) as stream, store.blobs.ingest() as out:
            source = _Source(open_reader(stream, limits=NO_LIMITS), other)

            def write(raw: Writable) -> None:
                for piece in pieces:
                    source.copy(piece.start, piece.end, raw)
                    tar.write(piece.new, fresh, raw, clamp=clamp, end=False)
                source.finish()
                raw.write(tar.END)

            blob = tars.pack_tar(write, out, compression)
            out.commit(expected=digests.parse(blob.descriptor.digest), size=blob.descriptor.size)
    except (_Unfit, ImageError, StoreError):
        return None
    return blob, checked.fill(rows)


class _Piece:
    """A stretch of the other tar, as it is, and the entries that follow it."""

    __slots__ = ("end", "new", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.new: list[Entry] = []


def _plan(rows: list[Entry], others: list[Entry], clamp: int | None) -> list[_Piece]:
    """The pieces that the tar of the rows is made of, in order; the stretches go forward only. Both are in
    canonical order, as layers' entries are."""
    places: dict[str, tuple[Entry, int, int]] = {}
    at = 0
    for entry in tars.tar_entries(others, in_order=True):
        size = tar.size_of(entry, clamp)
        places[entry.path] = (entry, at, at + size)
        at += size
    pieces = [_Piece(0, 0)]
    for row in tars.tar_entries(rows, in_order=True):
        there = places.get(row.path)
        piece = pieces[-1]
        if there is None or there[1] < piece.end or row.kind != there[0].kind or not is_same(row, there[0]):
            piece.new.append(row if row.digest is None else row.replace(digest=None))
        elif there[1] == piece.end and not piece.new:
            piece.end = there[2]
        else:
            pieces.append(_Piece(there[1], there[2]))
    return pieces


class _Source:
    """The other tar, read once from its beginning."""

    def __init__(self, stream: Readable, blob: LayerBlob) -> None:
        self._stream = stream
        self._blob = blob
        self._sha = hashlib.sha256()
        self._at = 0
        self._held = memoryview(b"")

    def copy(self, start: int, end: int, out: Writable) -> None:
        """Write a stretch of it to `out`."""
        for _ in self._pass(start):
            pass
        for data in self._pass(end):
            out.write(data)

    def finish(self) -> None:
        """See that it was what it is said to be. Raises _Unfit."""
        self._held = memoryview(b"")
        while data := self._stream.read(CHUNK):
            self._sha.update(data)
        if digests.from_hex(self._sha.hexdigest()) != self._blob.diff_id:
            raise _Unfit

    def _pass(self, end: int) -> Iterator[bytes]:
        while self._at < end:
            if not self._held:
                data = self._stream.read(CHUNK)
                if not data:
                    raise _Unfit
                self._sha.update(data)
                self._held = memoryview(data)
            piece = self._held[: end - self._at]
            self._held = self._held[len(piece) :]
            self._at += len(piece)
            yield bytes(piece)
