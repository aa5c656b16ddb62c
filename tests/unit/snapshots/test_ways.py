"""Layers where owners are not what they seem: in user namespaces with some ids, and with one."""

from __future__ import annotations

import io
import os
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from builder.errors import BuildError, StoreError
from builder.fs.ownership import MAPPED, REAL, RECORDED, STAT_XATTR
from builder.fs.rooted import open_root, opened
from builder.oci.compressed import Compression
from builder.snapshots.layers import LayerStore
from builder.snapshots.reading import read_tree
from builder.snapshots.snapshot import (
    BLOCK,
    CHAR,
    FIFO,
    FILE,
    FOLDER,
    OPAQUE,
    SYMLINK,
    WHITEOUT,
    Entry,
    Snapshot,
)
from builder.snapshots.unpack import write_tree
from tests.support.layers import bytes_of, open_layers, run_overlay, run_step, shape
from tests.support.namespaces import ONE_ID, SOME_IDS, call_as_root_of, has_user_namespaces

pytestmark = pytest.mark.skipif(not has_user_namespaces(), reason="user namespaces are refused here")

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
SECOND = 10**9
ROWS = [
    Entry("bin", FOLDER, 0o1755, 7, 8, mtime=2 * SECOND),
    Entry("bin/ping", FILE, 0o755, 0, 0, 4, SECOND, xattrs=(("security.capability", CAPABILITY),)),
    Entry("bin/su", FILE, 0o6755, 1, 2, 4, 3 * SECOND),
    Entry("bin/su2", FILE, 0o6755, 1, 2, 4, 3 * SECOND, hardlink="bin/su"),
    Entry("dev", FOLDER, 0o755, mtime=SECOND),
    Entry("dev/fifo", FIFO, 0o622, 3, 4, mtime=5 * SECOND),
    Entry("dev/loop", BLOCK, 0o660, 0, 6, mtime=6 * SECOND, device=(7, 3)),
    Entry("dev/null", CHAR, 0o000, 0, 0, mtime=7 * SECOND, device=(1, 3)),
    Entry("etc", FOLDER, 0o000, 0, 0, mtime=8 * SECOND),
    Entry("etc/link", SYMLINK, 0o777, 9, 9, mtime=9 * SECOND, link="a"),
    Entry("etc/shadow", FILE, 0o000, 0, 42, 4, mtime=9 * SECOND),
]

WAYS = [
    pytest.param(ONE_ID, RECORDED, id="one id"),
    pytest.param(
        SOME_IDS,
        MAPPED,
        id="some ids",
        marks=[
            pytest.mark.root,
            pytest.mark.skipif(os.geteuid() != 0, reason="needs root: maps a range of ids"),
        ],
    ),
]
Rows = Sequence[tuple[int, int, int]]


def facts(entries: Sequence[Entry]) -> list[list[object]]:
    return [[*entry.plain()[:7], *entry.plain()[8:]] for entry in entries if entry.path != "."]


def rows_of(layers: LayerStore, layer: Snapshot) -> list[list[object]]:
    return facts(layers.entries(layer[-1]))


def make(layers: LayerStore) -> Snapshot:
    return (layers.create(ROWS, lambda entry: io.BytesIO(b"data"), unpacked=False),)


def folder_of(layers: LayerStore, snapshot: Snapshot) -> Path:
    return layers.unpacked(snapshot[-1])


def xattrs_below(folder: Path) -> set[str]:
    """The names of all xattrs of files and folders below."""
    paths = [path for path in folder.rglob("*") if not path.is_symlink()]
    return {name for path in paths for name in os.listxattr(path, follow_symlinks=False)}


@pytest.mark.parametrize(("rows", "way"), WAYS)
def test_a_folder_reads_as_its_layer(tmp_path: Path, rows: Rows, way: str) -> None:
    def check() -> None:
        layers = open_layers(tmp_path)
        assert layers.owning.way == way
        snapshot = make(layers)
        with opened(open_root(folder_of(layers, snapshot))) as fd:
            found = [entry for entry in read_tree(fd) if entry.path != "."]

        def known(entry: Entry) -> Entry:
            unknown = way == RECORDED and entry.kind in (SYMLINK, FIFO)
            return entry.replace(uid=0, gid=0) if unknown else entry

        assert facts(found) == facts([known(entry) for entry in ROWS])

    call_as_root_of(rows, check)


