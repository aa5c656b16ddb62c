import io
import os
import subprocess
import sys
import threading

import pytest

from builder.errors import BuildError, ImageError, StoreError
from builder.oci import spec
from builder.oci.compressed import Compression
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import CHAR, FILE, FOLDER, OPAQUE, SYMLINK, WHITEOUT, Entry
from tests.support.layers import bytes_of, make_layer, open_layers, shape

GZIP = Compression()
ZSTD = Compression("zstd")


@pytest.fixture
def layers(tmp_path):
    return open_layers(tmp_path)


def nothing(entry):
    return io.BytesIO(b"")


def left_over(layers):
    return os.listdir(os.path.join(layers.store, "ingest")) + list(layers.all())


def read(layers, layer, path):
    (entry,) = [entry for entry in layers.entries(layer) if entry.path == path]
    with layers.open(layer, entry) as file:
        return file.read()


# ── making ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("unpacked", [True, False])
def test_a_layer_is_read_back_by_another_process(layers, tmp_path, unpacked):
    rows = [
        Entry("d", FOLDER, 0o750, mtime=7),
        Entry("d/f", FILE, 0o4755, size=5, mtime=-3),
        Entry("d/g", FILE, 0o4755, size=5, mtime=-3, hardlink="d/f"),
        Entry("e", FILE, 0o644),
        Entry("l", SYMLINK, 0o777, link="d/f"),
    ]

    layer = layers.create(rows, bytes_of({"d/f": b"hello"}), unpacked=unpacked)

    other = open_layers(tmp_path)
    found = other.entries(layer)
    assert [entry.replace(digest=None) for entry in found] == rows
    assert found[1].digest == found[2].digest == other.digest(layer, found[1])
    assert found[3].digest == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert read(other, layer, "d/g") == b"hello"
    assert other.exists((layer,))


def test_entries_come_in_order_whatever_order_they_were_given_in(layers):
    rows = [Entry("b", FOLDER), Entry("a-b", FOLDER), Entry("a/x", FOLDER), Entry("a", FOLDER)]

    layer = layers.create(rows, nothing, unpacked=True)

    assert [entry.path for entry in layers.entries(layer)] == ["a", "a/x", "a-b", "b"]


@pytest.mark.parametrize("unpacked", [True, False])
@pytest.mark.parametrize("data", [b"hellO", b"hell", b""])
def test_bytes_that_are_not_those_of_the_digest_leave_nothing(layers, unpacked, data):
    digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    rows = [Entry("a", FILE, size=5, digest=digest)]

    with pytest.raises(BuildError, match="'a' changed during the build") as caught:
        layers.create(rows, bytes_of({"a": data}), unpacked=unpacked)

    assert caught.value.code == "changed-during-build"
    assert left_over(layers) == []
    assert list(layers.blobs.digests()) == []


@pytest.mark.parametrize("unpacked", [True, False])
def test_a_file_that_cannot_be_opened_is_named(layers, unpacked):
    def refuse(entry):
        raise PermissionError(13, "Permission denied", entry.path)

    with pytest.raises(BuildError, match="cannot read 'a': permission denied"):
        layers.create([Entry("a", FILE, size=1)], refuse, unpacked=unpacked)

    assert left_over(layers) == []


def test_a_file_that_grew_is_taken_as_long_as_it_was(layers):
    layer = layers.create([Entry("a", FILE, 0o600, size=3)], bytes_of({"a": b"abcdef"}), unpacked=True)

    assert read(layers, layer, "a") == b"abc"


def test_ids_are_short_and_of_no_special_letters(layers):
    layer = make_layer(layers, {"a": b""})

    assert len(layer) == 16
    assert layer.isalnum()
    assert layer.islower() or layer.isdigit()


# ── what there is ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["", "nope", "../../etc", "a" * 16, "A" * 16, "aaaaaaaaaaaaaaa/"])
def test_what_is_no_layer_does_not_exist_and_is_an_error_to_read(layers, name):
    assert not layers.exists((name,))
    with pytest.raises(StoreError, match="no longer whole") as caught:
        layers.entries(name)
    assert caught.value.code == "layer-lost"


