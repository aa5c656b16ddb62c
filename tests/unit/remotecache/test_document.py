"""What a cache says: written, read again, and read with suspicion."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.digest import Digest, of_value
from builder.errors import ImageError
from builder.graph.selection import Selection
from builder.oci.layout import LayoutName
from builder.oci.spec import OCI_LAYER_GZIP, Descriptor, LayerBlob
from builder.remotecache import document
from builder.remotecache.asking import read_caches
from builder.remotecache.document import CONFIG_TYPE, KeptMount, Writing, content_name, parse, time_name
from builder.remotecache.place import InFolder
from tests.support.layouts import digest_of
from tests.support.remotecaches import CacheFolder

Json = dict[str, Any]


def key(name: str) -> Digest:
    return of_value(name)


def layer(name: str) -> LayerBlob:
    return LayerBlob(Descriptor(OCI_LAYER_GZIP, key(f"blob {name}"), 10), key(f"diff {name}"), 20)


A, B, C = layer("a"), layer("b"), layer("c")
MOUNT = LayerBlob(Descriptor(document.MOUNT_TYPE + "+gzip", key("mount"), 5), key("mount diff"), 6)


def written() -> Writing:
    """Two records on a common layer, one of them long; a selection, a time and a cache mount."""
    writing = Writing()
    writing.add(key("one"), [writing.place(A), writing.place(B)], 1.5)
    writing.add(key("two"), [writing.place(A), writing.place(C), writing.place(B)], 0.25)
    writing.contents[content_name(key("one"), Selection(("/x",)))] = key("content")
    writing.times[time_name(key("one"), key("config"))] = "2026-01-01T00:00:00Z"
    writing.mounts.append(KeptMount("pkg", [0o700, 1, 2], writing.place(MOUNT)))
    return writing


def descriptors(writing: Writing) -> list[Descriptor]:
    return [blob.descriptor for blob in writing.blobs]


def test_what_is_written_is_read() -> None:
    writing = written()

    cache = parse(writing.encode(), descriptors(writing), "c")

    assert cache.snapshot(key("one")) == (A, B)
    assert cache.snapshot(key("two")) == (A, C, B)
    assert cache.snapshot(key("none")) is None
    assert (cache.seconds(key("two")), cache.seconds(key("none"))) == (0.25, None)
    assert cache.content(key("one"), Selection(("/x",))) == key("content")
    assert cache.content(key("one"), Selection(("/y",))) is None
    assert cache.content(key("two"), Selection(("/x",))) is None
    assert cache.time(key("one"), key("config")) == "2026-01-01T00:00:00Z"
    assert [(mount.id, mount.start, cache.blob(mount.place)) for mount in cache.mounts] == [
        ("pkg", [0o700, 1, 2], MOUNT)
    ]


def test_the_same_is_written_as_the_same_bytes() -> None:
    assert written().encode() == written().encode()


def test_a_thousand_steps_on_one_another_take_a_thousand_links() -> None:
    writing = Writing()
    layers = [layer(str(number)) for number in range(1000)]
    for number in range(1000):
        writing.add(key(str(number)), [writing.place(one) for one in layers[: number + 1]], 0.0)

    found = json.loads(writing.encode())

    assert len(found["chains"]) == 1000
    cache = parse(writing.encode(), descriptors(writing), "c")
    assert cache.snapshot(key("999")) == tuple(layers)


def test_a_cache_in_an_image_speaks_of_the_images_layers() -> None:
    writing = Writing()
    writing.add(key("one"), [0, 1], 0.5)
    layers, diff_ids = [A.descriptor, B.descriptor], [A.diff_id, B.diff_id]

    cache = document.parse_inline(writing.encode(inline=True), layers, diff_ids, "c")

    found = cache.snapshot(key("one"))
    assert found is not None
    assert [(blob.descriptor, blob.diff_id) for blob in found] == list(zip(layers, diff_ids, strict=True))
    with pytest.raises(ImageError, match="layers of its own"):
        document.parse_inline(written().encode(), layers, diff_ids, "c")


async def test_a_folder_that_cannot_be_looked_into_is_an_error() -> None:
    with pytest.raises(ImageError, match="cannot be read: file name too long"):
        await read(CacheFolder(Path("/" + "x" * 300)))


# ── read with suspicion ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def cache(tmp_path: Path) -> CacheFolder:
    """A folder with a good cache."""
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    folder, writing = CacheFolder(tmp_path), written()
    data = writing.encode()
    config = {"mediaType": CONFIG_TYPE, **folder.put(data)}
    layers = [{"mediaType": d.media_type, "digest": d.digest, "size": d.size} for d in descriptors(writing)]
    row = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "annotations": {},
        "digest": "",
        "size": 0,
    }
    row["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (tmp_path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [row]}))
    folder.set_manifest({"schemaVersion": 2, "config": config, "layers": layers})
    return folder


async def read(cache: CacheFolder) -> list[document.Cache]:
    return await read_caches(InFolder(LayoutName(cache.folder, "latest")))


async def test_the_folder_is_good(cache: CacheFolder) -> None:
    (found,) = await read(cache)

    assert found.snapshot(key("one")) == (A, B)


async def test_the_images_of_an_index_may_each_have_a_cache(cache: CacheFolder) -> None:
    manifests = []
    for name, blob, config in (("x", A, True), ("y", B, True), ("z", C, False)):
        writing = Writing()
        writing.add(key(name), [0], 0.5)
        image = {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [blob.diff_id]},
        }
        found = json.loads(writing.encode(inline=True))
        data = json.dumps({**image, "org.pybuild.cache.v1": found} if config else image).encode()
        described = {"mediaType": "application/vnd.oci.image.config.v1+json", **cache.put(data)}
        row = {"mediaType": OCI_LAYER_GZIP, "digest": blob.descriptor.digest, "size": 10}
        manifest = json.dumps({"schemaVersion": 2, "config": described, "layers": [row]}).encode()
        manifests.append({"mediaType": "application/vnd.oci.image.manifest.v1+json", **cache.put(manifest)})
    index_of(cache, manifests)

    found_caches = await read(cache)

    assert [one.snapshot(key(name)) is not None for one, name in zip(found_caches, "xy", strict=True)] == [
        True,
        True,
    ]
    index_of(cache, manifests[2:])
    with pytest.raises(ImageError, match="is an image without a cache"):
        await read(cache)


def index_of(cache: CacheFolder, manifests: list[Json]) -> None:
    kind = "application/vnd.oci.image.index.v1+json"
    cache.set_manifest({"schemaVersion": 2, "mediaType": kind, "manifests": manifests})
    rows = cache.index
    rows["manifests"][0]["mediaType"] = kind
    (cache.folder / "index.json").write_text(json.dumps(rows))


def another(name: str) -> str:
    return str(of_value(["another", name]))


def set_key(document: Json, key: str) -> None:
    document["records"][key] = document["records"].pop(next(iter(document["records"])))


BROKEN: dict[str, Callable[[Json], object]] = {
    "format 2": lambda d: d.update(format=2),
    "no format": lambda d: d.pop("format"),
    "format of another type": lambda d: d.update(format="1"),
    "a key that is a path": lambda d: set_key(d, "../../../../etc/passwd"),
    "a key that is a digest and more": lambda d: set_key(d, f"sha256:{'a' * 64}/x"),
    "a diff id that is a path": lambda d: d["layers"].__setitem__(0, ["sha256:../../x", 1]),
    "a size below nothing": lambda d: d["layers"].__setitem__(0, [d["layers"][0][0], -1]),
    "a size beyond all": lambda d: d["layers"].__setitem__(0, [d["layers"][0][0], 1 << 63]),
    "a layer too few": lambda d: d["layers"].pop(),
    "a layer too many": lambda d: d["layers"].append(d["layers"][0]),
    "a chain onto itself": lambda d: d["chains"].__setitem__(0, [0, 0]),
    "a chain forward": lambda d: d["chains"].__setitem__(0, [1, 0]),
    "a chain too deep": lambda d: d.update(chains=[[number - 1, 0] for number in range(20_000)]),
    "a layer that is not there": lambda d: d["chains"].__setitem__(0, [-1, 99]),
    "a layer from the end": lambda d: d["chains"].__setitem__(0, [-1, -1]),
    "a record of nothing": lambda d: d["records"].update({another("x"): [99, 0.1]}),
    "seconds below nothing": lambda d: d["records"].update({another("x"): [0, -1.0]}),
    "endless seconds": lambda d: d["records"].update({another("x"): [0, 1e300]}),
    "contents that are no digest": lambda d: d["contents"].update({another("x"): "x"}),
    "a cache mount that is a layer": lambda d: d.update(mounts=[["pkg", [], 0]]),
    "a cache mount that is not there": lambda d: d.update(mounts=[["pkg", [], 99]]),
    "records that are a list": lambda d: d.update(records=[]),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_document_that_is_not_valid_is_refused_whole(cache: CacheFolder, name: str) -> None:
    cache.change(BROKEN[name])

    with pytest.raises(ImageError, match=f"the cache {cache.folder} (is not valid|has format 2)"):
        await read(cache)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"format":' + b"[" * 100_000,
        b'{"format":1e999}',
    ],
    ids=["empty", "cut", "a list", "null", "no text", "deep", "deep inside", "endless"],
)
@pytest.mark.parametrize("what", ["document", "manifest"])
async def test_what_is_no_document_is_refused(cache: CacheFolder, data: bytes, what: str) -> None:
    if what == "document":
        cache.set_document(data)
    else:
        cache.set_manifest(data)

    with pytest.raises(ImageError):
        await read(cache)


def huge(cache: CacheFolder) -> None:
    cache.change(lambda d: d.update(padding="x" * (9 << 20)))


def large_manifest(cache: CacheFolder) -> None:
    cache.set_manifest({**cache.manifest, "annotations": {"x": "x" * (5 << 20)}})


def wrong_size(cache: CacheFolder) -> None:
    manifest = cache.manifest
    manifest["config"]["size"] += 1
    cache.set_manifest(manifest)


def digest_as_path(cache: CacheFolder) -> None:
    manifest = cache.manifest
    manifest["layers"][0]["digest"] = "sha256:../../../../../../etc/passwd"
    cache.set_manifest(manifest)


def other_tool(cache: CacheFolder) -> None:
    manifest = cache.manifest
    manifest["config"]["mediaType"] = "application/vnd.buildkit.cacheconfig.v0"
    cache.set_manifest(manifest)


def index_of_itself(cache: CacheFolder) -> None:
    kind = "application/vnd.oci.image.index.v1+json"
    index_of(cache, [{"mediaType": kind, "digest": digest_of(b"x"), "size": 1}])


def no_document(cache: CacheFolder) -> None:
    cache.path(cache.manifest["config"]["digest"]).unlink()


def fifo(cache: CacheFolder) -> None:
    path = cache.path(cache.manifest["config"]["digest"])
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "spoil",
    [huge, large_manifest, wrong_size, digest_as_path, other_tool, index_of_itself, no_document, fifo],
)
async def test_a_cache_that_cannot_be_read_is_an_error(
    cache: CacheFolder, spoil: Callable[[CacheFolder], None]
) -> None:
    spoil(cache)

    with pytest.raises(ImageError):
        await read(cache)