@pytest.mark.parametrize(("rows", "way"), WAYS)
def test_a_capability_of_a_namespace_that_is_not_here_stays_in_the_index(
    tmp_path: Path, rows: Rows, way: str
) -> None:
    """The third form of the xattr names the root whom it counts for, here one that has no number."""
    foreign = bytes.fromhex("010000030004000000000000000000000000000070110100")
    entry = Entry("f", FILE, 0o755, mtime=SECOND, xattrs=(("security.capability", foreign),))

    def check() -> None:
        layers = open_layers(tmp_path)
        layer = layers.create([entry], bytes_of({}), unpacked=True)
        assert os.listxattr(layers.unpacked(layer) / "f") == []
        assert facts(layers.entries(layer)) == facts([entry])
        assert way == layers.owning.way

    call_as_root_of(rows, check)


@pytest.mark.parametrize(("rows", "way"), WAYS)
def test_a_step_that_does_nothing_to_a_file_but_touch_it_leaves_its_owner(
    tmp_path: Path, rows: Rows, way: str
) -> None:
    """Copied up by the overlay, with the record or the owner."""

    def check() -> None:
        layers = open_layers(tmp_path)
        script = "touch -h -d @77 bin bin/su bin/ping dev dev/* etc etc/*"
        below = make(layers)
        snapshot = run_step(layers, below, script)
        expected = [entry.replace(mtime=77 * SECOND) for entry in ROWS if entry.kind != FOLDER]
        # A name that an overlay copied up is a file of its own.
        expected = [e.replace(hardlink=None) for e in expected if e.path != "bin/su2"]
        found = [entry for entry in layers.entries(snapshot[-1]) if entry.kind != FOLDER]
        assert facts(found) == facts(expected)
        again = run_step(layers, snapshot, "touch -d @78 dev/loop bin/ping")
        assert [e.device for e in layers.entries(again[-1]) if e.path == "dev/loop"] == [(7, 3)]
        blob = layers.blob(snapshot[-1], Compression())
        assert facts(layers.entries(layers.import_blob(blob, unpacked=True))) == rows_of(layers, snapshot)

    call_as_root_of(rows, check)


@pytest.mark.parametrize(("rows", "way"), WAYS)
def test_what_changed_is_the_same_as_for_the_machines_root(tmp_path: Path, rows: Rows, way: str) -> None:
    scripts = [
        "mkdir -p d/sub; echo 1 > d/a; echo 1 > d/sub/b; mkdir gone; ln -s x l; mkfifo p; echo f > f; ln f g",
        "rm -r d gone; mkdir d; echo 2 > d/new; rm l; ln -s y l; chmod 6711 f; echo more >> g",
        "rm -r d; mkdir d; rm p; mkdir p; true",
    ]
    expected = [
        ["d", "d/a", "d/sub", "d/sub/b", "f", "g", "gone", "l", "p"],
        [".wh.gone", "d", "d/.wh.a", "d/.wh.sub", "d/new", "f", "g", "l"],
        ["d/.wh.new", "p"],
    ]

    def check() -> None:
        layers = open_layers(tmp_path)
        snapshot: Snapshot = ()
        for script in scripts:
            snapshot = run_step(layers, snapshot, script)
            assert not {
                n for n in xattrs_below(folder_of(layers, snapshot)) if not n.startswith("security.")
            } - {
                "user.overlay.opaque"  # over nothing it stays, and hides nothing
            }
        assert [shape(layers, layer) for layer in snapshot] == [expected[0], expected[1], ["d", *expected[2]]]
        assert layers.tree(snapshot).children("d") == []
        with layers.edit() as edit:
            run_overlay(layers, snapshot, edit, "test -d p && ! test -e d/new && ! test -e gone")

    call_as_root_of(rows, check)


