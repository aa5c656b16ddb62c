"""A layer's blob in all compressions: which are the same tar, which is kept, and what is made of what."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from builder import digest as digests
from builder.oci import spec
from builder.oci.compressed import Compression
from builder.oci.spec import LayerBlob
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import FILE, FOLDER, WHITEOUT, Entry, LayerId
from tests.support.estargz import Estargz
from tests.support.layers import bytes_of, open_layers

GZIP, ZSTD, ESTARGZ = Compression(), Compression("zstd"), Compression("estargz")
ROWS = [
    Entry("d", FOLDER, 0o755, mtime=10**9),
    Entry("d/f", FILE, 0o644, size=5, mtime=10**9),
    Entry("d/gone", WHITEOUT),
]


@pytest.fixture
def layers(tmp_path: Path) -> LayerStore:
    return open_layers(tmp_path)


def own(layers: LayerStore, *, unpacked: bool) -> LayerId:
    return layers.create(ROWS, bytes_of({"d/f": b"hello"}), unpacked=unpacked)


def forget(layers: LayerStore, blob: LayerBlob) -> None:
    layers.blobs.remove(digests.parse(blob.descriptor.digest))


def bytes_in(layers: LayerStore, blob: LayerBlob) -> bytes:
    with layers.blobs.open(digests.parse(blob.descriptor.digest)) as file:
        return file.read()


@pytest.mark.parametrize("unpacked", [True, False])
def test_an_estargz_blob_is_the_layer_and_two_files_more(layers: LayerStore, unpacked: bool) -> None:
    layer = own(layers, unpacked=unpacked)

    blob = layers.blob(layer, ESTARGZ)

    read = Estargz(bytes_in(layers, blob), blob.descriptor.annotations)
    assert [entry["name"] for entry in read.entries] == [spec.LANDMARK, "d/", "d/f", "d/.wh.gone"]
    assert blob.diff_id != layers.blob(layer, GZIP).diff_id
    assert layers.blob(layer, ESTARGZ) == blob


def test_nothing_else_is_made_of_an_estargz_blob(layers: LayerStore, tmp_path: Path) -> None:
    layer = own(layers, unpacked=False)
    first, estargz = layers.blob(layer, GZIP), layers.blob(layer, ESTARGZ)
    forget(layers, first)

    later = open_layers(tmp_path)
    again, zstd = later.blob(layer, GZIP), later.blob(layer, ZSTD)

    assert again == first
    assert zstd.diff_id == first.diff_id
    assert layers.has_blob(estargz)
    assert sorted(str(p.relative_to(later.unpacked(layer))) for p in later.unpacked(layer).rglob("*")) == [
        "d", "d/f", "d/gone",
    ]  # fmt: skip


def imported(layers: LayerStore, data: bytes, media_type: str, tar: bytes) -> LayerId:
    digest = layers.blobs.put(data)
    blob = LayerBlob(spec.Descriptor(media_type, digest, len(data)), digests.of_bytes(tar), len(tar))
    return layers.import_blob(blob, unpacked=True)


@pytest.fixture
def tar(layers: LayerStore) -> bytes:
    return bytes_in(layers, layers.blob(own(layers, unpacked=True), Compression("none")))


def test_a_foreign_layer_stays_as_it_came_unless_that_is_forced(layers: LayerStore, tar: bytes) -> None:
    data = gzip.compress(tar, mtime=7)
    layer = imported(layers, data, spec.DOCKER_LAYER_GZIP, tar)

    assert bytes_in(layers, layers.blob(layer, ZSTD)) == data
    forced = layers.blob(layer, ZSTD, clamp=5, force=True)

    assert forced.descriptor.media_type == spec.OCI_LAYER_ZSTD
    assert forced.diff_id == digests.of_bytes(tar)
    assert layers.blob(layer, ZSTD, clamp=5, force=True) == forced
    assert bytes_in(layers, layers.blob(layer, Compression("gzip", 9), force=True)) == data


def test_a_foreign_layer_that_is_forced_to_be_estargz_is_its_own_tar(layers: LayerStore, tar: bytes) -> None:
    layer = imported(layers, gzip.compress(tar), spec.OCI_LAYER_GZIP, tar)

    assert layers.blob(layer, ESTARGZ).descriptor.annotations == {}
    blob = layers.blob(layer, ESTARGZ, force=True)

    assert Estargz(bytes_in(layers, blob), blob.descriptor.annotations).read("d/f") == b"hello"


@pytest.mark.parametrize("force", [False, True])
def test_a_foreign_layer_that_is_estargz_says_so(layers: LayerStore, force: bool) -> None:
    blob = layers.blob(own(layers, unpacked=True), ESTARGZ)
    data = bytes_in(layers, blob)
    layer = imported(layers, data, spec.OCI_LAYER_GZIP, gzip.decompress(data))

    found = layers.blob(layer, ESTARGZ, force=force)

    assert found.descriptor.digest == blob.descriptor.digest
    assert found.descriptor.annotations == {
        spec.TOC_DIGEST: blob.descriptor.annotations[spec.TOC_DIGEST],
        spec.UNCOMPRESSED_SIZE: str(blob.size),
    }
    assert layers.blob(layer, GZIP, force=force).descriptor.annotations == {}
