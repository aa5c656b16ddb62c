"""What a RUN leaves, by real overlay mounts."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from builder.errors import BuildError
from builder.fs.rooted import opened
from builder.snapshots.layers import LayerStore
from builder.snapshots.reading import read_tree
from builder.snapshots.snapshot import CHAR, FIFO, FILE, FOLDER, SYMLINK, WHITEOUT, Entry, Snapshot
from tests.support.layers import bytes_of, make_layer, open_layers, run_overlay, run_step, shape

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts overlays, which needs root"),
]


@pytest.fixture
def layers(tmp_path: Path) -> LayerStore:
    return open_layers(tmp_path)


def on_disk(layers: LayerStore, snapshot: Snapshot) -> list[Entry]:
    """What the folder of the last layer holds, its root left out."""
    fd = os.open(layers.unpacked(snapshot[-1]), os.O_RDONLY)
    try:
        return [entry for entry in read_tree(fd) if entry.path != "."]
    finally:
        os.close(fd)


def check_folder(layers: LayerStore, snapshot: Snapshot) -> None:
    """The folder holds just what the index says (digests and opaque marks apart)."""
    found = [
        entry.plain()[:7] + entry.plain()[8:] for entry in on_disk(layers, snapshot) if entry.kind != "o"
    ]
    assert found == [entry.plain()[:7] + entry.plain()[8:] for entry in layers.entries(snapshot[-1])]


def merged_names(layers: LayerStore, snapshot: Snapshot) -> list[str]:
    """All paths that a mount of the snapshot shows."""
    with layers.edit() as edit:
        run_overlay(layers, snapshot, edit, f"find . -mindepth 1 > {edit.work.parent}/list")
        text = os.fsdecode((edit.work.parent / "list").read_bytes())
    return sorted(line[2:] for line in text.splitlines())


def steps(layers: LayerStore, *scripts: str) -> Snapshot:
    """The snapshot after several RUNs on scratch; every layer's folder is as its index says."""
    snapshot: Snapshot = ()
    for script in scripts:
        snapshot = run_step(layers, snapshot, script)
        check_folder(layers, snapshot)
    assert merged_names(layers, snapshot) == sorted(
        path for path in layers.tree(snapshot).nodes if path != "."
    )
    return snapshot


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("true", "true", []),
        ("mkdir -p d/sub; touch d/a d/sub/b", "rm -r d", [".wh.d"]),
        ("echo 1 > f", "rm f", [".wh.f"]),
        ("mkdir v; touch v/a v/b", "rm v/*", ["v", "v/.wh.a", "v/.wh.b"]),
        ("echo x > a; mkdir b; touch b/inner; ln -s a c",
         "rm a; mkdir a; touch a/inner; rm -r b; echo x > b; rm c; mkdir c", ["a", "a/inner", "b", "c"]),
        ("mkdir -p d/sub; echo 1 > d/a; echo 1 > d/b; echo 1 > d/sub/c",
         "rm -r d; mkdir -p d/sub; echo 2 > d/a; chmod 700 d",
         ["d", "d/.wh.b", "d/a", "d/sub", "d/sub/.wh.c"]),
        ("mkdir -p d/sub; touch d/old d/sub/old; chmod 700 d", "rm -r d; mkdir d; touch d/new",
         ["d", "d/.wh.old", "d/.wh.sub", "d/new"]),
        ("echo content > f", "chmod 600 f; chmod 644 f", []),
        ("echo content > f", ": >> f", []),
        ("echo content > f; touch -d @1000000 f", "echo content > f; touch -d @1000000 f", []),
        ("echo content > f; touch -d @1000000 f", "echo CONTENT > f; touch -d @1000000 f", ["f"]),
        ("echo content > f; touch -d @1000000 f", "touch -d @2000000 f", ["f"]),
        ("mkdir d; echo content > d/f; echo other > d/g", "chmod 751 d; chmod 640 d/f", ["d", "d/f"]),
        ("mkdir d; touch d/f", "touch -d @7 d", []),
        ("mkdir d", "chown 5:6 d", ["d"]),
        ("echo x > one; ln one two", "rm one", [".wh.one"]),
        ("ln -s target l", "chown -h 5 l; chown -h 0 l", []),
        ("ln -s target l", "ln -sfn other l", ["l"]),
        ("mkdir w", "touch w/a w/.wh.a w/.whb", ["w", "w/.wh.a", "w/.whb", "w/a"]),
        ("mkdir -p d/e; echo 1 > d/e/f; touch -d @5 d/e/f",
         "cp -a d copy; rm -r d; mv copy d", []),
        ("mkdir -p d/e; echo 1 > d/e/f; echo 2 > d/g",
         "cp -a d copy; rm -r d; mv copy d; rm d/g", ["d", "d/.wh.g"]),
        ("touch x", "mkdir -p a/b/c; rm -r a", []),
    ],
)  # fmt: skip
def test_a_layer_holds_what_changed_and_nothing_else(
    layers: LayerStore, first: str, second: str, expected: list[str]
) -> None:
    snapshot = steps(layers, first, second)

    assert shape(layers, snapshot[-1]) == expected