@pytest.mark.parametrize(("rows", "way"), WAYS)
def test_a_step_forges_no_more_than_its_own_files_owner(tmp_path: Path, rows: Rows, way: str) -> None:
    forged = {
        "a": b"5:6", "b": b"5:6:20000:259", "c": b"5:6:20000:0", "d": b"5:6:20000:99999999999999",
        "e": b"-1:0", "f": b"\xff\0:", "g": b"5:6:100000:3", "h": b"1" * 60 + b":1", "folder": b"5:6:60000:3",
    }  # fmt: skip

    def check() -> None:
        layers = open_layers(tmp_path)
        with layers.edit() as edit:
            run_overlay(layers, (), edit, "touch a b c d e f g h; echo data > full; mkdir folder")
            for name, value in {**forged, "full": b"7:7:20000:259"}.items():
                os.setxattr(edit.upper / name, STAT_XATTR, value)
                os.setxattr(edit.upper / name, "user.overlay.redirect", b"/etc")
            snapshot = (layers.commit(edit, (), []),)
        found = {entry.path: entry for entry in layers.entries(snapshot[-1])}
        own = (5, 6) if way == RECORDED else (0, 0)
        assert {path: (e.uid, e.gid) for path, e in found.items() if (e.uid, e.gid) != (0, 0)} == (
            {path: (7, 7) if path == "full" else own for path in (*"abcd", "folder", "full")}
            if way == RECORDED
            else {}
        )
        kinds = {path: entry.kind for path, entry in found.items()}
        assert kinds == {**dict.fromkeys([*"acdefgh", "full"], FILE), "b": CHAR, "folder": FOLDER}
        assert found["b"].device == (1, 3)
        folder = folder_of(layers, snapshot)
        assert xattrs_below(folder) == {STAT_XATTR}
        records = {p.name: os.getxattr(p, STAT_XATTR) for p in folder.iterdir() if os.listxattr(p)}
        assert records == (
            {"a": b"5:6", "b": b"5:6:20000:259", "c": b"5:6", "d": b"5:6", "folder": b"5:6", "full": b"7:7"}
            if way == RECORDED
            else {"b": b"0:0:20000:259"}
        )
        with opened(open_root(folder)) as fd:
            assert facts(list(read_tree(fd))) == rows_of(layers, snapshot)

    call_as_root_of(rows, check)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts overlays")
def test_a_record_means_nothing_to_the_machines_root(tmp_path: Path) -> None:
    layers = open_layers(tmp_path)
    with layers.edit() as edit:
        run_overlay(layers, (), edit, "touch a b")
        os.setxattr(edit.upper / "a", STAT_XATTR, b"5:6")
        os.setxattr(edit.upper / "b", STAT_XATTR, b"5:6:20000:259")
        layer = layers.commit(edit, (), [], {"a": (7, 7)})

    assert [(e.kind, e.uid, e.gid) for e in layers.entries(layer)] == [(FILE, 0, 0), (FILE, 0, 0)]
    assert xattrs_below(layers.unpacked(layer)) == set()


def test_owners_of_links_and_fifos_are_what_the_supervisor_tells(tmp_path: Path) -> None:
    def check() -> None:
        layers = open_layers(tmp_path)
        below = make(layers)
        with layers.edit(below) as edit:
            run_overlay(
                layers, below, edit, "ln -s b new; ln -s c bare; mkfifo p; touch -h -d @7 etc/link dev/fifo"
            )
            layer = layers.commit(edit, below, [], {"new": (11, 12), "p": (13, 14), "gone": (1, 1)})
        owners = {e.path: (e.uid, e.gid) for e in layers.entries(layer) if e.kind != FOLDER}
        assert owners == {
            "new": (11, 12), "bare": (0, 0), "p": (13, 14), "etc/link": (9, 9), "dev/fifo": (3, 4),
        }  # fmt: skip

    call_as_root_of(ONE_ID, check)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: maps a range of ids")
@pytest.mark.parametrize("kind", [FILE, FOLDER, SYMLINK])
def test_an_owner_beyond_the_range_is_an_error_that_names_it(tmp_path: Path, kind: str) -> None:
    def check() -> None:
        with pytest.raises(BuildError, match=r"'a/x' belongs to gid 70000.*ends at 59999") as caught:
            write_tree(tmp_path / "t", [Entry("a/x", kind, 0o700, 5, 70000, link="y")], bytes_of({}))
        assert "/etc/subgid" in (caught.value.hint or "")
        assert "--isolation single-uid" in (caught.value.hint or "")

    call_as_root_of(SOME_IDS, check)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a file system without xattrs")
def test_a_file_system_without_xattrs_is_named_once(tmp_path: Path) -> None:
    def check() -> None:
        subprocess.run(["mount", "-t", "ramfs", "ramfs", tmp_path], check=True)
        write_tree(tmp_path / "plain", [Entry("a", FILE, 0o700)], bytes_of({}), way=RECORDED)
        with pytest.raises(StoreError, match="keeps no user xattrs"):
            write_tree(tmp_path / "t", [Entry("a", FILE, 0o700, 5)], bytes_of({}), way=RECORDED)

    subprocess.run(["true"], check=True)
    pid = os.fork()
    if pid == 0:
        try:
            from builder import libc

            libc.unshare(libc.CLONE_NEWNS)
            libc.mount("", "/", "", libc.MS_REC | libc.MS_PRIVATE)
            check()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_folder_kept_in_another_way_does_not_count(tmp_path: Path) -> None:
    real = open_layers(tmp_path)
    layer = real.create([Entry("a", FILE, 0o600)], bytes_of({}), unpacked=True)
    others = {REAL, MAPPED, RECORDED} - {real.owning.way}

    for way in others:
        assert not LayerStore(real.folder, real.blobs, way=way).exists((layer,))
        assert LayerStore(real.folder, real.blobs, way=way, any_way=True).exists((layer,))
    real.blob(layer, Compression())
    for way in others:
        assert LayerStore(real.folder, real.blobs, way=way).exists((layer,))
    assert LayerStore(real.folder, real.blobs).exists((layer,))


