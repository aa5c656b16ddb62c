"""Base images out of a real registry: over HTTP and HTTPS, in good order and damaged."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.compiler.program import BaseImage, ImageRequest
from builder.digest import Digest
from builder.errors import ImageError
from builder.oci import reference
from builder.oci.spec import Platform
from builder.ops.source import Image
from builder.sources.image import ImageSource
from builder.sources.known import state_of
from builder.store.root import Store, open_store
from tests.support.layouts import LayoutMaker, Row
from tests.support.machine import needs
from tests.support.registry import RunningRegistry, free_port, running_registry

pytestmark = [pytest.mark.peers, needs("docker-registry", "skopeo", "openssl")]

AMD64 = Platform("amd64", "linux")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def locator(registry: RunningRegistry, name: str) -> str:
    return str(reference.parse(f"{registry.host}/{name}"))


async def resolve(store: Store, where: str, platform: Platform = AMD64, *, pull: bool = False) -> BaseImage:
    source = ImageSource(store, {}, pull=pull)
    try:
        return await source.resolve(ImageRequest(where, platform))
    finally:
        await source.close()


async def pull_all(store: Store, where: str) -> list[tuple[str, int, int]]:
    """Resolve and fetch all layers at once; what was told of the progress."""
    told: list[tuple[str, int, int]] = []
    source = ImageSource(store, {})
    try:
        base = await source.resolve(ImageRequest(where, AMD64))
        op = Image(where, base.digest)
        contents = await source.contents(op)
        async with asyncio.TaskGroup() as group:
            for blob in contents.layers:
                group.create_task(source.fetch(op, blob.descriptor, lambda *args: told.append(args)))
    finally:
        await source.close()
    return told


def push(registry: RunningRegistry, layout: LayoutMaker, row: Row, name: str) -> None:
    tag = f"pushed-{len(layout.entries)}"
    layout.name(row, tag)
    registry.push(layout.folder, tag, name)


async def test_an_image_comes_whole_over_http(
    registry: RunningRegistry, layout: LayoutMaker, store: Store
) -> None:
    big = os.urandom(3_000_000)
    row = layout.image([{"a": b"1"}, {"big": big}], User="me")
    push(registry, layout, row, "team/app:1.0")

    told = await pull_all(store, locator(registry, "team/app:1.0"))

    base = await resolve(store, locator(registry, "team/app:1.0"))
    assert base.digest == row["digest"]
    assert base.config.config.user == "me"
    for layer in layout.manifest(row)["layers"]:
        assert store.blobs.stat(Digest(layer["digest"])) == layer["size"]
        store.blobs.verify(Digest(layer["digest"]))
        assert (layer["digest"][7:19], layer["size"], layer["size"]) in told


async def test_a_reference_that_was_resolved_needs_no_network(
    registry: RunningRegistry, layout: LayoutMaker, store: Store
) -> None:
    push(registry, layout, layout.image(tag=None), "once:1")
    where = locator(registry, "once:1")
    first = await resolve(store, where)
    push(registry, layout, layout.image([{"new": b"2"}]), "once:1")

    again = await resolve(store, where)
    pulled = await resolve(store, where, pull=True)

    assert again.digest == first.digest
    assert pulled.digest != first.digest
    assert state_of(store.folder, where, "linux/amd64", {}) == f"remembered {pulled.digest}"


async def test_the_platform_is_chosen_from_an_index_with_variants(
    registry: RunningRegistry, layout: LayoutMaker, store: Store
) -> None:
    rows = {
        platform: layout.image([{"arch": platform.encode()}], platform=platform)
        for platform in ("linux/amd64", "linux/arm/v6", "linux/arm64")
    }
    push(registry, layout, layout.index(rows), "many:1")
    where = locator(registry, "many:1")

    assert (await resolve(store, where)).digest == rows["linux/amd64"]["digest"]
    arm = await resolve(store, where, Platform("arm", "linux", "v7"))
    assert arm.digest == rows["linux/arm/v6"]["digest"]
    with pytest.raises(ImageError, match="not there for linux/s390x") as caught:
        await resolve(store, where, Platform("s390x", "linux"))
    assert "linux/amd64, linux/arm/v6, linux/arm64" in (caught.value.hint or "")


async def test_an_only_image_is_taken_whatever_its_platform(
    registry: RunningRegistry, layout: LayoutMaker, store: Store
) -> None:
    push(registry, layout, layout.image(platform="linux/arm64"), "single:1")  # a check tells of it

    base = await resolve(store, locator(registry, "single:1"), AMD64)

    assert base.config.architecture == "arm64"


async def test_a_pinned_digest_is_what_comes(
    registry: RunningRegistry, layout: LayoutMaker, store: Store
) -> None:
    row = layout.image([{"pin": b"1"}])
    push(registry, layout, row, "pinned:1")
    where = str(reference.parse(f"{registry.host}/pinned@{row['digest']}"))

    assert (await resolve(store, where)).digest == row["digest"]
    assert (await resolve(store, where, pull=True)).digest == row["digest"]


async def test_https_needs_a_certificate_that_is_trusted(
    tmp_path: Path, layout: LayoutMaker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_registry(tmp_path / "tls", tls=True) as registry:
        row = layout.image()
        push(registry, layout, row, "safe:1")

        with pytest.raises(ImageError, match=r"certificate of registry .* is not trusted") as caught:
            await resolve(store, locator(registry, "safe:1"))
        monkeypatch.setenv("SSL_CERT_FILE", str(registry.ca))
        base = await resolve(store, locator(registry, "safe:1"))

    assert "SSL_CERT_FILE" in (caught.value.hint or "")
    assert base.digest == row["digest"]


async def test_a_tag_that_is_not_there_names_the_nearest(
    registry: RunningRegistry, layout: LayoutMaker, store: Store
) -> None:
    push(registry, layout, layout.image(), "debian:12-slim")

    with pytest.raises(ImageError, match=r"debian:12-slm is not in registry") as caught:
        await resolve(store, locator(registry, "debian:12-slm"))

    assert caught.value.code == "image-not-found"
    assert "debian:12-slim" in (caught.value.hint or "")


async def test_a_repository_that_is_not_there(registry: RunningRegistry, store: Store) -> None:
    with pytest.raises(ImageError, match="no/such:1 is not in registry"):
        await resolve(store, locator(registry, "no/such:1"))


async def test_nobody_listens(store: Store) -> None:
    with pytest.raises(ImageError, match="refuses the connection"):
        await resolve(store, f"127.0.0.1:{free_port()}/a:1")


async def test_a_name_that_does_not_resolve(store: Store) -> None:
    with pytest.raises(ImageError, match=r"cannot be found|does not answer|proxy"):
        await resolve(store, "registry.invalid/a:1")


async def test_a_blob_with_other_bytes_is_refused(
    registry: RunningRegistry, layout: LayoutMaker, store: Store
) -> None:
    row = layout.image([{"file": b"good bytes"}])
    push(registry, layout, row, "flipped:1")
    blob = registry.blob(layout.manifest(row)["layers"][0]["digest"])
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)

    with pytest.raises(ExceptionGroup) as caught:
        await pull_all(store, locator(registry, "flipped:1"))

    (error,) = caught.value.exceptions
    assert isinstance(error, ImageError)
    assert "is damaged" in error.message
    assert os.listdir(os.path.join(store.folder, "ingest")) == []


async def test_a_blob_that_is_shorter_is_refused(
    registry: RunningRegistry, layout: LayoutMaker, store: Store
) -> None:
    row = layout.image([{"file": os.urandom(100_000)}])
    push(registry, layout, row, "short:1")
    blob = registry.blob(layout.manifest(row)["layers"][0]["digest"])
    blob.write_bytes(blob.read_bytes()[:50_000])

    with pytest.raises(ExceptionGroup) as caught:
        await pull_all(store, locator(registry, "short:1"))

    assert "50000" in str(caught.value.exceptions[0])


async def test_a_manifest_with_other_bytes_is_refused(
    registry: RunningRegistry, layout: LayoutMaker, store: Store
) -> None:
    row = layout.image([{"file": b"manifest"}])
    push(registry, layout, row, "odd:1")
    path = registry.blob(row["digest"])
    path.write_bytes(path.read_bytes().replace(b'"size"', b'"size" ', 1))

    with pytest.raises(ImageError, match=r"digest|registry"):
        await resolve(store, locator(registry, "odd:1"))


async def test_two_sources_at_once_fetch_a_blob_once(
    registry: RunningRegistry, layout: LayoutMaker, store: Store
) -> None:
    row = layout.image([{"big": os.urandom(5_000_000)}])
    push(registry, layout, row, "shared:1")
    where = locator(registry, "shared:1")

    told = await asyncio.gather(pull_all(store, where), pull_all(store, where))

    assert sum(bool(progress) for progress in told) == 1