def test_a_snapshot_exists_if_all_its_layers_do(layers, tmp_path):
    one, two = make_layer(layers, {"a": b"1"}), make_layer(layers, {"b": b"2"})
    layers.delete(two)

    for store in (layers, open_layers(tmp_path)):
        assert store.exists(())
        assert store.exists((one,))
        assert not store.exists((one, two))


def test_a_layer_whose_only_blob_is_gone_does_not_exist(layers, tmp_path):
    blob_only = make_layer(layers, {"a": b"1"}, unpacked=False)
    unpacked = make_layer(layers, {"a": b"1"})
    for digest in list(layers.blobs.digests()):
        layers.blobs.remove(digest)

    other = open_layers(tmp_path)
    assert not other.exists((blob_only,))
    assert other.exists((unpacked,))
    with pytest.raises(StoreError, match="no longer whole"):
        other.unpacked(blob_only)


def test_a_tree_is_made_once_for_a_snapshot(layers):
    one = make_layer(layers, {"d/a": b"1", "d/b": b"2"})
    two = layers.create([Entry("d", FOLDER, 0o755), Entry("d/a", WHITEOUT)], nothing, unpacked=True)

    tree = layers.tree((one, two))

    assert layers.tree((one, two)) is tree
    assert sorted(tree.nodes) == ["d", "d/b"]
    assert sorted(layers.tree((one,)).nodes) == ["d", "d/a", "d/b"]
    assert layers.tree(()).nodes == {}


def test_old_trees_are_forgotten_and_made_again(layers):
    snapshot = tuple(make_layer(layers, {f"f{number}": b"x"}) for number in range(40))

    for length in range(41):
        layers.tree(snapshot[:length])

    assert len(layers.tree(snapshot[:2]).nodes) == 2
    assert len(layers.tree(snapshot).nodes) == 40
    assert len(layers._trees) <= 32


def test_a_deleted_layer_is_gone_and_deleting_again_is_no_error(layers):
    layer = make_layer(layers, {"a": b"1"})

    layers.delete(layer)
    layers.delete(layer)

    assert left_over(layers) == []
    with pytest.raises(StoreError):
        layers.tree((layer,))


# ── crashes ──────────────────────────────────────────────────────────────────────────────────────────────


def other_boot(tmp_path):
    store = open_layers(tmp_path)
    store.boot = "another boot"
    return store


def test_without_a_barrier_a_layer_is_dropped_in_the_next_boot(layers, tmp_path):
    kept, dropped = make_layer(layers, {"a": b"1"}), make_layer(layers, {"b": b"2"})
    layers.promote([kept])
    assert open_layers(tmp_path).exists((kept, dropped))

    later = other_boot(tmp_path)

    assert later.exists((kept,))
    assert not later.exists((dropped,))
    assert list(later.all()) == [kept]


def test_a_folder_made_after_the_barrier_is_made_again_in_the_next_boot(layers, tmp_path):
    layer = make_layer(layers, {"a": b"1"}, unpacked=False)
    layers.promote([layer])
    (layers.unpacked(layer) / "a").write_bytes(b"as a crash left it")

    later = other_boot(tmp_path)

    assert later.exists((layer,))
    assert read(later, layer, "a") == b"1"
    later.promote([layer])
    assert read(open_layers(tmp_path), layer, "a") == b"1"


def test_promoting_what_is_not_there_or_is_already_is_no_error(layers):
    layer = make_layer(layers, {"a": b"1"})

    layers.promote([layer, "a" * 16])
    layers.promote([layer])

    assert list(layers.all()) == [layer]


def test_a_barrier_promotes_layers_and_their_folders(layers, tmp_path):
    layer, other = make_layer(layers, {"a": b"1"}, unpacked=False), make_layer(layers, {"b": b"2"})
    layers.unpacked(layer)

    layers.barrier([layer])
    layers.barrier([layer, "a" * 16])

    later = other_boot(tmp_path)
    assert later.exists((layer,))
    assert os.path.isdir(os.path.join(layers.folder, layer, layers.tree_name))
    assert not later.exists((other,))


def test_a_mark_cut_short_is_as_none(layers, tmp_path):
    layer = make_layer(layers, {"a": b"1"})
    os.unlink(os.path.join(layers.folder, layer, "boot"))

    assert not open_layers(tmp_path).exists((layer,))


# ── forms ────────────────────────────────────────────────────────────────────────────────────────────────