def test_each_way_has_a_folder_of_its_own(tmp_path: Path) -> None:
    layers = open_layers(tmp_path)
    layer = layers.create([Entry("a", FILE, 0o600)], bytes_of({}), unpacked=False)

    def check() -> None:
        inside = open_layers(tmp_path)
        inside.unpacked(layer)
        inside.barrier([layer])

    layers.unpacked(layer)
    call_as_root_of(ONE_ID, check)

    names = os.listdir(os.path.join(layers.folder, layer))
    assert {layers.tree_name, "tree-recorded"} <= set(names)
    assert os.readlink(os.path.join(layers.folder, layer, "tree-recorded-boot")) == "promoted"
    layers.delete(layer)
    assert os.listdir(layers.folder) == []


def test_a_folder_that_a_plain_user_made_serves_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File capabilities cannot be set outside of a user namespace."""
    inside = open_layers(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 1000)
        outside = LayerStore(inside.folder, inside.blobs)
    assert outside.owning.way == RECORDED
    layer = outside.create([Entry("a", FILE, 0o600)], bytes_of({}), unpacked=True)

    assert os.path.isdir(os.path.join(outside.folder, layer, "tree-plain"))
    assert outside.exists((layer,))
    assert not LayerStore(inside.folder, inside.blobs, way=MAPPED).exists((layer,))
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 0)
        assert not LayerStore(inside.folder, inside.blobs, way=RECORDED).exists((layer,))


def test_the_mark_for_a_removal_is_an_ordinary_device_everywhere(tmp_path: Path) -> None:
    write_tree(tmp_path / "t", [Entry("gone", WHITEOUT), Entry("d", OPAQUE)], bytes_of({}), way=RECORDED)

    status = os.lstat(tmp_path / "t/gone")
    assert (stat.S_ISCHR(status.st_mode), status.st_rdev) == (True, 0)
    assert os.listxattr(tmp_path / "t/d") == ["user.overlay.opaque"]


@pytest.mark.parametrize(("rows", "way"), WAYS)
def test_two_folders_show_a_layer_whoever_made_them(tmp_path: Path, rows: Rows, way: str) -> None:
    """Changed, added and removed files, their owners, and what a step then leaves."""

    def of(things: dict[str, bytes], uid: int) -> list[Entry]:
        folders = [Entry("d", FOLDER, 0o755, 1, 2, mtime=SECOND), Entry("e", FOLDER, 0o700, mtime=SECOND)]
        return folders + [
            Entry(path, FILE, 0o640, uid, 3, len(data), SECOND) for path, data in things.items()
        ]

    def check() -> None:
        layers = open_layers(tmp_path)
        old = {f"d/{number:03}": b"%d" % number for number in range(80)} | {"e/gone": b""}
        new = {path: data for path, data in old.items() if path != "e/gone"} | {
            "d/003": b"new",
            "e/added": b"x",
        }
        base = layers.create(of(old, 4), bytes_of(old), unpacked=True)
        whole = layers.create(of(new, 4), bytes_of(new), unpacked=True)
        known = [entry.replace() for entry in layers.entries(whole)]
        layer = layers.create(known, bytes_of(new), unpacked=True, model=base)
        assert layers.base(layer) == base
        assert layers.blob(layer, Compression()) == layers.blob(whole, Compression())

        look = "test ! -e e/gone; cat d/003 d/004 e/added > told; rm d/005; chmod 600 d/006;"
        look += "ls d | wc -l >> told"
        over_two = run_step(layers, (layer,), look)
        over_one = run_step(layers, (whole,), look)

        def left(snapshot: Snapshot) -> list[list[object]]:
            return [row[:6] for row in rows_of(layers, snapshot)]

        assert left(over_two) == left(over_one)
        (told,) = [entry for entry in layers.entries(over_two[-1]) if entry.path == "told"]
        with layers.open(over_two[-1], told) as file:
            assert file.read() == b"new4x79\n"
        found = {entry.path: entry for entry in layers.tree(over_two).walk(".")}
        assert (found["d/006"].uid, found["d/006"].gid, found["d/006"].mode) == (4, 3, 0o600)

    call_as_root_of(rows, check)
