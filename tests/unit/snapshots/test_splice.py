"""A blob made of another layer's blob is the one that packing gives, and its files need not be read."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path
from typing import BinaryIO

import pytest

from builder.errors import BuildError
from builder.oci.compression import Compression
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import FILE, FOLDER, SYMLINK, Entry, LayerId
from tests.support.layers import bytes_of, make_layer, open_layers

FILES: dict[str, bytes | None] = {f"d{n // 10}/f{n:03}": b"%d\n" % n * n for n in range(100)}


@pytest.fixture
def layers(tmp_path: Path) -> LayerStore:
    return open_layers(tmp_path)


def rows_of(layers: LayerStore, layer: LayerId) -> list[Entry]:
    return [entry.replace() for entry in layers.entries(layer)]


class Counting:
    """Content that tells what was asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []

    def __call__(self, entry: Entry) -> BinaryIO:
        self.asked.append(entry.path)
        return io.BytesIO(self.files[entry.path])


def some_files(rng: random.Random) -> dict[str, bytes]:
    """Names of all lengths, as headers of all kinds need them."""
    long = "x" * 120
    names = [
        f"{rng.choice(['a', 'b', 'é', long])}/{n}{rng.choice(['', long, 'ü', '.wh.'])}" for n in range(90)
    ]
    return {name: rng.randbytes(rng.choice([0, 1, 511, 512, 513, 3000])) for name in names}


def entries_of(files: dict[str, bytes]) -> list[Entry]:
    """Their entries, of all kinds of owners and times, with a symlink and a file of two names."""
    folders = {"a", *(path.rpartition("/")[0] for path in files)}
    rows = [Entry(path, FOLDER, 0o755, mtime=5) for path in folders]
    for path, data in files.items():
        uid, mtime = len(path) % 2 * 3_000_000, (-5, 10**9, 10**18)[len(path) % 3]
        rows.append(Entry(path, FILE, 0o644, uid, 0, len(data), mtime))
    rows.append(rows[-len(files)].replace(path="a/again", hardlink=next(iter(files))))
    return [*rows, Entry("a/symlink", SYMLINK, 0o777, link="é" * 60)]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("clamp", [None, 10**12])
@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
def test_it_is_byte_for_byte_what_packing_gives(layers, seed, clamp, kind):
    rng = random.Random(seed)
    files = some_files(rng)
    base = layers.create(entries_of(files), bytes_of(files), unpacked=True)
    changed = dict(files)
    for path in rng.sample(sorted(files)[1:], 5):
        changed[path] = rng.randbytes(700)
    changed["a/new" if seed % 2 else "é/new"] = b"new"
    del changed[list(files)[-1]]
    whole = layers.create(entries_of(changed), bytes_of(changed), unpacked=True)
    compression = Compression(kind)
    layers.blob(base, compression, clamp=clamp)

    stacked = layers.create(rows_of(layers, whole), bytes_of(changed), unpacked=True, model=base)

    assert layers.blob(stacked, compression, clamp=clamp) == layers.blob(whole, compression, clamp=clamp)


def test_only_what_is_new_is_read(layers):
    base = make_layer(layers, FILES, unpacked=False)
    files = FILES | {"d0/f003": b"new\n"}
    whole = make_layer(layers, files)
    content = Counting({path: data for path, data in files.items() if data is not None})

    layer = layers.create(rows_of(layers, whole), content, unpacked=False, model=base)

    assert content.asked == ["d0/f003"]
    assert layers.blob(layer, Compression()) == layers.blob(whole, Compression())
    assert layers.entries(layer) == layers.entries(whole)
    assert (layers.unpacked(layer) / "d0/f003").read_bytes() == b"new\n"
    assert (layers.unpacked(layer) / "d9/f099").read_bytes() == FILES["d9/f099"]


@pytest.mark.parametrize("harm", ["cut", "other bytes", "gone", "another tar"])
def test_of_a_damaged_blob_nothing_is_made(layers, tmp_path, harm):
    base = make_layer(layers, FILES, unpacked=False)
    (digest,) = layers.blobs.digests()
    path = layers.blobs.path(digest)
    other = make_layer(layers, {"x": b"1"}, unpacked=False)
    data = path.read_bytes()
    os.chmod(path, 0o600)
    match harm:
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "other bytes":
            path.write_bytes(data[:100] + b"\0\1\2" + data[103:])
        case "another tar":
            blob = layers.blob(other, Compression())
            path.write_bytes(layers.blobs.path(blob.descriptor.digest).read_bytes())
        case "gone":
            path.unlink()
    if path.exists():
        os.chmod(path, 0o400)
    files = FILES | {"d0/f003": b"new\n"}
    whole = make_layer(layers, files)
    content = Counting({path: data for path, data in files.items() if data is not None})

    layer = open_layers(tmp_path).create(rows_of(layers, whole), content, unpacked=False, model=base)

    assert open_layers(tmp_path).blob(layer, Compression()) == layers.blob(whole, Compression())
    assert len(set(content.asked)) == 99  # all but the empty one


def test_a_file_that_changed_meanwhile_is_an_error(layers):
    base = make_layer(layers, FILES, unpacked=False)
    whole = make_layer(layers, FILES | {"d0/f003": b"new\n"})

    with pytest.raises(BuildError, match="changed during the build"):
        layers.create(rows_of(layers, whole), bytes_of({"d0/f003": b"NEW\n"}), unpacked=False, model=base)

    assert not os.listdir(os.path.join(layers.store, "ingest"))
