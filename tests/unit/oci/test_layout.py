"""Foreign image layouts: which image a name means, and what is damaged."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from builder.digest import Digest, of_bytes
from builder.errors import ImageError
from builder.oci import spec
from builder.oci.layout import Layout, LayoutName, parse_layout_name
from builder.oci.spec import Descriptor
from builder.store.blobs import BlobStore, Ingest
from tests.support.layouts import LayoutMaker

D = of_bytes(b"")


@pytest.fixture
def maker(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


def find(maker: LayoutMaker, tag: str | None = None, digest: str | None = None) -> list[str]:
    name = LayoutName(maker.folder, tag, Digest(digest) if digest else None)
    return [descriptor.digest for descriptor in Layout(maker.folder).find(name)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oci-layout://dir", LayoutName(Path("dir"))),
        ("dir", LayoutName(Path("dir"))),
        ("oci-layout:///a/b:tag", LayoutName(Path("/a/b"), "tag")),
        (f"oci-layout:///a/b@{D}", LayoutName(Path("/a/b"), None, D)),
        (f"/a/b:tag@{D}", LayoutName(Path("/a/b"), "tag", D)),
        ("/a:b/c", LayoutName(Path("/a:b/c"))),
        ("./a@b", LayoutName(Path("a@b"))),
    ],
)
def test_a_layout_is_named_by_folder_tag_and_digest(text: str, expected: LayoutName) -> None:
    assert parse_layout_name(text) == expected


@pytest.mark.parametrize("text", ["oci-layout://", ":tag", "a:-", f"a@{D[:-1]}", f"@{D}"])
def test_odd_names_are_refused(text: str) -> None:
    with pytest.raises(ImageError):
        parse_layout_name(text)


def test_no_tag_means_latest(maker: LayoutMaker) -> None:
    maker.image([{"1": b""}], tag="1.0")
    latest = maker.image([{"2": b""}], tag="latest")

    assert find(maker) == [latest["digest"]]


def test_no_tag_means_the_only_image(maker: LayoutMaker) -> None:
    only = maker.image(tag="1.0")
    maker.name(only, "also")

    assert find(maker) == [only["digest"]]


def test_no_tag_and_several_images_lists_the_names(maker: LayoutMaker) -> None:
    maker.image([{"1": b""}], tag="1.0")
    maker.image([{"2": b""}], tag="2.0")

    with pytest.raises(ImageError, match="several images, and none is tagged latest") as caught:
        find(maker)

    assert caught.value.hint == "it has 1.0, 2.0"


def test_a_tag_is_found_in_every_tools_annotation(maker: LayoutMaker) -> None:
    rows = [maker.image([{str(number): b""}]) for number in range(3)]
    maker.name(rows[0], "plain")
    maker.name(rows[1], "app:inside")
    maker.name(rows[2], "x", **{spec.IMAGE_NAME: "docker.io/library/app:full"})

    assert find(maker, "plain") == [rows[0]["digest"]]
    assert find(maker, "inside") == [rows[1]["digest"]]
    assert find(maker, "full") == [rows[2]["digest"]]


def test_one_tag_on_several_images_is_an_error_that_names_them(maker: LayoutMaker) -> None:
    one, other = maker.image([{"1": b""}]), maker.image([{"2": b""}])
    maker.name(one, "a:1.0")
    maker.name(other, "b:1.0")

    with pytest.raises(ImageError, match=r"2 images tagged 1\.0") as caught:
        find(maker, "1.0")

    assert one["digest"] in (caught.value.hint or "")


def test_a_tag_that_is_not_there_lists_those_that_are(maker: LayoutMaker) -> None:
    maker.image(tag="1.0")

    with pytest.raises(ImageError, match=r"no image tagged 2\.0") as caught:
        find(maker, "2.0")

    assert caught.value.hint == "it has 1.0"


def test_a_digest_is_found_also_below_an_index(maker: LayoutMaker) -> None:
    inner = maker.image()
    index = maker.index({"linux/amd64": inner}, tag="x")

    assert find(maker, None, inner["digest"]) == [inner["digest"]]
    assert find(maker, None, index["digest"]) == [index["digest"]]
    with pytest.raises(ImageError, match="is not in the image layout"):
        find(maker, None, D)


def test_what_is_no_layout_is_told(tmp_path: Path, maker: LayoutMaker) -> None:
    with pytest.raises(ImageError, match="is not there"):
        Layout(tmp_path / "none")
    with pytest.raises(ImageError, match="no OCI image layout"):
        Layout(tmp_path)
    (maker.folder / "index.json").write_text('{"layers":[]}')
    with pytest.raises(ImageError, match="no image index"):
        Layout(maker.folder)
    (maker.folder / "index.json").unlink()
    with pytest.raises(ImageError, match=r"index\.json is missing"):
        Layout(maker.folder)


def test_an_empty_layout_is_told(maker: LayoutMaker) -> None:
    with pytest.raises(ImageError, match="has no images"):
        find(maker)


@pytest.mark.hostile("CVE-2023-25153")
def test_a_document_without_end_is_not_read_whole(maker: LayoutMaker) -> None:
    """The index, and a manifest whose size the index tells."""
    row = maker.image(tag="x")
    os.truncate(maker.path(row["digest"]), 64 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="has more than 1000 bytes"):
            Layout(maker.folder).read(Descriptor("", row["digest"], row["size"]), 1000)
        os.truncate(maker.folder / "index.json", 64 << 20)
        with pytest.raises(ImageError, match=r"index\.json has more than"):
            Layout(maker.folder)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_fifo_in_the_place_of_a_blob_does_not_hang(maker: LayoutMaker) -> None:
    row = maker.image(tag="x")
    maker.path(row["digest"]).unlink()
    os.mkfifo(maker.path(row["digest"]))

    with pytest.raises(ImageError, match="is no regular file"):
        Layout(maker.folder).read(Descriptor("", row["digest"], row["size"]), 1000)


@pytest.mark.hostile("layouts")
def test_no_link_leads_out_of_a_layout(maker: LayoutMaker, tmp_path: Path) -> None:
    """Neither a blob's nor that of the index; one that stays inside is a link like others."""
    row = maker.image(tag="x")
    wanted, blob = Descriptor("", row["digest"], row["size"]), maker.path(row["digest"])
    layout, outside = Layout(maker.folder), r"is a link that leads out of the layout|is missing"
    blob.rename(maker.folder / "aside")
    blob.symlink_to("../../aside")
    assert layout.read(wanted, 10_000)
    (maker.folder / "aside").rename(tmp_path / "outside")
    blob.unlink()
    for target in (tmp_path / "outside", "../../../outside"):
        blob.symlink_to(target)
        with pytest.raises(ImageError, match=outside):
            layout.read(wanted, 10_000)
        with pytest.raises(ImageError, match=outside):
            layout.copy(wanted, BlobStore(tmp_path / "store"))
        blob.unlink()
    (maker.folder / "index.json").rename(tmp_path / "index.json")
    (maker.folder / "index.json").symlink_to(tmp_path / "index.json")
    with pytest.raises(ImageError, match=r"index\.json is a link that leads out of the layout") as caught:
        Layout(maker.folder)
    assert "cp -rL" in (caught.value.hint or "")