def test_both_forms_pack_to_the_same_tar(layers):
    files = {"d/a": b"1" * 5000, "d/b": b"", "c": b"2"}
    one, two = make_layer(layers, files), make_layer(layers, files, unpacked=False)

    assert layers.blob(one, GZIP) == layers.blob(two, GZIP)
    assert layers.blob(one, ZSTD).diff_id == layers.blob(two, ZSTD).diff_id == layers.blob(one, GZIP).diff_id


def test_a_blob_is_made_once_and_again_when_it_is_gone(layers, tmp_path):
    layer = make_layer(layers, {"a": b"1"})
    blob = layers.blob(layer, GZIP)
    stamp = os.stat(layers.blobs.path(blob.descriptor.digest)).st_ino
    assert open_layers(tmp_path).blob(layer, GZIP) == blob
    assert os.stat(layers.blobs.path(blob.descriptor.digest)).st_ino == stamp

    layers.blobs.remove(blob.descriptor.digest)

    assert layers.blob(layer, GZIP) == blob
    assert layers.blobs.stat(blob.descriptor.digest) == blob.descriptor.size
    assert layers.blob_digests(layer) == [blob.descriptor.digest]


def test_another_compression_does_not_need_the_folder(layers):
    layer = make_layer(layers, {"a": b"1"}, unpacked=False)

    blob = layers.blob(layer, ZSTD)

    assert blob.descriptor.media_type == spec.OCI_LAYER_ZSTD
    assert not os.path.exists(os.path.join(layers.folder, layer, "tree"))


def test_clamped_times_make_another_blob_and_leave_the_layer_alone(layers):
    layer = make_layer(layers, {"a": b"1"}, unpacked=False, mtime=2000)

    plain, zero = layers.blob(layer, GZIP), layers.blob(layer, GZIP, clamp=0)
    later = layers.blob(layer, GZIP, clamp=3000 * 10**9)

    assert zero.diff_id != plain.diff_id == later.diff_id
    assert layers.blob(layer, ZSTD, clamp=0).diff_id == zero.diff_id
    assert [entry.mtime for entry in layers.entries(layer)] == [2000 * 10**9]
    again = layers.import_blob(zero, unpacked=False)
    assert [entry.mtime for entry in layers.entries(again)] == [0]


def test_a_folder_made_from_a_blob_has_the_times_of_the_index(layers):
    rows = [Entry("d", FOLDER, 0o755, mtime=3_000_000_001), Entry("d/f", FILE, 0o644, mtime=5_000_000_007)]
    layer = layers.create(rows, nothing, unpacked=False)

    tree = layers.unpacked(layer)

    assert (tree / "d").stat().st_mtime_ns == 3_000_000_001
    assert (tree / "d/f").stat().st_mtime_ns == 5_000_000_007


def test_files_called_as_removals_are_still_files_in_a_folder_made_from_a_blob(layers):
    rows = [
        Entry(".wh.f", FILE, 0o644, size=1),
        Entry("d", FOLDER, 0o755),
        Entry("d/.wh.x", FILE),
        Entry("f", WHITEOUT),
    ]
    layer = layers.create(rows, bytes_of({".wh.f": b"x", "d/.wh.x": b""}), unpacked=False)

    folder = layers.unpacked(layer)

    assert sorted(os.listdir(folder)) == [".wh.f", "d", "f"]
    assert (folder / ".wh.f").read_bytes() == b"x"
    assert os.listdir(folder / "d") == [".wh.x"]
    assert (folder / "f").is_char_device()


def test_a_damaged_blob_is_found_out_and_leaves_no_folder(layers):
    layer = make_layer(layers, {"a": b"1"}, unpacked=False)
    (digest,) = layers.blobs.digests()
    other = layers.blob(make_layer(layers, {"a": b"2"}), GZIP)
    path = layers.blobs.path(digest)
    os.chmod(path, 0o600)
    path.write_bytes(wrong := layers.blobs.path(other.descriptor.digest).read_bytes())
    assert len(wrong) == layers.blob(layer, GZIP).descriptor.size  # else it would not count as there

    with pytest.raises(StoreError, match="is damaged"):
        layers.unpacked(layer)

    assert not os.path.exists(os.path.join(layers.folder, layer, "tree"))


