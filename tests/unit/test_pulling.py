"""Layers of base images that are unpacked while they come, and what becomes of bad ones."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from builder import stop
from builder.digest import of_bytes, parse
from builder.errors import ImageError
from builder.oci import layer, spec
from builder.oci.compressed import Compression
from builder.oci.spec import LayerBlob
from builder.parts import Parts
from builder.pulling import bring_layer
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import FILE, Entry
from builder.snapshots.workers import Workers
from builder.store.blobs import Ingest
from builder.store.growing import Growing
from builder.store.root import Store, open_store

OPENED: list[LayerStore] = []
FIRST, LAST = os.urandom(3 << 20), os.urandom(1 << 20)
Bring = Callable[[Ingest, Growing | None], Awaitable[None]]


class Images:
    """Brings a blob as a test wants it."""

    def __init__(self, store: Store, bring: Bring) -> None:
        self.store = store
        self.bring = bring

    async def fetch(
        self, op: object, descriptor: spec.Descriptor, progress: object, growing: Growing
    ) -> None:
        with self.store.blobs.ingest() as ingest:
            await self.bring(ingest, growing)
            ingest.commit(expected=parse(descriptor.digest))
        growing.end()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture(params=["threads", "processes"])
def pool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadPoolExecutor]:
    """Threads, and layers that are unpacked by them or by processes."""
    monkeypatch.setattr(Workers, "are_worth", lambda *_: request.param == "processes")
    with ThreadPoolExecutor(2) as pool:
        yield pool
    for layers in OPENED:
        layers.close()
    OPENED.clear()


def a_layer() -> tuple[bytes, LayerBlob]:
    content = {"a": FIRST, "z": LAST}
    entries = [Entry(name, FILE, 0o644, size=len(data)) for name, data in content.items()]
    out = io.BytesIO()
    blob = layer.pack(
        entries, lambda entry: io.BytesIO(content[entry.path]), layer.Counted(out), Compression("gzip")
    )
    return out.getvalue(), blob


def parts_with(store: Store, pool: ThreadPoolExecutor, bring: Bring) -> tuple[Parts, LayerStore]:
    layers = LayerStore(Path(store.folder, "layers"), store.blobs)
    OPENED.append(layers)

    async def thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await stop.in_thread(pool, partial(function, *args, **kwargs))

    parts = SimpleNamespace(images=Images(store, bring), layers=layers, unpackers=pool, thread=thread)
    return cast(Parts, parts), layers


async def bring(parts: Parts, blob: LayerBlob) -> str:
    return await bring_layer(parts, cast(Any, None), blob, lambda *_: None, unpacked=True)


def left(store: Store) -> list[str]:
    return os.listdir(Path(store.folder, "ingest")) + os.listdir(Path(store.folder, "layers"))


def give(ingest: Ingest, growing: Growing | None, data: bytes) -> None:
    if growing is not None and not ingest.size:
        growing.begin(ingest.fileno())
    ingest.write(data)
    if growing is not None:
        growing.note(ingest.size)


async def test_a_layer_is_unpacked_while_its_bytes_still_come(store: Store, pool: ThreadPoolExecutor) -> None:
    data, blob = a_layer()

    async def slowly(ingest: Ingest, growing: Growing | None) -> None:
        give(ingest, growing, data[: len(data) - 1000])
        async with asyncio.timeout(60):
            while not list(Path(store.folder, "ingest").glob("*/layer/tree*/a")):  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.01)
        assert os.listdir(Path(store.folder, "layers")) == []
        give(ingest, growing, data[len(data) - 1000 :])

    parts, layers = parts_with(store, pool, slowly)
    made = await bring(parts, blob)

    assert [entry.path for entry in layers.entries(cast(Any, made))] == ["a", "z"]
    assert Path(layers.unpacked(cast(Any, made)), "z").read_bytes() == LAST
    assert layers.blob(cast(Any, made), Compression()) == layers.blob(cast(Any, made), Compression("zstd"))
    assert left(store) == [made]


async def test_a_blob_that_is_not_the_right_one_leaves_nothing(
    store: Store, pool: ThreadPoolExecutor
) -> None:
    data, blob = a_layer()

    async def wrong(ingest: Ingest, growing: Growing | None) -> None:
        give(ingest, growing, data)
        raise ImageError("the blob is damaged", code="wrong-digest")

    parts, _ = parts_with(store, pool, wrong)
    with pytest.raises(ImageError, match="the blob is damaged"):
        await bring(parts, blob)

    assert left(store) == []


async def test_a_blob_that_holds_another_tar_is_told_once_and_is_no_layer(
    store: Store, pool: ThreadPoolExecutor
) -> None:
    data, blob = a_layer()
    other = LayerBlob(blob.descriptor, of_bytes(b"something else"), 0)

    async def whole(ingest: Ingest, growing: Growing | None) -> None:
        give(ingest, growing, data)

    parts, _ = parts_with(store, pool, whole)
    with pytest.raises(ImageError, match="is not what its image says"):
        await bring(parts, other)

    assert left(store) == []


async def test_a_blob_that_is_no_archive_is_told_of_its_layer(store: Store, pool: ThreadPoolExecutor) -> None:
    data = os.urandom(100_000)
    blob = LayerBlob(spec.Descriptor(spec.OCI_LAYER_GZIP, of_bytes(data), len(data)), of_bytes(b"x"), 0)

    async def whole(ingest: Ingest, growing: Growing | None) -> None:
        give(ingest, growing, data)

    parts, _ = parts_with(store, pool, whole)
    with pytest.raises(ImageError) as raised:
        await bring(parts, blob)

    assert blob.descriptor.digest in raised.value.message
    assert left(store) == []


async def test_a_transfer_that_begins_anew_gives_the_same_layer(
    store: Store, pool: ThreadPoolExecutor
) -> None:
    data, blob = a_layer()

    async def twice(ingest: Ingest, growing: Growing | None) -> None:
        give(ingest, growing, b"\x1f\x8b\x08 of another layer")
        ingest.restart()
        give(ingest, growing, data)

    parts, layers = parts_with(store, pool, twice)
    made = await bring(parts, blob)

    assert Path(layers.unpacked(cast(Any, made)), "a").read_bytes() == FIRST
    assert left(store) == [made]


async def test_cancelled_it_leaves_nothing_and_nobody_waiting(store: Store, pool: ThreadPoolExecutor) -> None:
    data, blob = a_layer()
    half_way = asyncio.Event()

    async def without_end(ingest: Ingest, growing: Growing | None) -> None:
        give(ingest, growing, data[: len(data) // 2])
        half_way.set()
        await asyncio.Event().wait()

    parts, _ = parts_with(store, pool, without_end)
    task = asyncio.create_task(bring(parts, blob))
    await half_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert left(store) == []


async def test_a_layer_that_is_there_is_not_made_again(store: Store, pool: ThreadPoolExecutor) -> None:
    data, blob = a_layer()

    async def whole(ingest: Ingest, growing: Growing | None) -> None:
        give(ingest, growing, data)

    parts, _ = parts_with(store, pool, whole)

    assert await bring(parts, blob) == await bring(parts, blob)