@pytest.mark.hostile("layouts")
def test_of_a_blob_without_end_nothing_is_copied(maker: LayoutMaker, tmp_path: Path) -> None:
    class Unused(BlobStore):
        def ingest(self) -> Ingest:
            raise AssertionError("what is too long is not to be read")

    row = maker.image(tag="x")
    os.truncate(maker.path(row["digest"]), 1 << 43)

    with pytest.raises(ImageError, match="is damaged"):
        Layout(maker.folder).copy(Descriptor("", row["digest"], row["size"]), Unused(tmp_path / "store"))


def test_blobs_are_verified_on_the_way_out(maker: LayoutMaker, tmp_path: Path) -> None:
    row = maker.blob(b"right", "x")
    wanted = Descriptor("x", row["digest"], row["size"])
    blobs = BlobStore(tmp_path / "store")
    layout = Layout(maker.folder)
    layout.copy(wanted, blobs)
    blobs.verify(Digest(row["digest"]))

    maker.path(row["digest"]).write_bytes(b"wrong")

    with pytest.raises(ImageError, match="is damaged"):
        layout.read(wanted, 100)
    with pytest.raises(ImageError, match="is damaged"):
        layout.copy(wanted, BlobStore(tmp_path / "other"))
    with pytest.raises(ImageError, match="more than 3 bytes"):
        layout.read(wanted, 3)
    maker.path(row["digest"]).unlink()
    with pytest.raises(ImageError, match="is missing"):
        layout.copy(wanted, BlobStore(tmp_path / "other"))
