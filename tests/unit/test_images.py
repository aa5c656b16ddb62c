"""The store's images as people see and change them."""

from __future__ import annotations

import builtins
import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from builder import images
from builder.digest import Digest
from builder.errors import ImageError, StoreError, UsageError
from builder.oci import reference
from builder.oci.names import Names
from builder.oci.spec import Platform
from builder.room import removal
from builder.store import locks
from builder.store.root import Store, open_store
from tests.support.layouts import LayoutMaker, Row, make_tar


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def add(store: Store, layout: LayoutMaker, row: Row, *names: str) -> Row:
    for path in layout.blobs.iterdir():
        store.blobs.put(path.read_bytes())
    Names(store).add(row, [reference.parse(name) for name in names])
    return row


def test_images_are_listed_newest_first(store: Store, layout: LayoutMaker) -> None:
    old = layout.image([{"a": b"1"}], config={"created": "2020-01-01T00:00:00Z"})
    new = layout.image([{"b": b"2"}], config={"created": "2024-01-01T00:00:00Z"}, platform="linux/arm/v7")
    add(store, layout, old, "app:1.0")
    add(store, layout, new, "app:2.0", "host.x:5000/web")
    add(store, layout, layout.image([{"c": b"3"}]))

    listed = images.list_images(store)

    assert [image.name for image in listed] == ["app:2.0", "host.x:5000/web:latest", "app:1.0", None]
    assert (listed[1].repository, listed[1].tag) == ("host.x:5000/web", "latest")
    assert listed[0].platform == "linux/arm/v7"
    assert listed[0].digest == new["digest"]
    assert listed[0].id == layout.manifest(new)["config"]["digest"]
    manifest = layout.manifest(old)
    assert listed[2].size == manifest["config"]["size"] + manifest["layers"][0]["size"]
    assert [image.name for image in images.list_images(store, "app")] == ["app:2.0", "app:1.0"]
    assert [image.name for image in images.list_images(store, "app:1.0")] == ["app:1.0"]


def test_a_damaged_image_is_listed_as_such(store: Store, layout: LayoutMaker) -> None:
    row = add(store, layout, layout.image(), "app")
    store.blobs.remove(Digest(row["digest"]))

    (listed,) = images.list_images(store)

    assert (listed.name, listed.damaged, listed.id) == ("app:latest", True, "")


def test_an_image_is_found_by_name_id_and_digest(store: Store, layout: LayoutMaker) -> None:
    row = add(store, layout, layout.image(), "docker.io/library/app:1.0")
    image_id = layout.manifest(row)["config"]["digest"]

    for text in (
        "app:1.0",
        f"app@{row['digest']}",
        image_id,
        image_id[7:19],
        row["digest"],
        row["digest"][7:20],
    ):
        assert images.find(store, text)[0]["digest"] == row["digest"], text


def test_an_image_that_is_not_there_names_the_nearest(store: Store, layout: LayoutMaker) -> None:
    add(store, layout, layout.image(), "myapp:1.0")

    with pytest.raises(ImageError, match=r"image myap:1\.0 is not in the store") as caught:
        images.find(store, "myap:1.0")
    with pytest.raises(ImageError, match="must be in lower case"):
        images.find(store, "MyApp")

    assert caught.value.hint == "did you mean myapp:1.0?"


def test_an_image_gets_more_names(store: Store, layout: LayoutMaker) -> None:
    add(store, layout, layout.image(), "app")

    images.tag(store, "app", ["app:2", "h.x/app"])

    assert {image.name for image in images.list_images(store)} == {"app:latest", "app:2", "h.x/app:latest"}
    with pytest.raises(UsageError, match="cannot be given as a name"):
        images.tag(store, "app", [f"x@sha256:{'1' * 64}"])
    with pytest.raises(UsageError, match="lower case"):
        images.tag(store, "app", ["APP"])


def test_inspect_tells_what_docker_tells(store: Store, layout: LayoutMaker) -> None:
    row = add(store, layout, layout.image(User="me", Labels={"a": "b"}), "app:1.0", "h.x/app:2")
    layout_manifest = layout.manifest(row)

    told = images.inspect(store, "app:1.0")

    assert told["Id"] == layout_manifest["config"]["digest"]
    assert told["RepoTags"] == ["app:1.0", "h.x/app:2"]
    assert told["RepoDigests"] == [f"app@{row['digest']}", f"h.x/app@{row['digest']}"]
    assert told["Config"]["User"] == "me"
    assert told["Config"]["Cmd"] == ["/bin/sh"]
    assert told["Config"]["Entrypoint"] is None
    assert told["RootFS"]["Type"] == "layers"
    assert len(told["RootFS"]["Layers"]) == 1
    assert (told["Os"], told["Architecture"]) == ("linux", "amd64")
    json.dumps(told)