def test_a_path_comes_and_goes_over_many_layers(layers: LayerStore) -> None:
    snapshot = steps(layers, "mkdir d; echo 1 > d/f", "rm -r d", "mkdir d; touch d/new", "rm -r d", "mkdir d")

    assert [shape(layers, layer) for layer in snapshot] == [
        ["d", "d/f"], [".wh.d"], ["d", "d/new"], [".wh.d"], ["d"],
    ]  # fmt: skip
    assert layers.tree(snapshot).children("d") == []


def test_hard_links_made_in_one_step_stay_links(layers: LayerStore) -> None:
    snapshot = steps(layers, "mkdir d; echo x > d/one; ln d/one d/two; ln d/one three")

    entries = {entry.path: entry for entry in layers.entries(snapshot[-1])}
    assert [entries[path].hardlink for path in ("d/one", "d/two", "three")] == [None, "d/one", "d/one"]


@pytest.mark.parametrize("change", ["cp -p f g; rm f; mv g f; ln f h; ln f i", "ln f h; ln f i"])
def test_new_names_of_a_file_that_is_as_it_was_are_linked_to_each_other_only(
    layers: LayerStore, change: str
) -> None:
    snapshot = steps(layers, "echo x > f; touch -d @9 f", change)

    assert [(e.path, e.hardlink) for e in layers.entries(snapshot[-1])] == [("h", None), ("i", "h")]
    with layers.open(snapshot[-1], layers.entries(snapshot[-1])[0]) as file:
        assert file.read() == b"x\n"


def test_in_a_folder_made_anew_a_name_that_is_as_it_was_comes_along(layers: LayerStore) -> None:
    change = "cp -p d/f k; rm -r d; mkdir d; touch -d @9 d; mv k d/f; ln d/f d/h"
    snapshot = steps(layers, "mkdir d; echo x > d/f; touch -d @9 d/f d", change)

    assert [(e.path, e.hardlink) for e in layers.entries(snapshot[-1])][1:] == [("d/f", None), ("d/h", "d/f")]


def test_a_file_written_through_one_of_two_names_leaves_the_other(layers: LayerStore) -> None:
    snapshot = steps(layers, "echo x > one; ln one two", "echo y >> two")

    assert shape(layers, snapshot[-1]) == ["two"]


def test_kinds_owners_modes_and_times_are_those_of_the_files(layers: LayerStore) -> None:
    script = """
        mkfifo -m 620 fifo; mknod -m 660 char c 1 3; mknod -m 600 block b 7 9
        echo hello > f; chown 70000:80000 f; chmod 6755 f; touch -d @-5 f
        ln -s "a b//../c" l; mkdir -m 1777 t
    """
    snapshot = steps(layers, script)

    found = {entry.path: entry for entry in layers.entries(snapshot[-1])}
    assert {path: entry.kind for path, entry in found.items()} == {
        "block": "b", "char": CHAR, "f": FILE, "fifo": FIFO, "l": SYMLINK, "t": FOLDER,
    }  # fmt: skip
    assert (found["char"].device, found["block"].device) == ((1, 3), (7, 9))
    assert found["f"].plain() == ["f", FILE, 0o6755, 70000, 80000, 6, -5 * 10**9]
    assert (found["l"].link, found["t"].mode, found["fifo"].mode) == ("a b//../c", 0o1777, 0o620)


