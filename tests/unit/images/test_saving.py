"""Archives that are saved hold what was asked for, and give it back."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from builder import images
from builder.errors import BuildError, ImageError
from builder.images.saving import save
from builder.oci import spec
from builder.oci.archive import SMALL
from builder.oci.names import Names
from builder.oci.spec import Platform
from builder.store.root import Store, open_store
from tests.support.archives import add_image, documents_of, members_of
from tests.support.layouts import LayoutMaker, Row

NOBODY = 1 << 22  # the number of no process: it is the kernel's highest bound for them


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def several(store: Store, layout: LayoutMaker) -> Row:
    """multi:1 for two platforms, with an attestation."""
    rows = {
        "linux/amd64": layout.image([{"a": b"1"}], platform="linux/amd64"),
        "linux/arm64": layout.image([{"a": b"1"}, {"b": b"2"}], platform="linux/arm64"),
        "unknown/unknown": layout.image([{"s": b"{}"}], platform="unknown/unknown"),
    }
    return add_image(store, layout, layout.index(rows), "multi:1")


def names_in(store: Store) -> list[str | None]:
    return sorted((image.name for image in images.list_images(store)), key=str)


def test_what_a_killed_load_left_is_swept_by_the_next(
    store: Store, layout: LayoutMaker, tmp_path: Path
) -> None:
    add_image(store, layout, layout.image([{"1": b"x"}]), "app:1")
    save(store, ["app:1"], str(tmp_path / "app.tar"))
    left = store.root / f"ingest/blob-{NOBODY}-0123456789abcdef"
    left.write_bytes(b"half of a layer")

    images.load(store, str(tmp_path / "app.tar"))

    assert list(left.parent.iterdir()) == []


def test_an_archive_that_cannot_be_read_is_named(store: Store) -> None:
    with pytest.raises(ImageError, match=r"^/proc/self/mem cannot be read: input/output error"):
        images.load(store, "/proc/self/mem")


def test_several_images_go_into_one_archive_and_come_back(
    store: Store, layout: LayoutMaker, tmp_path: Path
) -> None:
    shared = {"shared": b"layer"}
    add_image(store, layout, layout.image([shared, {"1": b"x"}]), "app:1", "h.x/team/app:stable")
    add_image(store, layout, layout.image([shared]), "other")
    archive, copy = tmp_path / "all.tar", open_store(tmp_path / "copy")

    save(store, ["app:1", "other", "h.x/team/app:stable"], str(archive))
    loaded = images.load(copy, str(archive))

    assert [image.names for image in loaded] == [("app:1", "h.x/team/app:stable"), ("other:latest",)]
    assert names_in(copy) == names_in(store) == ["app:1", "h.x/team/app:stable", "other:latest"]
    assert set(copy.blobs.digests()) == set(store.blobs.digests())
    with tarfile.open(archive) as tar:
        members = tar.getnames()
    assert len(members) == len(set(members)), "a blob that two images share is there once"


def test_the_archive_tells_docker_and_oci_readers_the_same(
    store: Store, layout: LayoutMaker, tmp_path: Path
) -> None:
    row = add_image(store, layout, layout.image(), "app:1", "h.x/app:2")
    save(store, ["app:1", "h.x/app:2"], str(tmp_path / "a.tar"))

    index, docker = documents_of(tmp_path / "a.tar")

    assert [entry["annotations"][spec.IMAGE_NAME] for entry in index] == [
        "docker.io/library/app:1",
        "h.x/app:2",
    ]
    assert {entry["digest"] for entry in index} == {row["digest"]}
    (listed,) = docker
    assert listed["RepoTags"] == ["app:1", "h.x/app:2"]
    assert {listed["Config"], *listed["Layers"]} < set(members_of(tmp_path / "a.tar"))


def test_the_same_images_make_the_same_archive(store: Store, layout: LayoutMaker, tmp_path: Path) -> None:
    add_image(store, layout, layout.image(), "app:1")
    for name in ("1.tar", "2.tar"):
        save(store, ["app:1"], str(tmp_path / name))

    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_a_repository_stands_for_all_its_tags_and_an_id_for_no_name(
    store: Store, layout: LayoutMaker, tmp_path: Path
) -> None:
    one = add_image(store, layout, layout.image([{"1": b""}]), "app:1")
    add_image(store, layout, layout.image([{"2": b""}]), "app:2", "apple:1")
    config = layout.manifest(one)["config"]["digest"]

    save(store, ["app"], str(tmp_path / "all.tar"))
    save(store, [config[7:19]], str(tmp_path / "one.tar"))

    assert [each["RepoTags"] for each in documents_of(tmp_path / "all.tar")[1]] == [["app:1"], ["app:2"]]
    assert [each["RepoTags"] for each in documents_of(tmp_path / "one.tar")[1]] == [[]]


def test_a_digest_is_no_name_in_an_archive(store: Store, layout: LayoutMaker, tmp_path: Path) -> None:
    row = layout.image()
    name = f"h.x/app@{row['digest']}"
    add_image(store, layout, row, name)
    for number, text in enumerate((name, "h.x/app")):
        copy = open_store(tmp_path / f"copy {number}")

        save(store, [text], str(tmp_path / "all.tar"))

        assert [image.names for image in images.load(copy, str(tmp_path / "all.tar"))] == [()]
        with tarfile.open(tmp_path / "all.tar") as tar:
            member = tar.extractfile("manifest.json")
            assert member is not None
            listed = json.load(member)
        assert listed[0]["RepoTags"] == []


def test_a_name_by_digest_is_loaded_only_for_the_image_of_that_digest(
    store: Store, layout: LayoutMaker
) -> None:
    row, other = layout.image([{"a": b""}]), layout.image([{"b": b""}])
    name = f"h.x/app@{row['digest']}"
    for entry in (row, other):
        layout.name(entry, "1", **{spec.IMAGE_NAME: name})

    loaded = images.load(store, str(layout.folder))

    assert [(image.digest, image.names) for image in loaded] == [
        (row["digest"], (name,)),
        (other["digest"], ()),
    ]


def test_an_image_of_several_platforms_is_saved_whole(store: Store, several: Row, tmp_path: Path) -> None:
    archive, copy = tmp_path / "multi.tar", open_store(tmp_path / "copy")

    save(store, ["multi:1"], str(archive))
    (loaded,) = images.load(copy, str(archive))

    assert (loaded.names, loaded.digest, loaded.id) == (("multi:1",), several["digest"], several["digest"])
    assert Names(copy).rows()[0]["digest"] == several["digest"]
    assert set(copy.blobs.digests()) == set(store.blobs.digests())
    (listed,) = documents_of(archive)[1]
    assert listed["RepoTags"] == ["multi:1"], "older readers have one of its images"


def test_a_platform_alone_is_saved_and_loaded(store: Store, several: Row, tmp_path: Path) -> None:
    arm = Platform("arm64", "linux")
    whole, alone = tmp_path / "whole.tar", tmp_path / "alone.tar"
    save(store, ["multi:1"], str(whole))
    save(store, ["multi:1"], str(alone), arm)
    by_saving, by_loading = open_store(tmp_path / "a"), open_store(tmp_path / "b")

    images.load(by_saving, str(alone))
    images.load(by_loading, str(whole), arm)

    for copy in (by_saving, by_loading):
        (listed,) = images.list_images(copy)
        assert (listed.name, listed.platform) == ("multi:1", "linux/arm64")
    for archive in (alone, whole):
        with pytest.raises(ImageError, match="has no image for linux/s390x"):
            images.load(by_saving, str(archive), Platform("s390x", "linux"))
    with pytest.raises(ImageError, match="not in the store for linux/s390x"):
        save(store, ["multi:1"], str(alone), Platform("s390x", "linux"))


def test_what_of_an_index_is_not_there_is_left_out(
    store: Store, several: Row, layout: LayoutMaker, tmp_path: Path
) -> None:
    amd, arm, _ = layout.manifest(several)["manifests"]
    store.blobs.remove(amd["digest"])
    copy = open_store(tmp_path / "copy")

    save(store, ["multi:1"], str(tmp_path / "rest.tar"))
    (loaded,) = images.load(copy, str(tmp_path / "rest.tar"))

    assert loaded.digest == arm["digest"], "of an index with one image left, that image is the one"


def test_an_image_without_its_layers_is_not_saved(store: Store, layout: LayoutMaker, tmp_path: Path) -> None:
    row = add_image(store, layout, layout.image(), "app:1")
    store.blobs.remove(layout.manifest(row)["layers"][0]["digest"])

    with pytest.raises(ImageError, match="of app:1 is not in the store") as caught:
        save(store, ["app:1"], str(tmp_path / "app.tar"))

    assert caught.value.hint is not None
    assert not (tmp_path / "app.tar").exists()


def test_what_was_in_the_file_stays_where_saving_fails(
    store: Store, layout: LayoutMaker, tmp_path: Path
) -> None:
    row = add_image(store, layout, layout.image(), "app:1")
    layer = layout.manifest(row)["layers"][0]
    path = Path(store.folder, "blobs", "sha256", layer["digest"][7:])
    path.chmod(0o600)
    path.write_bytes(bytes(layer["size"]))
    path.chmod(0o400)  # as a blob that is believed
    (tmp_path / "app.tar").write_text("earlier")

    with pytest.raises(BuildError, match="damaged"):
        save(open_store(store.folder), ["app:1"], str(tmp_path / "app.tar"))

    assert (tmp_path / "app.tar").read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.glob("app.tar*")) == ["app.tar"]


def test_a_layouts_folder_is_loaded_and_nothing_else_is(
    store: Store, layout: LayoutMaker, tmp_path: Path
) -> None:
    row = layout.image([{"a": b"1"}])
    layout.name(row, "1", **{spec.IMAGE_NAME: "docker.io/library/app:1"})
    other = tmp_path / "other"
    other.mkdir()
    (other / "secret").write_bytes(bytes(SMALL + 1))

    (loaded,) = images.load(store, str(layout.folder))

    assert (loaded.names, loaded.digest) == (("app:1",), row["digest"])
    before = set(store.blobs.digests())
    with pytest.raises(ImageError, match="is no image archive"):
        images.load(store, str(other))
    assert set(store.blobs.digests()) == before


def test_a_link_in_a_layouts_folder_is_not_followed(
    store: Store, layout: LayoutMaker, tmp_path: Path
) -> None:
    row = layout.image([{"a": b"1"}])
    layout.name(row, "1")
    layer = layout.path(layout.manifest(row)["layers"][0]["digest"])
    layer.rename(tmp_path / "outside")
    layer.symlink_to(tmp_path / "outside")

    with pytest.raises(ImageError, match="lacks blobs/sha256"):
        images.load(store, str(layout.folder))