def test_history_is_told_newest_first(store: Store, layout: LayoutMaker) -> None:
    history = [{"created_by": "base"}, {"created_by": "ENV a", "empty_layer": True}, {"created_by": "RUN b"}]
    row = add(store, layout, layout.image([{"1": b""}, {"2": b"22"}], config={"history": history}), "app")
    sizes = [layer["size"] for layer in layout.manifest(row)["layers"]]

    told = images.history(store, "app")

    assert [line["CreatedBy"] for line in told] == ["RUN b", "ENV a", "base"]
    assert [line["Size"] for line in told] == [sizes[1], 0, sizes[0]]
    assert told[0]["Tags"] == ["app:latest"]
    assert told[1]["Id"] == "<missing>"


def test_removing_the_last_name_removes_what_nobody_else_needs(store: Store, layout: LayoutMaker) -> None:
    shared = {"shared": b"layer"}
    kept = add(store, layout, layout.image([shared]), "kept")
    gone = add(store, layout, layout.image([shared, {"own": b"layer"}]), "gone", "also")

    assert images.remove(store, ["also"]) == [{"Untagged": "also:latest"}]
    done = images.remove(store, ["gone"])

    assert done[:2] == [{"Untagged": "gone:latest"}, {"Deleted": gone["digest"]}]
    assert len(done) == 4, "manifest, config and one layer"
    assert images.inspect(store, "kept")
    for layer in layout.manifest(kept)["layers"]:
        store.blobs.verify(layer["digest"])
    assert store.blobs.stat(Digest(gone["digest"])) is None


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_what_an_image_needs_stays_where_the_image_cannot_be_read_now(
    store: Store, layout: LayoutMaker, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """No open files left, say: that it needs nothing would be a guess."""
    shared, other = {"shared": b"s"}, {"other": b"o"}
    kept = add(store, layout, layout.image([shared], tag="kept"), "kept")
    add(store, layout, layout.image([shared, other], tag="gone"), "gone")
    before = set(store.blobs.digests())

    def refuse(path: str, *words: object, **more: object) -> object:
        if isinstance(path, str) and path.endswith(kept["digest"][7:]):
            raise OSError(number, os.strerror(number), path)
        return opening(path, *words, **more)

    opening = builtins.open
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", refuse)
        with pytest.raises(StoreError):
            images.remove(store, ["gone"])
        with pytest.raises(StoreError):
            removal.remove(store, lambda _world: [], {})

    assert set(store.blobs.digests()) == before


def test_an_id_with_several_names_needs_force(store: Store, layout: LayoutMaker) -> None:
    row = add(store, layout, layout.image(), "a", "b")
    short = row["digest"][7:19]

    with pytest.raises(ImageError, match="has several names: a:latest, b:latest"):
        images.remove(store, [short])
    done = images.remove(store, [short], force=True)

    assert done[:2] == [{"Untagged": "a:latest"}, {"Untagged": "b:latest"}]
    assert images.list_images(store) == []


@pytest.fixture
def two_forms(store: Store, layout: LayoutMaker) -> tuple[Row, Row]:
    """The same image with its layer compressed, as `app:1`, and as it is, without a name."""
    packed = layout.image([{"a": b"1"}])
    manifest = layout.manifest(packed)
    manifest["layers"] = [layout.blob(make_tar({"a": b"1"}), "application/vnd.oci.image.layer.v1.tar")]
    plain = layout.document(manifest, packed["mediaType"])
    add(store, layout, plain)
    return add(store, layout, packed, "app:1"), plain


def test_an_id_that_came_in_two_forms_is_one_image(
    store: Store, layout: LayoutMaker, two_forms: tuple[Row, Row]
) -> None:
    packed, _ = two_forms
    ident = layout.manifest(packed)["config"]["digest"]

    for text in (ident, ident[7:19], ident[7:11]):
        assert images.inspect(store, text)["Descriptor"]["digest"] == packed["digest"]
    done = images.remove(store, [ident])

    assert done[0] == {"Untagged": "app:1"}
    assert images.list_images(store) == []
    assert list(store.blobs.digests()) == []


def test_the_beginning_of_two_ids_is_told(store: Store, layout: LayoutMaker) -> None:
    names = Names(store)
    for byte in "12":
        names.add({"mediaType": "x", "digest": f"sha256:abcd{byte * 60}", "size": 1})

    with pytest.raises(ImageError, match="id abcd is the beginning of 2 images"):
        images.inspect(store, "abcd")


def test_what_a_removed_name_meant_is_not_remembered(store: Store, layout: LayoutMaker) -> None:
    row = add(store, layout, layout.image(), "h.x/app:1")
    names = Names(store)
    for platform in ("linux/amd64", "linux/arm64"):
        names.remember("h.x/app:1", platform, row)

    done = images.remove(store, ["h.x/app:1"])

    assert done[:2] == [{"Untagged": "h.x/app:1"}, {"Deleted": row["digest"]}]
    assert names.recall("h.x/app:1", "linux/amd64") is None
    assert list(store.blobs.digests()) == []


def test_of_a_name_that_is_not_the_last_only_what_it_meant_before_goes(
    store: Store, layout: LayoutMaker
) -> None:
    old = layout.image([{"old": b""}])
    row = add(store, layout, layout.image(), "h.x/app:1", "other")
    Names(store).remember("h.x/app:1", "linux/amd64", old)

    done = images.remove(store, ["h.x/app:1"])

    assert done[0] == {"Untagged": "h.x/app:1"}
    assert {"Deleted": old["digest"]} in done
    assert {"Deleted": row["digest"]} not in done
    assert images.inspect(store, "other")["RepoTags"] == ["other:latest"]


def test_an_image_without_a_tag_is_known_by_its_repository_and_digest(
    store: Store, layout: LayoutMaker
) -> None:
    row = layout.image()
    name = f"h.x/app@{row['digest']}"
    add(store, layout, row, name)

    (listed,) = images.list_images(store)
    assert (listed.name, listed.repository, listed.tag) == (name, "h.x/app", None)
    for truth in ("true", "false"):  # docker lists it either way
        assert images.list_images(store, conditions=[("dangling", truth)]) == [listed]
    told = images.inspect(store, name)
    assert (told["RepoTags"], told["RepoDigests"]) == ([], [name])
    assert images.remove(store, [f"h.x/app:gone@{row['digest']}"])[0] == {"Untagged": name}
    assert images.list_images(store) == []


def test_with_the_last_tag_of_a_repository_its_digest_goes(store: Store, layout: LayoutMaker) -> None:
    row = layout.image()
    name = f"h.x/app@{row['digest']}"
    add(store, layout, row, name, "h.x/app:1", "h.x/app:2", "other")

    assert [image.name for image in images.list_images(store)] == ["h.x/app:1", "h.x/app:2", "other:latest"]
    assert images.remove(store, [name]) == [{"Untagged": name}]
    add(store, layout, row, name)
    assert images.remove(store, ["h.x/app:1"]) == [{"Untagged": "h.x/app:1"}]
    assert images.remove(store, ["h.x/app:2"]) == [{"Untagged": "h.x/app:2"}, {"Untagged": name}]
    assert [image.name for image in images.list_images(store)] == ["other:latest"]


@pytest.mark.parametrize("name", ["sha256", "sha256:abcd", "docker.io/library/sha256:1"])
def test_no_image_is_called_like_a_digest(store: Store, layout: LayoutMaker, name: str) -> None:
    add(store, layout, layout.image(), "app")

    with pytest.raises(UsageError, match="would be read as a digest"):
        images.tag(store, "app", [name])


def test_no_name_hides_an_id(store: Store, layout: LayoutMaker) -> None:
    row = add(store, layout, layout.image([{"real": b""}]))
    add(store, layout, layout.image([{"other": b""}]), row["digest"])  # as it could not be given

    assert images.inspect(store, row["digest"])["Descriptor"]["digest"] == row["digest"]


def test_while_a_build_runs_blobs_stay(store: Store, layout: LayoutMaker) -> None:
    row = add(store, layout, layout.image(), "app")

    with locks.shared(store.folder, locks.BUILDS):
        images.remove(store, ["app"])

    assert images.list_images(store) == []
    assert store.blobs.stat(Digest(row["digest"])) is not None


def test_a_remembered_base_image_is_forgotten(store: Store, layout: LayoutMaker) -> None:
    row = layout.image()
    for path in layout.blobs.iterdir():
        store.blobs.put(path.read_bytes())
    Names(store).remember("h.x/base:1", "linux/amd64", row)

    done = images.remove(store, ["h.x/base:1"])

    assert done[:2] == [{"Untagged": "h.x/base:1"}, {"Deleted": row["digest"]}]
    assert list(store.blobs.digests()) == []


def test_an_archive_that_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read: no such file"):
        images.load(store, str(tmp_path / "none.tar"), Platform("amd64", "linux"))
    (tmp_path / "x.tar").write_bytes(make_tar({"x": b""}))
    with pytest.raises(ImageError, match="is no image archive"):
        images.load(store, str(tmp_path / "x.tar"), Platform("amd64", "linux"))


def test_an_image_that_gets_a_name_while_it_loses_its_last_stays_whole(
    store: Store, layout: LayoutMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = add(store, layout, layout.image([{"f": b"1"}]), "app:1")
    named = Names.add

    def remove_first(self: Names, row: Row, names: Sequence[reference.Reference] = ()) -> None:
        monkeypatch.setattr(Names, "add", named)
        images.remove(open_store(store.folder), ["app:1"])
        named(self, row, names)

    monkeypatch.setattr(Names, "add", remove_first)
    images.tag(store, "app:1", ["web:1"])

    assert [entry["digest"] for entry in Names(store).rows()] == [row["digest"]]
    assert images.inspect(store, "web:1")["RepoTags"] == ["web:1"]