def test_names_that_are_no_utf_8_are_kept(layers: LayerStore) -> None:
    snapshot = steps(layers, r"""mkdir n; touch "n/$(printf 'a\377\376')"; ln -s "$(printf '\374')" n/l""")

    assert [(entry.path, entry.link) for entry in layers.entries(snapshot[-1])] == [
        ("n", ""), ("n/a\udcff\udcfe", ""), ("n/l", "\udcfc"),
    ]  # fmt: skip


def test_of_xattrs_only_capabilities_stay_in_index_and_folder(layers: LayerStore) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    with layers.edit() as edit:
        file = edit.upper / "f"
        file.write_text("x")
        os.setxattr(file, "user.note", b"hello")
        os.setxattr(file, "trusted.overlay.origin", b"x")
        os.setxattr(file, "trusted.overlay.redirect", b"/etc/shadow")
        os.setxattr(file, "security.capability", capability)
        (edit.upper / "d").mkdir()
        os.setxattr(edit.upper / "d", "user.folder", b"x")
        layer = layers.commit(edit, (), [])

    tree = layers.unpacked(layer)
    assert os.listxattr(tree / "f") == ["security.capability"]
    assert os.listxattr(tree / "d") == []
    assert layers.entries(layer)[1].xattrs == (("security.capability", capability),)


def test_a_capability_that_goes_is_a_change(layers: LayerStore) -> None:
    script = "import os; os.{}xattr('f', 'security.capability'{}); os.utime('f', (5, 5))"
    value = "bytes.fromhex('0100000200040000000000000000000000000000')"
    python = "/usr/bin/env python3 -I -S -c"
    snapshot = run_step(layers, (), f'touch f; {python} "{script.format("set", ", " + value)}"')
    again = run_step(layers, snapshot, ": >> f; touch -d @5 f")
    snapshot = run_step(layers, snapshot, f'{python} "{script.format("remove", "")}"')

    assert shape(layers, again[-1]) == []
    assert shape(layers, snapshot[-1]) == ["f"]


def test_a_socket_is_left_out(layers: LayerStore) -> None:
    base = make_layer(layers, {"s/old": b"x", "s/log": b"was a file"})
    with layers.edit((base,)) as edit, socket.socket(socket.AF_UNIX) as server:
        run_overlay(layers, (base,), edit, "touch s/seen; rm s/log")
        (edit.upper / "s/log").unlink()
        with opened(os.open(edit.upper / "s", os.O_PATH)) as folder:  # a socket's path has to be short
            server.bind(f"/proc/self/fd/{folder}/log")
        layer = layers.commit(edit, (base,), [])

    assert shape(layers, layer) == ["s", "s/.wh.log", "s/seen"]
    check_folder(layers, (base, layer))


def test_mount_points_made_for_a_step_are_left_out_with_their_parents(layers: LayerStore) -> None:
    base = make_layer(layers, {"etc/passwd": b"x"})
    script = """
        touch etc/hosts etc/resolv.conf; mkdir -p two/deep/er run/secrets proc sys dev three/deep new
        touch run/secrets/token new/a.txt three/beside made
    """
    stubs = ["/etc/hosts", "/etc/resolv.conf", "/two/deep/er", "/run/secrets/token", "/proc", "/sys", "/dev",
             "/three/deep", "/new/a.txt", "/never/there", "/etc/passwd", "/"]  # fmt: skip

    snapshot = run_step(layers, (base,), script, stubs)

    assert shape(layers, snapshot[-1]) == ["dev", "made", "proc", "sys", "three", "three/beside"]
    check_folder(layers, snapshot)


def test_what_was_written_to_a_mount_point_stays(layers: LayerStore) -> None:
    snapshot = run_step(layers, (), "mkdir -p a/b c; echo x > a/f; echo x > c/in", ["/a/b", "/a/f", "/c"])

    assert shape(layers, snapshot[-1]) == ["a", "a/f", "c", "c/in"]


def test_a_mount_point_behind_a_symlink_is_found(layers: LayerStore) -> None:
    base = run_step(layers, (), "mkdir run; mkdir var; ln -s ../run var/run; ln -s loop loop")

    snapshot = run_step(layers, base, "mkdir run/x; touch run/x/y", ["/var/run/x/y", "/loop/x"])

    assert shape(layers, snapshot[-1]) == []


def test_a_mount_point_that_was_there_before_is_no_stub(layers: LayerStore) -> None:
    base = run_step(layers, (), "mkdir d; touch e")

    snapshot = run_step(layers, base, "chmod 700 d; touch e", ["/d", "/e"])

    assert shape(layers, snapshot[-1]) == ["d", "e"]


