"""Base images from layouts and from the store itself, without any network."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from builder.compiler.program import ImageRequest
from builder.digest import Digest, of_bytes
from builder.errors import ImageError
from builder.oci import reference, spec
from builder.oci.layout import LayoutName
from builder.oci.names import Names
from builder.oci.registry import Fetched
from builder.oci.spec import Platform
from builder.ops.source import Image
from builder.sources.image import ImageSource
from builder.store.root import Store, open_store
from builder.text import Location, SourceText, Span
from tests.support.layouts import LayoutMaker

AMD64 = Platform("amd64", "linux")
BASE = ImageRequest("oci-layout://base", AMD64)


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def source(store: Store, layout: LayoutMaker, tag: str | None = None) -> ImageSource:
    return ImageSource(store, {"base": LayoutName(layout.folder, tag)})


async def test_a_layout_is_resolved_and_its_layers_come_when_asked_for(
    store: Store, layout: LayoutMaker
) -> None:
    row = layout.image([{"a": b"1"}, {"b": b"2"}], tag="latest", User="me")
    images = source(store, layout)

    base = await images.resolve(BASE)
    assert (base.digest, base.config.config.user) == (row["digest"], "me")
    assert len(list(store.blobs.digests())) == 2

    op = Image(BASE.locator, base.digest)
    contents = await images.contents(op)
    told: list[tuple[str, int, int]] = []
    await asyncio.gather(
        *(images.fetch(op, blob.descriptor, lambda *args: told.append(args)) for blob in contents.layers * 3)
    )

    assert [blob.diff_id for blob in contents.layers] == list(base.config.rootfs.diff_ids)
    assert len(told) == 2, "each layer is copied once"
    for blob in contents.layers:
        store.blobs.verify(Digest(blob.descriptor.digest))


async def test_several_platforms_under_one_tag_are_a_choice(store: Store, layout: LayoutMaker) -> None:
    rows = {name: layout.image([{name: b""}], platform=f"linux/{name}") for name in ("arm64", "amd64")}
    for name, row in rows.items():
        layout.name({**row, "platform": {"os": "linux", "architecture": name}}, "latest")

    assert (await source(store, layout).resolve(BASE)).digest == rows["amd64"]["digest"]


async def test_the_store_is_asked_before_the_network(store: Store, layout: LayoutMaker) -> None:
    row = layout.image(tag="x")
    for path in layout.blobs.iterdir():
        store.blobs.put(path.read_bytes())
    Names(store).add(
        {**row, "platform": {"os": "linux", "architecture": "amd64"}}, [reference.parse("app:1")]
    )
    pinned = f"docker.io/library/app@{row['digest']}"

    for locator in ("docker.io/library/app:1", pinned):
        base = await ImageSource(store, {}).resolve(ImageRequest(locator, AMD64))
        assert base.digest == row["digest"]


async def test_what_the_store_has_is_told_when_a_registry_does_not_help(
    store: Store, layout: LayoutMaker
) -> None:
    name = reference.parse("127.0.0.1:1/app:1.0")
    row = layout.image(tag="x")
    for path in layout.blobs.iterdir():
        store.blobs.put(path.read_bytes())
    Names(store).add(row, [name])

    with pytest.raises(ImageError, match="refuses") as mistyped:
        await ImageSource(store, {}).resolve(ImageRequest("127.0.0.1:1/app:1.1", AMD64))
    with pytest.raises(ImageError, match="refuses") as pulled:
        await ImageSource(store, {}, pull=True).resolve(ImageRequest(str(name), AMD64))

    assert mistyped.value.notes == ("the store has 127.0.0.1:1/app:1.0",)
    assert pulled.value.notes == ("without --pull, 127.0.0.1:1/app:1.0 would be taken from the store",)


async def test_errors_are_placed_where_the_image_is_asked_for(store: Store, layout: LayoutMaker) -> None:
    location = Location(SourceText("Dockerfile", "FROM base"), Span(1))

    with pytest.raises(ImageError, match="has no images") as caught:
        await source(store, layout).resolve(ImageRequest(BASE.locator, AMD64, location))

    assert caught.value.location == location


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
async def test_damage_in_a_layout_is_seen(store: Store, layout: LayoutMaker, what: str) -> None:
    row = layout.image(tag="latest")
    manifest = layout.manifest(row)
    digest = {"manifest": row, "config": manifest["config"], "layer": manifest["layers"][0]}[what]["digest"]
    layout.path(digest).write_bytes(layout.path(digest).read_bytes() + b" ")
    images = source(store, layout)

    async def pull() -> None:
        op = Image(BASE.locator, (await images.resolve(BASE)).digest)
        for blob in (await images.contents(op)).layers:
            await images.fetch(op, blob.descriptor, lambda *_: None)

    with pytest.raises(ImageError, match="is damaged"):
        await pull()

    assert store.blobs.stat(Digest(digest)) is None


async def test_a_manifest_that_was_lost_is_brought_again(store: Store, layout: LayoutMaker) -> None:
    layout.image(tag="latest")
    base = await source(store, layout).resolve(BASE)
    store.blobs.remove(base.digest)

    contents = await source(store, layout).contents(Image(BASE.locator, base.digest))

    assert len(contents.layers) == 1


async def test_an_index_that_holds_itself_in_depth_is_refused(store: Store, layout: LayoutMaker) -> None:
    row = layout.image()
    for _ in range(5):
        row = layout.index({"linux/amd64": row})
    layout.name(row, "latest")

    with pytest.raises(ImageError, match="index of indexes"):
        await source(store, layout).resolve(BASE)


async def test_a_download_that_is_cancelled_can_be_done_again(store: Store, layout: LayoutMaker) -> None:
    layout.image(tag="latest")
    images = source(store, layout)
    base = await images.resolve(BASE)
    op = Image(BASE.locator, base.digest)
    (blob,) = (await images.contents(op)).layers

    task = asyncio.create_task(images.fetch(op, blob.descriptor, lambda *_: None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await images.fetch(op, blob.descriptor, lambda *_: None)

    store.blobs.verify(Digest(blob.descriptor.digest))


class MovingTag:
    """A registry whose tag means the next index whenever it is asked for."""

    def __init__(self, *indexes: bytes) -> None:
        self.indexes = list(indexes)

    async def manifest(self, _name: reference.Reference) -> Fetched:
        data = self.indexes.pop(0)
        return Fetched(data, of_bytes(data), spec.OCI_INDEX)


async def test_all_platforms_are_of_one_answer_of_the_registry(
    store: Store, layout: LayoutMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexes = []
    for number in range(2):
        rows = {
            f"linux/{name}": layout.image([{name: bytes([number])}], platform=f"linux/{name}")
            for name in ("amd64", "arm64")
        }
        indexes.append(layout.path(layout.index(rows)["digest"]).read_bytes())
    for path in layout.blobs.iterdir():
        store.blobs.put(path.read_bytes())
    images = source(store, layout)
    registry = MovingTag(*indexes)
    monkeypatch.setattr(images, "_connect", lambda: registry)
    wanted = [
        ImageRequest("host.x/app:1", Platform(architecture, "linux")) for architecture in ("amd64", "arm64")
    ]

    found = await asyncio.gather(*map(images.resolve, wanted))

    first = msgspec.json.decode(indexes[0], type=spec.Index)
    assert [base.digest for base in found] == [child.digest for child in first.manifests]
    assert len(registry.indexes) == 1
    assert {base.named for base in found} == {of_bytes(indexes[0])}
    remembered = [await source(store, layout).resolve(request) for request in wanted]
    assert remembered == found, "the index is known without the registry, too"
