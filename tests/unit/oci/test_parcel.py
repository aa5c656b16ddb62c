"""What belongs to an image: documents in the order of their need, blobs once, foreign layers left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder.digest import Digest
from builder.errors import ImageError
from builder.oci import spec
from builder.oci.parcel import MAX_NESTING, Parcel, pack
from tests.support.layouts import LayoutMaker, Row, digest_of


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


def packed(layout: LayoutMaker, row: Row) -> Parcel:
    return pack(row, lambda digest: layout.path(digest).read_bytes())


def test_an_image_is_its_manifest_its_config_and_its_layers(layout: LayoutMaker) -> None:
    row = layout.image([{"a": b"1"}, {"b": b"2"}])
    manifest = layout.manifest(row)

    parcel = packed(layout, row)

    assert [document.digest for document in parcel.documents()] == [row["digest"]]
    assert parcel.root.media_type == spec.OCI_MANIFEST
    assert parcel.root.data == layout.path(row["digest"]).read_bytes()
    named = [manifest["config"], *manifest["layers"]]
    assert [blob.digest for blob in parcel.blobs] == [row["digest"] for row in named]


def test_what_an_index_lists_comes_before_it_and_shared_blobs_come_once(layout: LayoutMaker) -> None:
    images = {p: layout.image([{"same": b"1"}], platform=p) for p in ("linux/amd64", "linux/arm64")}
    outer = layout.index({"linux/amd64": layout.index(images)})

    parcel = packed(layout, outer)

    assert [len(level) for level in parcel.levels] == [2, 1, 1]
    assert {document.digest for document in parcel.levels[0]} == {row["digest"] for row in images.values()}
    assert parcel.root.digest == outer["digest"]
    assert len(parcel.blobs) == 3  # a layer, and two configs


@pytest.mark.parametrize(
    ("kind", "urls", "left_out"),
    [
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", ["https://x.example/l"], True),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", ["https://x.example/l"], True),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", [], False),
        (spec.OCI_LAYER_GZIP, ["https://x.example/l"], False),
    ],
)
def test_a_layer_that_is_got_elsewhere_is_left_out(
    layout: LayoutMaker, kind: str, urls: list[str], left_out: bool
) -> None:
    layer = layout.blob(b"layer", kind) | {"urls": urls}
    config = layout.document({"architecture": "amd64", "os": "windows"}, spec.DOCKER_CONFIG)
    row = layout.document(
        {"schemaVersion": 2, "mediaType": spec.DOCKER_MANIFEST, "config": config, "layers": [layer]},
        spec.DOCKER_MANIFEST,
    )

    parcel = packed(layout, row)

    assert [blob.digest for blob in parcel.left_out] == ([layer["digest"]] if left_out else [])
    assert len(parcel.blobs) == (1 if left_out else 2)


def test_artifacts_and_what_nobody_knows_go_as_they_are(layout: LayoutMaker) -> None:
    chart = layout.blob(b"chart", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    config = layout.blob(b"{}", "application/vnd.oci.empty.v1+json")
    artifact = layout.document(
        {"schemaVersion": 2, "artifactType": "x/y", "config": config, "layers": [chart], "more": [1]},
        spec.OCI_MANIFEST,
    )
    odd = layout.blob(b"\x00 no JSON", "application/vnd.example.odd")
    index = layout.document(
        {"schemaVersion": 2, "mediaType": spec.OCI_INDEX, "manifests": [artifact, odd]}, spec.OCI_INDEX
    )

    parcel = packed(layout, index)

    assert {document.digest: document.data for document in parcel.levels[0]} == {
        row["digest"]: layout.path(row["digest"]).read_bytes() for row in (artifact, odd)
    }
    assert [blob.digest for blob in parcel.blobs] == [config["digest"], chart["digest"]]


@pytest.mark.parametrize(
    "document",
    [
        b"no JSON",
        b"[]",
        b'{"config": {"digest": "sha256:../../etc", "size": 1}}',
        b'{"config": {"digest": 1, "size": 1}}',
        b'{"layers": [{"digest": "sha256:' + b"a" * 64 + b'", "size": -1}]}',
        b'{"layers": {}}',
        b'{"manifests": [null]}',
    ],
)
def test_a_document_that_is_none_is_an_error(layout: LayoutMaker, document: bytes) -> None:
    row = layout.blob(document, spec.OCI_MANIFEST)

    with pytest.raises(ImageError):
        packed(layout, row)


def test_indexes_are_not_followed_for_ever(layout: LayoutMaker) -> None:
    row = layout.image()
    for _ in range(MAX_NESTING + 1):
        row = layout.index({"linux/amd64": row})

    with pytest.raises(ImageError, match="index of indexes"):
        packed(layout, row)


def test_an_index_of_too_much_is_an_error() -> None:
    children = [{"mediaType": "x/y", "digest": digest_of(b"%d" % n), "size": 1} for n in range(3000)]
    data = json.dumps({"manifests": children}).encode()
    row = {"mediaType": spec.OCI_INDEX, "digest": Digest(digest_of(data)), "size": len(data)}

    with pytest.raises(ImageError, match="more than"):
        pack(row, lambda digest: data if digest == row["digest"] else b"{}")