@pytest.mark.hostile("CVE-2024-23652")
def test_links_in_the_upper_folder_are_not_followed(layers: LayerStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("keep me")
    (outside / "stub").write_text("")
    base = make_layer(layers, {"d/victim": b"x", "d/other": b"y"})

    snapshot = run_step(layers, (base,), f"rm -r d; ln -s {outside} d; ln -s {outside}/victim link")
    again = run_step(
        layers, snapshot, f"rm d link; ln -s {outside} d; ln -s {outside}/victim link", ["/d/stub"]
    )

    assert shape(layers, snapshot[-1]) == ["d", "link"]
    assert shape(layers, again[-1]) == ["d", "link"]
    assert (outside / "victim").read_text() == "keep me"
    assert sorted(os.listdir(outside)) == ["stub", "victim"]


def test_a_deep_tree_is_committed_and_a_too_deep_one_is_refused(layers: LayerStore) -> None:
    folders, long = "/".join("a" * 300), "/".join(["x" * 200] * 15)
    deep = run_step(layers, (), f"mkdir -p {folders}; touch {folders}/f")
    assert len(layers.entries(deep[-1])) == 301
    assert shape(layers, run_step(layers, deep, "rm -r a")[-1]) == [".wh.a"]

    with pytest.raises(BuildError, match="4095 bytes"):
        run_step(layers, (), f"mkdir -p {long}; cd -P {long}; mkdir -p {long}")
    assert os.listdir(os.path.join(layers.store, "ingest")) == []


def test_folders_keep_their_times_when_stubs_are_taken_out(layers: LayerStore) -> None:
    base = make_layer(layers, {"etc/passwd": b"x"})

    snapshot = run_step(layers, (base,), "touch etc/hosts etc/kept; touch -d @77 etc", ["/etc/hosts"])

    (entry, _) = layers.entries(snapshot[-1])
    assert (entry.path, entry.mtime) == ("etc", 77 * 10**9)
    assert os.stat(layers.unpacked(snapshot[-1]) / "etc").st_mtime == 77


def test_a_folder_made_anew_hides_what_was_below_also_when_it_is_unpacked_again(layers: LayerStore) -> None:
    from builder.oci.compressed import Compression

    snapshot = steps(layers, "mkdir -p d/sub; touch d/old d/sub/old", "rm -r d; mkdir -p d/sub; touch d/new")
    blob = layers.blob(snapshot[-1], Compression())

    again = layers.import_blob(blob, unpacked=True)

    assert merged_names(layers, (snapshot[0], again)) == ["d", "d/new", "d/sub"]
    assert not [name for name in os.listxattr(layers.unpacked(snapshot[-1]) / "d") if "opaque" in name]
    whiteout = os.stat(layers.unpacked(snapshot[-1]) / "d/old")
    assert (stat.S_ISCHR(whiteout.st_mode), whiteout.st_rdev) == (True, 0)


def test_a_step_on_a_layer_that_is_only_a_blob_sees_and_compares_it(layers: LayerStore) -> None:
    base = make_layer(layers, {"d/f": b"content", "d/g": b"x"}, unpacked=False)

    snapshot = run_step(layers, (base,), ": >> d/f; rm d/g")

    assert [(e.path, e.kind) for e in layers.entries(snapshot[-1])] == [("d", FOLDER), ("d/g", WHITEOUT)]


def test_the_root_of_a_step_has_the_mode_and_owner_that_it_has_below(layers: LayerStore) -> None:
    base = layers.create([Entry(".", FOLDER, 0o1711, 5, 6)], bytes_of({}), unpacked=True)

    snapshot = run_step(layers, (base,), "stat -c '%a %u:%g' . > stat")

    assert (layers.unpacked(snapshot[-1]) / "stat").read_text() == "1711 5:6\n"


def test_a_step_that_is_not_committed_leaves_nothing(layers: LayerStore) -> None:
    base = make_layer(layers, {"f": b"x"})

    with pytest.raises(subprocess.CalledProcessError):
        run_step(layers, (base,), "touch a; rm f; exit 3")

    assert list(layers.all()) == [base]
    assert os.listdir(os.path.join(layers.store, "ingest")) == []