def test_many_threads_and_processes_may_ask_for_one_folder(layers, tmp_path):
    files = {f"d/{number}": b"x" * number for number in range(200)}
    layer = make_layer(layers, files, unpacked=False)
    stores = [open_layers(tmp_path) for _ in range(3)]
    found = []

    def ask(store):
        found.append(sorted(os.listdir(store.unpacked(layer) / "d")))

    threads = [threading.Thread(target=ask, args=(store,)) for store in stores for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [sorted(path[2:] for path in files)] * 9
    assert left_over(layers) == [layer]


# ── contexts ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def context(tmp_path):
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "f").write_bytes(b"content")
    os.utime(folder / "f", ns=(5, 5))
    return folder


def lend(layers, context):
    return layers.add_folder(context, [Entry("f", FILE, 0o644, size=7, mtime=5)])


def test_a_context_is_a_layer_of_this_process_alone(layers, context, tmp_path):
    layer = lend(layers, context)

    assert layers.exists((layer,))
    assert not open_layers(tmp_path).exists((layer,))
    assert list(layers.all()) == []
    assert read(layers, layer, "f") == b"content"
    assert layers.digest(layer, layers.entries(layer)[0]).startswith(
        "sha256:ed7002b439e9ac845f22357d822bac14"
    )
    assert sorted(layers.tree((layer,)).nodes) == ["f"]


@pytest.mark.parametrize("change", ["size", "time", "gone", "link", "folder", "fifo"])
def test_a_file_of_a_context_that_is_not_what_it_was_is_an_error(layers, context, change):
    layer = lend(layers, context)
    file = context / "f"
    match change:
        case "size":
            file.write_bytes(b"content!")
            os.utime(file, ns=(5, 5))
        case "time":
            os.utime(file, ns=(6, 6))
        case "gone":
            file.unlink()
        case "link":
            file.rename(context / "g")
            file.symlink_to("g")
        case "folder":
            file.unlink()
            file.mkdir()
        case "fifo":
            file.unlink()
            os.mkfifo(file)

    with pytest.raises(BuildError) as caught:
        layers.open(layer, layers.entries(layer)[0])
    assert caught.value.code == "changed-during-build"


def test_a_context_can_be_unpacked_and_packed_for_a_while(layers, context):
    layer = layers.add_folder(context, [Entry("f", FILE, 0o640, size=7, mtime=5)])

    tree = layers.unpacked(layer)
    blob = layers.blob(layer, GZIP)

    assert (tree / "f").read_bytes() == b"content"
    assert (tree / "f").stat().st_mode & 0o777 == 0o640
    assert layers.blobs.stat(blob.descriptor.digest) == blob.descriptor.size
    layers.close()
    assert left_over(layers) == []
    assert (context / "f").exists()


# ── digests ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_digest_is_hashed_once_and_remembered_on_disk(layers, tmp_path):
    with layers.edit() as edit:
        (edit.upper / "f").write_bytes(b"hello")
        os.link(edit.upper / "f", edit.upper / "g")
        layer = layers.commit(edit, (), [])
    first, second = layers.entries(layer)
    assert (first.digest, second.hardlink) == (None, "f")

    digest = layers.digest(layer, second)
    os.unlink(layers.unpacked(layer) / "f")

    assert layers.digest(layer, first) == digest
    other = open_layers(tmp_path)
    assert other.entries(layer)[0].digest == digest


# ── foreign images ───────────────────────────────────────────────────────────────────────────────────────


def foreign(layers, rows, files=None, compression=GZIP):
    """A blob as from a registry: packed by some other store."""
    layer = layers.create(rows, bytes_of(files or {}), unpacked=True)
    blob = layers.blob(layer, compression)
    layers.delete(layer)
    return blob


@pytest.mark.parametrize("unpacked", [True, False])
def test_a_foreign_blob_becomes_a_layer_once(layers, tmp_path, unpacked):
    blob = foreign(layers, [Entry("d", FOLDER, 0o755), Entry("d/f", FILE, 0o644, size=2)], {"d/f": b"hi"})

    layer = layers.import_blob(blob, unpacked=False)
    again = open_layers(tmp_path).import_blob(blob, unpacked=unpacked)

    assert again == layer
    assert shape(layers, layer) == ["d", "d/f"]
    assert os.path.isdir(os.path.join(layers.folder, layer, layers.tree_name)) == unpacked
    assert layers.settle([layer]) == (layer,)


