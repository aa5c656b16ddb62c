"""Archives of docker, podman and OCI tools become images of the store; hostile ones become errors."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from builder.digest import Digest
from builder.errors import ImageError
from builder.oci import spec
from builder.oci.archive import Loaded, load
from builder.oci.spec import Platform
from builder.store.blobs import BlobStore
from tests.support.layouts import LayoutMaker, digest_of, make_tar
from tests.support.machine import needs, run

AMD64 = Platform("amd64", "linux")
LAYER = make_tar({"etc/hello": b"hello\n"})
BIG = make_tar({"big": os.urandom(1_500_000)})


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


def config_of(*layers: bytes, **more: Any) -> bytes:
    described = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        **more,
    }
    return json.dumps(described).encode()


def docker_save(files: Mapping[str, bytes], **image: Any) -> bytes:
    return make_tar({**files, "manifest.json": json.dumps([image]).encode()})


def tar_of(folder: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.add(path, str(path.relative_to(folder)), recursive=False)
    return out.getvalue()


def read(data: bytes, blobs: BlobStore, platform: Platform = AMD64) -> list[Loaded]:
    return load(io.BytesIO(data), blobs, platform, "x.tar")


def manifest(loaded: Loaded, blobs: BlobStore) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(blobs.read(Digest(loaded.descriptor.digest), 10_000))
    return found


def test_an_old_docker_archive_is_loaded(blobs: BlobStore) -> None:
    config = config_of(LAYER, BIG)
    archive = docker_save(
        {"aa/layer.tar": LAYER, "bb/layer.tar": BIG, "c.json": config, "repositories": b"{}"},
        Config="c.json", RepoTags=["app:1.0", "host.x/app:2"], Layers=["aa/layer.tar", "bb/layer.tar"],
    )  # fmt: skip

    (loaded,) = read(archive, blobs)

    assert [name.familiar() for name in loaded.names] == ["app:1.0", "host.x/app:2"]
    made = manifest(loaded, blobs)
    assert made["config"]["digest"] == digest_of(config), "the id of the image stays"
    assert [layer["digest"] for layer in made["layers"]] == [digest_of(LAYER), digest_of(BIG)]
    assert {layer["mediaType"] for layer in made["layers"]} == {spec.OCI_LAYER}
    for layer in made["layers"]:
        blobs.verify(layer["digest"])


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_compressed_archive_is_loaded(blobs: BlobStore, pack: Any) -> None:
    archive = docker_save({"l": LAYER, "c": config_of(LAYER)}, Config="c", RepoTags=None, Layers=["l"])

    (loaded,) = read(pack(archive), blobs)

    assert loaded.names == ()


def test_compressed_layers_keep_their_compression(blobs: BlobStore) -> None:
    archive = docker_save({"l": gzip.compress(LAYER), "c": config_of(LAYER)}, Config="c", Layers=["l"])

    (loaded,) = read(archive, blobs)

    assert manifest(loaded, blobs)["layers"][0]["mediaType"] == spec.OCI_LAYER_GZIP


def test_linked_layers_are_found(blobs: BlobStore) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in (("aa/layer.tar", LAYER), ("c", config_of(LAYER, LAYER, LAYER))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, kind, target in (("bb/layer.tar", tarfile.SYMTYPE, "../aa/layer.tar"),
                                   ("cc/layer.tar", tarfile.LNKTYPE, "aa/layer.tar")):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
        listed = json.dumps(
            [{"Config": "c", "Layers": ["aa/layer.tar", "bb/layer.tar", "cc/layer.tar"]}]
        ).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(listed)
        archive.addfile(info, io.BytesIO(listed))

    (loaded,) = read(out.getvalue(), blobs)

    assert [layer["digest"] for layer in manifest(loaded, blobs)["layers"]] == [digest_of(LAYER)] * 3


def test_an_oci_archive_is_loaded_for_this_platform(tmp_path: Path, blobs: BlobStore) -> None:
    layout = LayoutMaker(tmp_path / "layout")
    wanted = layout.image([{"a": b"amd64"}])
    layout.index({"linux/arm64": layout.image(platform="linux/arm64"), "linux/amd64": wanted}, tag="app:1.0")
    single = layout.image([{"b": b""}], tag="2.0")

    first, second = read(tar_of(layout.folder), blobs)

    assert first.descriptor.digest == wanted["digest"]
    assert [name.familiar() for name in first.names] == ["app:1.0"]
    assert (second.descriptor.digest, second.names) == (single["digest"], ())
    with pytest.raises(ImageError, match="no image for linux/s390x") as caught:
        read(tar_of(layout.folder), blobs, Platform("s390x", "linux"))
    assert "linux/arm64, linux/amd64" in (caught.value.hint or "")


def oci_archive(tmp_path: Path, change: Any) -> bytes:
    layout = LayoutMaker(tmp_path / "layout")
    row = layout.image(tag="a:1")
    change(layout, row)
    return tar_of(layout.folder)


def corrupt(layout: LayoutMaker, row: dict[str, Any]) -> None:
    layout.path(layout.manifest(row)["layers"][0]["digest"]).write_bytes(b"other")


def lose(layout: LayoutMaker, row: dict[str, Any]) -> None:
    layout.path(layout.manifest(row)["config"]["digest"]).unlink()


@pytest.mark.parametrize(("change", "message"), [(corrupt, "is damaged"), (lose, "lacks blobs/sha256")])
def test_a_broken_oci_archive_is_refused(tmp_path: Path, blobs: BlobStore, change: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read(oci_archive(tmp_path, change), blobs)


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (b"", "neither index.json nor manifest.json|damaged"),
        (b"no tar at all" * 100, "damaged"),
        (make_tar({"x": b""}), "neither index.json nor manifest.json"),
        (make_tar({"manifest.json": b"{"}), "manifest.json of x.tar is not valid"),
        (make_tar({"manifest.json": b"[]"}), "has no images"),
        (make_tar({"manifest.json": b'[{"Config":"../../etc/x","Layers":[]}]'}), "lacks ../../etc/x"),
        (docker_save({"l": LAYER, "c": config_of(BIG)}, Config="c", Layers=["l"]), "is damaged"),
        (docker_save({"l": LAYER, "c": config_of()}, Config="c", Layers=["l"]), "1 layers, and its config 0"),
        (docker_save({"l": LAYER, "c": b"{}"}, Config="c", Layers=["l"]), "not valid"),
        (docker_save({"l": LAYER, "c": config_of(LAYER)}, Config="c", Layers=["l"], RepoTags=["A B"]), "A B"),
        (docker_save({"l": LAYER, "c": config_of(LAYER)}, Config="c", Layers=["l"], RepoTags=["sha256:abcd"]),
         "how an id is written"),
        (make_tar({"index.json": b'{"manifests":[]}'}), "schema version|no images|not valid"),
    ],
)  # fmt: skip
def test_hostile_archives_are_refused(blobs: BlobStore, archive: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read(archive, blobs)


def test_a_digest_is_no_tag_of_a_repository(blobs: BlobStore) -> None:
    tags = ["h.x/app@sha256:" + "0" * 64, "h.x/app:1@sha256:" + "0" * 64]
    (loaded,) = read(
        docker_save({"l": LAYER, "c": config_of(LAYER)}, Config="c", Layers=["l"], RepoTags=tags), blobs
    )

    assert [str(name) for name in loaded.names] == ["h.x/app:1"]


def test_skopeos_folders_are_told_from_archives(blobs: BlobStore) -> None:
    with pytest.raises(ImageError, match="not valid") as caught:
        read(make_tar({"manifest.json": b'{"schemaVersion": 2, "layers": []}'}), blobs)

    assert caught.value.hint is not None
    assert "skopeo copy dir:" in caught.value.hint


def test_links_that_go_round_are_refused(blobs: BlobStore) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, target in (("index.json", "b"), ("b", "index.json")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)

    with pytest.raises(ImageError, match="round in a circle"):
        read(out.getvalue(), blobs)


@pytest.mark.peers
@needs("skopeo")
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_what_skopeo_writes_is_loaded(tmp_path: Path, blobs: BlobStore, kind: str) -> None:
    layout = LayoutMaker(tmp_path / "layout")
    row = layout.image([{"a": b"1"}, {"b": b"2"}], tag="x")
    run(
        ["skopeo", "copy", f"oci:{layout.folder}:x", f"{kind}:{tmp_path / 'a.tar'}:docker.io/library/app:1.0"]
    )

    (loaded,) = read((tmp_path / "a.tar").read_bytes(), blobs)

    assert [name.familiar() for name in loaded.names] == ["app:1.0"]
    config = json.loads(blobs.read(manifest(loaded, blobs)["config"]["digest"], 10_000))
    assert (
        config["rootfs"]
        == json.loads(layout.path(layout.manifest(row)["config"]["digest"]).read_bytes())["rootfs"]
    )
