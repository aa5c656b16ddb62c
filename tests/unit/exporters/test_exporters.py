"""Outputs are whole or not there, and say of the image what the image is."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import tarfile
import threading
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from builder import digest as digests
from builder import memo
from builder.digest import of_bytes
from builder.errors import BuildError, UsageError
from builder.exporters import Export, docker, local, oci, parse, tar
from builder.exporters.merged import Merged
from builder.images import inspect, load
from builder.oci import spec
from builder.oci.finished import Finished
from builder.oci.image import assemble, index_of
from builder.oci.layout import Layout, LayoutName
from builder.oci.spec import Descriptor, History, ImageConfig, LayerBlob, Platform, RunConfig
from builder.request import OutputSpec
from builder.snapshots.snapshot import FILE, FOLDER, SYMLINK, WHITEOUT, Entry, LayerId
from builder.snapshots.tree import Tree
from builder.solver.cache import Cache
from builder.store.root import Store, open_store
from tests.support.layouts import make_tar
from tests.support.machine import needs, run

AMD64 = Platform("amd64", "linux")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def image(store: Store) -> Finished:
    layer = make_tar({"etc/hello": b"hello\n", "big": os.urandom(700_000)})
    blob = store.blobs.put(layer)
    config = ImageConfig("amd64", "linux", config=RunConfig(cmd=("sh",), env=("A=1",)))
    described = LayerBlob(Descriptor(spec.OCI_LAYER, blob, len(layer)), blob, len(layer))
    history = [History(created_by="x")] * 2
    return assemble(config, [described, described], history, "2024-01-01T00:00:00Z").finished()


def output(kind: str, dest: Path | str, *tags: str, **attrs: str) -> Export:
    return parse(OutputSpec(type=kind, dest=str(dest), attrs=attrs), tags)


def test_an_oci_archive_is_a_layout(tmp_path: Path, store: Store, image: Finished) -> None:
    dest = tmp_path / "out.tar"

    oci.export(image, store.blobs, output("oci", dest, "app:1.0", "host.x/app"))

    with tarfile.open(dest) as archive:
        names = archive.getnames()
    (tmp_path / "x").mkdir()
    run(["tar", "-xf", dest, "-C", tmp_path / "x"])
    assert names[:2] == ["blobs", "blobs/sha256"]
    assert len(names) == len(set(names))
    layout = Layout(tmp_path / "x")
    (found,) = layout.find(LayoutName(tmp_path / "x", "1.0"))
    assert found.digest == image.digest
    assert layout.read(found, 10_000) == image.manifest_bytes
    assert [entry.annotations for entry in layout.index.manifests] == [
        {
            spec.REF_NAME: "1.0",
            spec.IMAGE_NAME: "docker.io/library/app:1.0",
            oci.CREATED: image.created,
        },
        {spec.REF_NAME: "latest", spec.IMAGE_NAME: "host.x/app:latest", oci.CREATED: image.created},
    ]


def test_an_archive_depends_on_the_image_alone(tmp_path: Path, store: Store, image: Finished) -> None:
    for name in ("one", "two"):
        oci.export(image, store.blobs, output("oci", tmp_path / name, "app:1.0"))

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_docker_archive_has_both_kinds_of_index(tmp_path: Path, store: Store, image: Finished) -> None:
    dest = tmp_path / "out.tar"

    docker.export(image, store.blobs, output("docker", dest, "app:1.0"))

    with tarfile.open(dest) as archive:
        (listed,) = json.load(archive.extractfile("manifest.json") or io.BytesIO())
        assert listed["RepoTags"] == ["app:1.0"]
        assert len(listed["Layers"]) == 2
        config = archive.extractfile(listed["Config"])
        assert config is not None
        assert config.read() == image.config_bytes
        assert "index.json" in archive.getnames()


@pytest.mark.parametrize(("kind", "exporter"), [("oci", oci), ("docker", docker)])
def test_what_is_exported_can_be_loaded(
    tmp_path: Path, store: Store, image: Finished, kind: str, exporter: object
) -> None:
    exporter.export(image, store.blobs, output(kind, tmp_path / "a.tar", "app:1.0"))  # type: ignore[attr-defined]
    other = open_store(tmp_path / "other")

    (loaded,) = load(other, str(tmp_path / "a.tar"), AMD64)

    assert loaded.names == ("app:1.0",)
    assert loaded.digest == image.digest
    assert inspect(other, "app:1.0")["Id"] == image.config


def test_an_index_is_exported_with_all_that_it_lists(tmp_path: Path, store: Store, image: Finished) -> None:
    other = assemble(ImageConfig("arm64", "linux"), [], [], "2024-01-01T00:00:00Z").finished()
    index = index_of([image, other])

    oci.export(index, store.blobs, output("oci", tmp_path / "layout", "app:1", tar="false"))

    layout = Layout(tmp_path / "layout")
    assert [entry.digest for entry in layout.index.manifests] == [index.digest]
    assert {f"sha256:{path.name}" for path in (tmp_path / "layout/blobs/sha256").iterdir()} == {
        *index.documents(), *image.layers
    }  # fmt: skip


def test_an_index_is_remembered_as_it_was(store: Store, image: Finished) -> None:
    index = index_of([image, assemble(ImageConfig("arm64", "linux"), [], [], "").finished()])
    cache, name = Cache(os.path.join(store.folder, "cache"), lambda _snapshot: True), of_bytes(b"name")

    memo.save_image(cache, name, index)
    found = memo.load_image(cache, name)

    assert found is not None
    assert (found.row, found.size, found.documents()) == (index.row, index.size, index.documents())
    assert [child.layers for child in found.children] == [image.layers, ()]


def test_a_folder_layout_is_added_to(tmp_path: Path, store: Store, image: Finished) -> None:
    dest = tmp_path / "layout"
    other = assemble(ImageConfig("amd64", "linux"), [], [], "2025-01-01T00:00:00Z").finished()

    oci.export(image, store.blobs, output("oci", dest, "app:1", tar="false"))
    oci.export(other, store.blobs, output("oci", dest, "app:2", tar="false"))
    oci.export(other, store.blobs, output("oci", dest, "app:1", tar="false"))

    layout = Layout(dest)
    assert sorted(e.annotations[spec.REF_NAME] for e in layout.index.manifests) == ["1", "2"]
    assert layout.find(LayoutName(dest, "1"))[0].digest == other.digest
    for path in (dest / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_two_builds_that_add_to_a_folder_lose_no_name(
    tmp_path: Path, store: Store, image: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(name: str) -> None:
        oci.export(image, store.blobs, output("oci", tmp_path / "layout", name, tar="false"))

    other = threading.Thread(target=export, args=("two:1",))
    kept = oci._kept

    def add_beside(*args: Any) -> list[Any]:
        rows = kept(*args)
        if other.ident is None:
            other.start()
            other.join(0.2)  # where nothing holds it, it is done by then
        return rows

    monkeypatch.setattr(oci, "_kept", add_beside)
    export("one:1")
    other.join()

    index = json.loads((tmp_path / "layout/index.json").read_bytes())
    names = [entry["annotations"][spec.IMAGE_NAME] for entry in index["manifests"]]
    assert names == ["docker.io/library/one:1", "docker.io/library/two:1"]


def test_a_folder_of_a_file_system_without_locks_is_written_all_the_same(
    tmp_path: Path, store: Store, image: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    oci.export(image, store.blobs, output("oci", tmp_path / "layout", "app:1", tar="false"))

    assert (tmp_path / "layout/index.json").exists()


def test_a_failed_export_leaves_what_was_there(tmp_path: Path, store: Store, image: Finished) -> None:
    dest = tmp_path / "out.tar"
    dest.write_text("precious")
    store.blobs.remove(digests.parse(image.layers[0]))

    with pytest.raises(BuildError, match="is not in the store"):
        oci.export(image, store.blobs, output("oci", dest))

    assert dest.read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["out.tar", "store"]


def test_a_device_or_fifo_is_written_to_and_stays(tmp_path: Path, store: Store, image: Finished) -> None:
    device = os.stat("/dev/null")

    oci.export(image, store.blobs, output("oci", "/dev/null"))

    assert os.path.samestat(os.stat("/dev/null"), device)


def test_a_symlink_to_a_file_stays_one(tmp_path: Path, store: Store, image: Finished) -> None:
    (tmp_path / "link.tar").symlink_to("real.tar")

    oci.export(image, store.blobs, output("oci", tmp_path / "link.tar"))

    assert (tmp_path / "link.tar").is_symlink()
    assert tarfile.is_tarfile(tmp_path / "real.tar")


def test_destinations_that_cannot_be_written_are_told(tmp_path: Path, store: Store, image: Finished) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        oci.export(image, store.blobs, output("oci", tmp_path))
    with pytest.raises(BuildError, match="no such file or directory"):
        oci.export(image, store.blobs, output("oci", tmp_path / "no" / "where.tar"))
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match=r"not a directory|file exists"):
        oci.export(image, store.blobs, output("oci", tmp_path / "file", tar="false"))


# ── trees ────────────────────────────────────────────────────────────────────────────────────────────────

LOWER, UPPER = LayerId("lower"), LayerId("upper")


def make_tree() -> Tree:
    """Two layers: of three names of one file the first is gone; a folder and a link in the upper one."""
    lower = [
        Entry(".", FOLDER, 0o755),
        Entry("a", FILE, 0o640, 5, 6, size=5, mtime=10**9),
        Entry("b", FILE, 0o640, 5, 6, size=5, mtime=10**9, hardlink="a"),
        Entry("etc", FOLDER, 0o750, 7, 8, mtime=2 * 10**9),
        Entry("etc/c", FILE, 0o640, 5, 6, size=5, mtime=10**9, hardlink="a"),
    ]
    upper = [Entry("a", WHITEOUT), Entry("etc/link", SYMLINK, 0o777, link="/b"), Entry("new", FILE, size=3)]
    return Tree().plus(LOWER, lower).plus(UPPER, upper)


def opened(layer: LayerId, entry: Entry) -> BinaryIO:
    return io.BytesIO({(LOWER, "a"): b"inner", (UPPER, "new"): b"new"}[layer, entry.path])


def test_hard_links_survive_the_loss_of_their_first_name() -> None:
    tree = make_tree()

    merged = Merged(tree, opened)

    links = {entry.path: entry.hardlink for entry in merged.entries if entry.kind == FILE}
    assert links == {"b": None, "etc/c": "b", "new": None}
    assert merged.content(next(e for e in merged.entries if e.path == "b")).read() == b"inner"


def test_a_tar_has_the_merged_tree(tmp_path: Path) -> None:
    tree = make_tree()

    tar.export(Merged(tree, opened), output("tar", tmp_path / "out.tar"))

    with tarfile.open(tmp_path / "out.tar") as archive:
        members = {member.name: member for member in archive}
        assert list(members) == ["b", "etc", "etc/c", "etc/link", "new"]
        assert members["b"].mode == 0o640
        assert (members["etc"].uid, members["etc"].gid, members["etc"].mtime) == (7, 8, 2)
        assert members["etc/c"].islnk()
        content = archive.extractfile("etc/c")
        assert content is not None
        assert content.read() == b"inner"


def test_a_folder_has_the_merged_tree_and_keeps_what_it_had(tmp_path: Path) -> None:
    tree = make_tree()
    dest = tmp_path / "out"
    (dest / "etc").mkdir(parents=True)
    (dest / "etc" / "mine").write_text("mine")
    (dest / "b").write_text("old")
    dest.chmod(0o711)

    local.export(Merged(tree, opened), output("local", dest))

    assert (dest / "b").read_text() == "inner"
    assert (dest / "b").stat().st_ino == (dest / "etc" / "c").stat().st_ino
    assert (dest / "etc" / "mine").read_text() == "mine"
    assert os.readlink(dest / "etc" / "link") == "/b"
    assert dest.stat().st_mode & 0o777 == 0o711
    assert (dest / "etc").stat().st_uid == os.geteuid()


def test_nothing_is_written_through_a_symlink_in_the_folder(tmp_path: Path) -> None:
    tree = make_tree()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    dest = tmp_path / "out"
    dest.mkdir()
    (dest / "etc").symlink_to(outside)
    (dest / "new").symlink_to(outside / "victim")

    local.export(Merged(tree, opened), output("local", dest))

    assert sorted(os.listdir(outside)) == ["victim"]
    assert (outside / "victim").read_text() == "untouched"
    assert (dest / "etc" / "c").read_text() == "inner"


# ── peers ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.peers
@needs("skopeo")
@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_skopeo_reads_the_archives(tmp_path: Path, store: Store, image: Finished, kind: str) -> None:
    exporter = {"oci": oci, "docker": docker}[kind]
    dest = tmp_path / "a.tar"

    exporter.export(image, store.blobs, output(kind, dest, "app:1.0"))

    config = json.loads(run(["skopeo", "inspect", "--config", f"{kind}-archive:{dest}"]).stdout)
    assert config["config"]["Env"] == ["A=1"]
    run(["skopeo", "copy", f"{kind}-archive:{dest}", f"oci:{tmp_path / 'copied'}:x"])


@pytest.mark.peers
@pytest.mark.root
@needs("umoci")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: umoci sets owners")
def test_umoci_unpacks_the_layout(tmp_path: Path, store: Store, image: Finished) -> None:
    oci.export(image, store.blobs, output("oci", tmp_path / "layout", "app:1.0", tar="false"))

    run(["umoci", "unpack", "--image", f"{tmp_path / 'layout'}:1.0", tmp_path / "bundle"])

    assert (tmp_path / "bundle" / "rootfs" / "etc" / "hello").read_text() == "hello\n"