def test_a_foreign_layer_is_its_blob_as_it_came(layers):
    blob = foreign(layers, [Entry("d", FOLDER, 0o755)], compression=ZSTD)
    docker = spec.LayerBlob(
        spec.Descriptor(spec.DOCKER_LAYER_ZSTD, blob.descriptor.digest, blob.descriptor.size, {"a": "b"}),
        blob.diff_id,
        blob.size,
    )

    layer = layers.import_blob(docker, unpacked=True)

    assert layers.blob(layer, GZIP, clamp=0) == blob
    layers.blobs.remove(blob.descriptor.digest)
    assert layers.blob(layer, GZIP).descriptor.media_type == spec.OCI_LAYER_GZIP


@pytest.mark.parametrize("diff_id", ["sha256:" + "0" * 64, "", "md5:0"])
def test_a_wrong_diff_id_is_an_error_of_the_image(layers, diff_id):
    blob = foreign(layers, [Entry("d", FOLDER, 0o755)])

    with pytest.raises(ImageError, match="diff id"):
        layers.import_blob(spec.LayerBlob(blob.descriptor, diff_id, blob.size), unpacked=True)

    assert left_over(layers) == []


def test_a_blob_that_only_claims_to_be_a_known_layer_is_found_out(layers):
    honest = foreign(layers, [Entry("d", FOLDER, 0o755)])
    layer = layers.import_blob(honest, unpacked=True)
    evil = foreign(layers, [Entry("evil", FOLDER, 0o755)], compression=ZSTD)

    with pytest.raises(ImageError, match="diff id"):
        layers.import_blob(spec.LayerBlob(evil.descriptor, honest.diff_id, 0), unpacked=True)

    assert layers.blob(layer, GZIP) == honest


def test_the_same_layer_in_another_blob_is_the_same_layer(layers):
    rows = [Entry("d", FOLDER, 0o755)]
    layer = layers.import_blob(foreign(layers, rows), unpacked=True)
    other = foreign(layers, rows, compression=ZSTD)

    assert layers.import_blob(other, unpacked=True) == layer
    assert layers.blob(layer, GZIP) == other


@pytest.mark.parametrize("known", [True, False])
def test_a_blob_has_the_media_type_of_what_it_is(layers, known):
    blob = foreign(layers, [Entry("d", FOLDER, 0o755)], compression=ZSTD)
    lying = spec.Descriptor(spec.OCI_LAYER_GZIP, blob.descriptor.digest, blob.descriptor.size)
    if known:
        layers.import_blob(blob, unpacked=False)

    layer = layers.import_blob(spec.LayerBlob(lying, blob.diff_id, blob.size), unpacked=False)

    assert layers.blob(layer, GZIP) == blob


def test_a_hostile_blob_leaves_nothing(layers):
    blob = foreign(layers, [Entry("d", FOLDER, 0o755)])
    digest = layers.blobs.put(b"this is no tar at all" * 100)
    descriptor = spec.Descriptor(spec.OCI_LAYER, digest, 2100)

    with pytest.raises(ImageError):
        layers.import_blob(spec.LayerBlob(descriptor, blob.diff_id, 0), unpacked=True)

    assert left_over(layers) == []


def implied(layers, *paths):
    """A foreign layer with files and no headers for their folders."""
    rows = [Entry(path, FILE, 0o644, size=1) for path in paths]
    return foreign(layers, rows, dict.fromkeys(paths, b"x"))


def test_an_implied_folder_gets_mode_and_owner_of_the_folder_below(layers, tmp_path):
    base = layers.create(
        [Entry("d", FOLDER, 0o1770, mtime=9), Entry("d/e", FOLDER, 0o700)], nothing, unpacked=True
    )
    layer = layers.import_blob(implied(layers, "d/e/f", "new/f"), unpacked=True)

    snapshot = layers.settle([base, layer])

    assert snapshot[0] == base
    assert snapshot[1] != layer
    tree = layers.unpacked(snapshot[1])
    assert [(tree / name).stat().st_mode & 0o7777 for name in ("d", "d/e", "new")] == [0o1770, 0o700, 0o755]
    assert (tree / "d/e/f").read_bytes() == b"x"
    assert layers.blob(snapshot[1], GZIP) == layers.blob(layer, GZIP)
    assert open_layers(tmp_path).settle([base, layer]) == snapshot
    merged = layers.tree(snapshot)
    assert (merged.get("d").mode, merged.nodes["d"].layer, merged.get("new").mode) == (0o1770, base, 0o755)


