"""The images of an entry of the store: those of an index that are here, and the one for a platform."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.digest import Digest
from builder.errors import ImageError
from builder.oci.held import Held, choose_held, find_for, images_of
from builder.oci.spec import Platform
from builder.store.root import Store, open_store
from tests.support.layouts import LayoutMaker, Row

AMD64, ARM64, ARM = Platform("amd64", "linux"), Platform("arm64", "linux"), Platform("arm", "linux", "v7")


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def keep(store: Store, layout: LayoutMaker) -> None:
    for path in layout.blobs.iterdir():
        store.blobs.put(path.read_bytes())


def index_of(store: Store, layout: LayoutMaker, *platforms: str) -> Row:
    """An index of an image for each platform, and of an attestation."""
    images = {name: layout.image([{"of": name.encode()}], platform=name) for name in platforms}
    row = layout.index({**images, "unknown/unknown": layout.image([{"of": b"nothing"}])})
    keep(store, layout)
    return row


def platforms_of(images: list[Held]) -> list[str]:
    return [str(image.platform) for image in images]


def test_an_index_has_its_images_and_no_attestation(store: Store, layout: LayoutMaker) -> None:
    row = index_of(store, layout, "linux/arm64", "linux/amd64")

    assert platforms_of(images_of(store.blobs, row, "app")) == ["linux/arm64", "linux/amd64"]


def test_what_the_store_lacks_of_an_index_is_left_out(store: Store, layout: LayoutMaker) -> None:
    row = index_of(store, layout, "linux/arm64", "linux/amd64")
    first = images_of(store.blobs, row, "app")[0]
    store.blobs.remove(Digest(first.descriptor.digest))

    assert platforms_of(images_of(store.blobs, row, "app")) == ["linux/amd64"]


def test_a_single_image_is_all_there_is(store: Store, layout: LayoutMaker) -> None:
    row = layout.image([{"a": b"1"}], platform="linux/arm/v7")
    keep(store, layout)
    bare = {key: value for key, value in row.items() if key != "platform"}

    assert platforms_of(images_of(store.blobs, bare, "app")) == ["linux/arm/v7"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [(ARM64, "linux/arm64"), (ARM, "linux/arm/v6"), (None, "linux/amd64"), (Platform("386", "linux"), "")],
)
def test_the_image_that_fits_best_is_chosen(
    store: Store, layout: LayoutMaker, wanted: Platform | None, found: str
) -> None:
    images = images_of(
        store.blobs, index_of(store, layout, "linux/arm/v6", "linux/arm64", "linux/amd64"), "app"
    )

    if not found:
        with pytest.raises(ImageError, match="app is not in the store for linux/386") as caught:
            choose_held(images, wanted, AMD64, "app")
        assert caught.value.hint == "it is there for linux/arm/v6, linux/arm64, linux/amd64"
    else:
        assert str(choose_held(images, wanted, AMD64, "app").platform) == found


def test_where_this_machine_has_none_the_first_is_taken(store: Store, layout: LayoutMaker) -> None:
    images = images_of(store.blobs, index_of(store, layout, "linux/arm64", "linux/s390x"), "app")

    assert str(choose_held(images, None, AMD64, "app").platform) == "linux/arm64"
    assert find_for(images, AMD64) is None
    with pytest.raises(ImageError, match="has no image in the store"):
        choose_held([], None, AMD64, "app")