def test_an_implied_folder_over_nothing_needs_no_variant(layers):
    layer = layers.import_blob(implied(layers, "d/f"), unpacked=True)

    assert layers.settle([layer]) == (layer,)
    assert (layers.unpacked(layer) / "d").stat().st_mode & 0o7777 == 0o755


def test_an_implied_folder_in_place_of_a_removed_one_is_new(layers):
    base = layers.create([Entry("d", FOLDER, 0o700), Entry("d/old", FOLDER, 0o700)], nothing, unpacked=True)
    blob = foreign(layers, [Entry("d/old", WHITEOUT), Entry("d/old2/f", FILE, 0o644)])
    layer = layers.import_blob(blob, unpacked=True)

    snapshot = layers.settle([base, layer])

    assert layers.tree(snapshot).get("d").mode == 0o700
    assert layers.tree(snapshot).get("d/old") is None
    assert layers.tree(snapshot).get("d/old2").mode == 0o755


def test_a_removal_of_what_is_not_there_is_left_out(layers):
    """overlayfs would list its name in a folder that no other layer has."""
    base = make_layer(layers, {"d/old": b"1", "e/old": b"1"})
    rows = [Entry("d/old", WHITEOUT), Entry("d/never", WHITEOUT), Entry("new/never", WHITEOUT)]
    rows += [Entry("e", FOLDER, 0o755), Entry("e", OPAQUE), Entry("e/old", WHITEOUT)]
    layer = layers.import_blob(foreign(layers, rows), unpacked=True)

    snapshot = layers.settle([base, layer])

    removed = [entry.path for entry in layers.entries(snapshot[1]) if entry.kind == WHITEOUT]
    assert removed == ["d/old"]
    tree = layers.unpacked(snapshot[1])
    assert sorted(str(path.relative_to(tree)) for path in tree.rglob("*")) == ["d", "d/old", "e", "new"]
    assert layers.blob(snapshot[1], GZIP) == layers.blob(layer, GZIP)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, which needs root")
def test_owners_and_devices_survive_both_forms(layers):
    rows = [
        Entry("c", CHAR, 0o666, 5, 6, mtime=10**9, device=(1, 3)),
        Entry("f", FILE, 0o4755, 70000, 80000, mtime=10**9),
    ]
    layer = layers.create(rows, nothing, unpacked=False)

    status = os.stat(layers.unpacked(layer) / "f")

    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (70000, 80000, 0o4755)
    device = os.stat(layers.unpacked(layer) / "c")
    assert (device.st_rdev, device.st_uid) == (os.makedev(1, 3), 5)


# ── the cached path ──────────────────────────────────────────────────────────────────────────────────────


def test_looking_a_snapshot_up_imports_nothing_heavy(layers, tmp_path):
    layer = make_layer(layers, {"a": b"1"}, unpacked=False)
    script = """
import sys
before = set(sys.modules)
from builder.snapshots.layers import LayerStore
from builder.store.blobs import BlobStore
root, layer = sys.argv[1:]
layers = LayerStore(root + "/layers", BlobStore(root))
assert layers.exists((layer,)) and layers.tree((layer,)).nodes
heavy = {"typing", "dataclasses", "msgspec", "pathlib", "asyncio", "ctypes", "contextlib", "tempfile", "re"}
print(sorted(heavy & (set(sys.modules) - before)))
"""
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}" + script]

    done = subprocess.run([*command, layers.store, layer], capture_output=True, text=True, check=True)

    assert done.stdout == "['re']\n" or done.stdout == "[]\n"


def test_a_disk_that_refuses_is_an_error_of_the_store(layers, tmp_path):
    broken = LayerStore(tmp_path / "file" / "layers", layers.blobs)
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="not a directory"):
        broken.edit()
    with pytest.raises(StoreError):
        list(broken.all())
