import io
import os
import stat
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import digest
from builder.errors import BuildError, ImageError
from builder.fs.ownership import REAL, RECORDED
from builder.fs.remove import remove_tree
from builder.fs.rooted import open_root, opened
from builder.oci import layer
from builder.oci.compressed import Compression
from builder.snapshots.reading import read_tree
from builder.snapshots.snapshot import BLOCK, CHAR, FIFO, FILE, FOLDER, OPAQUE, SYMLINK, WHITEOUT, Entry
from builder.snapshots.unpack import TreeWriter, write_tree

SECOND = 1_000_000_000
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def write(folder, *entries, content=b"", **options):
    write_tree(folder, entries, lambda entry: io.BytesIO(content), **options)


def read(folder):
    with opened(open_root(folder)) as fd:
        return [entry for entry in read_tree(fd) if entry.path != "."]


def add_all(folder, *entries):
    with TreeWriter(folder) as tree:
        for entry in entries:
            tree.add(entry)


def opener(folder):
    """Opens files by path; the caller closes them."""
    return lambda entry: (folder / entry.path).open("rb")


def own(entry):
    """The entry as one of whoever runs the test."""
    return entry.replace(uid=os.geteuid(), gid=os.getegid())


def archive(*members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name, kind, *rest in members:
            member = tarfile.TarInfo(name)
            member.type = kind.encode()
            member.linkname = rest[0] if kind in "12" else ""
            data = rest[0] if kind == "0" and rest else b""
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return out.getvalue()


def unpack(folder, data):
    with TreeWriter(folder) as tree:
        return layer.scan(io.BytesIO(data), sink=tree)[0]


EVERYTHING = [
    Entry(".", FOLDER, 0o711, 5, 6, mtime=1 * SECOND),
    Entry("bin", FOLDER, 0o1755, 0, 0, mtime=2 * SECOND + 5),
    Entry("bin/ping", FILE, 0o755, 0, 0, 4, -5 * SECOND, xattrs=(("security.capability", CAPABILITY),)),
    Entry("bin/su", FILE, 0o6755, 1, 2, 4, 3 * SECOND),
    Entry("bin/su2", FILE, 0o6755, 1, 2, 4, 3 * SECOND, hardlink="bin/su"),
    Entry("dev", FOLDER, 0o2000, 2**32 - 2, 7, mtime=4 * SECOND),
    Entry("dev/fifo", FIFO, 0o622, 3, 4, mtime=5 * SECOND),
    Entry("dev/loop", BLOCK, 0o660, 0, 6, mtime=6 * SECOND, device=(7, 3)),
    Entry("dev/null", CHAR, 0o666, 0, 0, mtime=7 * SECOND, device=(1, 3)),
    Entry("etc", FOLDER, 0o500, 0, 0, mtime=8 * SECOND),
    Entry("etc", OPAQUE),
    Entry("etc/gone", WHITEOUT),
    Entry(
        "etc/" + os.fsdecode(b"caf\xe9"), SYMLINK, 0o777, 9, 9, mtime=9 * SECOND, link="../../../etc/shadow"
    ),
    Entry("gone", WHITEOUT),
]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and trusted xattrs need root")
def test_a_folder_is_exactly_what_the_entries_say(tmp_path):
    old = os.umask(0o077)
    try:
        write(tmp_path / "t", *EVERYTHING, content=b"data")
    finally:
        os.umask(old)

    with opened(open_root(tmp_path / "t")) as fd:
        assert sorted(read_tree(fd), key=repr) == sorted(EVERYTHING, key=repr)
    assert (tmp_path / "t/bin/su").read_bytes() == b"data"
    assert os.getxattr(tmp_path / "t/etc", "trusted.overlay.opaque") == b"y"
    device = os.lstat(tmp_path / "t/gone")
    assert stat.S_ISCHR(device.st_mode)
    assert device.st_rdev == 0


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and trusted xattrs need root")
def test_a_folder_packed_and_unpacked_is_the_same(tmp_path):
    whole = [entry.replace(mtime=entry.mtime // SECOND * SECOND) for entry in EVERYTHING]
    write(tmp_path / "a", *whole, content=b"data")
    out = io.BytesIO()
    with opened(open_root(tmp_path / "a")) as fd:
        blob = layer.pack(read_tree(fd), opener(tmp_path / "a"), layer.Counted(out), Compression())

    with TreeWriter(tmp_path / "b") as tree:
        entries, diff_id = layer.scan(io.BytesIO(out.getvalue()), sink=tree)

    assert diff_id == blob.diff_id
    with opened(open_root(tmp_path / "b")) as fd:
        found = list(read_tree(fd))
    assert found == [entry.replace(digest=None) for entry in entries]
    assert sorted(found, key=repr) == sorted(whole, key=repr)


def test_missing_folders_are_made(tmp_path):
    entry = own(Entry("a/b/c", FILE, 0o600))
    write(tmp_path / "t", entry, way=RECORDED)

    assert (tmp_path / "t/a/b").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "t/a").stat().st_mtime == 0
    assert read(tmp_path / "t")[-1] == entry


def test_the_last_attributes_of_a_folder_count_and_implied_ones_never(tmp_path):
    write(
        tmp_path / "t", own(Entry("d", FOLDER, 0o700)), own(Entry("d", FOLDER, 0o711, mtime=SECOND)),
        own(Entry("d", FOLDER, 0o755, implied=True)),
    )  # fmt: skip
    assert read(tmp_path / "t") == [own(Entry("d", FOLDER, 0o711, mtime=SECOND))]


@pytest.mark.parametrize("first", [FILE, FOLDER, SYMLINK, FIFO, WHITEOUT])
@pytest.mark.parametrize("second", [FILE, FOLDER, SYMLINK, FIFO])
def test_an_entry_replaces_what_is_there(tmp_path, first, second):
    victim = tmp_path / "victim"
    victim.write_text("kept")
    entries = [
        Entry("x", kind, 0o700, link=str(victim) if kind == SYMLINK else "") for kind in (first, second)
    ]
    with TreeWriter(tmp_path / "t", way=RECORDED) as tree:
        tree.add(entries[0])
        if first == FOLDER:
            tree.add(own(Entry("x/below", FILE, 0o600)))
        tree.add(entries[1].replace(size=3), io.BytesIO(b"new")) if second == FILE else tree.add(entries[1])

    found = [entry.replace(size=0) for entry in read(tmp_path / "t") if entry.path == "x"]
    expected = entries[1].replace(mode=0o777) if second == SYMLINK else entries[1]
    assert found[0] == expected
    assert victim.read_text() == "kept"
    assert (tmp_path / "t/x/below").exists() == (first == second == FOLDER)


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/x", "a//b", "./a", "", "a/.", "a/"])
def test_paths_that_are_not_in_canonical_form_are_refused(tmp_path, path):
    with pytest.raises(ValueError, match="not a path of a layer"), TreeWriter(tmp_path / "t") as tree:
        tree.add(Entry(path, FILE))
    with pytest.raises(ValueError, match="not a path of a layer"), TreeWriter(tmp_path / "u") as tree:
        tree.add(Entry("link", FILE, hardlink=path))


@pytest.mark.parametrize("link", ["/etc", "..", "../outside", "/proc/self/root"])
@pytest.mark.hostile("CVE-2025-47290")
def test_no_entry_is_written_through_a_symlink(tmp_path, link):
    (tmp_path / "outside").mkdir()
    for entry in (
        Entry("link/x", FILE), Entry("link/x", FOLDER), Entry("link/x", WHITEOUT), Entry("link", OPAQUE),
        Entry("link/x", SYMLINK, link="y"), Entry("y", FILE, hardlink="link/passwd"), Entry("link/x/y", FILE),
    ):  # fmt: skip
        with pytest.raises(ImageError):
            add_all(tmp_path / "t", Entry("link", SYMLINK, link=link), entry)
        remove_tree(tmp_path / "t")
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.hostile("CVE-2025-47290", "containerd 2.2.3")
def test_a_folder_that_becomes_a_link_after_it_was_made_is_not_written_through(tmp_path):
    """Of the race only the second half: the folder is swapped between its check and its use."""
    (tmp_path / "outside").mkdir()
    for entry in (
        Entry("d/x", FILE),
        Entry("d/x", FOLDER),
        Entry("d/x", SYMLINK, link="y"),
        Entry("d/x/y", FILE),
    ):
        tree = TreeWriter(tmp_path / "t")
        tree.add(Entry("d", FOLDER))
        (tmp_path / "t/d").rename(tmp_path / "t/aside")
        (tmp_path / "t/d").symlink_to(tmp_path / "outside")
        with pytest.raises(NotADirectoryError):
            tree.add(entry)
        with pytest.raises(NotADirectoryError):
            tree.finish()
        tree.close()
        remove_tree(tmp_path / "t")
    assert list((tmp_path / "outside").iterdir()) == []
    assert stat.S_IMODE((tmp_path / "outside").stat().st_mode) == 0o755


@pytest.mark.hostile("CVE-2021-32760")
def test_attributes_are_not_set_through_a_symlink(tmp_path):
    (tmp_path / "victim").write_text("x")
    before = (tmp_path / "victim").stat()

    write(
        tmp_path / "t", Entry("link", SYMLINK, 0o777, 12, 13, mtime=5 * SECOND, link=str(tmp_path / "victim"))
    )

    after = (tmp_path / "victim").stat()
    assert (before.st_mode, before.st_uid, before.st_mtime_ns) == (
        after.st_mode,
        after.st_uid,
        after.st_mtime_ns,
    )
    assert (tmp_path / "t/link").lstat().st_mtime == 5


@pytest.mark.hostile("CVE-2026-50163")
def test_a_hard_link_into_nothing_names_both_ends(tmp_path, monkeypatch):
    """Nor are there links to what the working folder has by that name."""
    (tmp_path / "cwd/missing").mkdir(parents=True)
    (tmp_path / "cwd/missing/x").write_text("host")
    (tmp_path / "cwd/d").write_text("host")
    (tmp_path / "cwd/new").write_text("host")
    monkeypatch.chdir(tmp_path / "cwd")
    for target in ("missing", "missing/x", "d", "new"):
        with pytest.raises(ImageError, match=f"'new' to '{target}', which it does not hold"):
            add_all(tmp_path / "t", Entry("d", FOLDER), Entry("new", FILE, hardlink=target))
    with pytest.raises(ImageError, match="does not hold"):
        add_all(tmp_path / "t", Entry("gone", WHITEOUT), Entry("smuggled", FILE, hardlink="gone"))
    with pytest.raises(ImageError, match="does not hold"):
        add_all(tmp_path / "t", Entry("d", FOLDER), Entry("d/x", FILE), Entry("d", FILE, hardlink="d/x"))


def test_a_hard_link_replaces_a_file(tmp_path):
    write(
        tmp_path / "t",
        own(Entry("a", FILE, 0o600)),
        own(Entry("b", FILE)),
        own(Entry("b", FILE, hardlink="a")),
    )
    assert (tmp_path / "t/a").samefile(tmp_path / "t/b")


@pytest.mark.hostile("overlay xattrs")
def test_a_device_0_0_is_no_way_to_hide_things(tmp_path):
    with pytest.raises(ImageError, match="device 0:0"), TreeWriter(tmp_path / "t") as tree:
        tree.add(Entry("x", CHAR, device=(0, 0)))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="capabilities need root")
@pytest.mark.hostile("bombs")
def test_capabilities_that_are_none_are_told_with_their_file(tmp_path):
    entry = Entry("bin/su", FILE, xattrs=(("security.capability", b"x" * 20),))
    with pytest.raises(ImageError, match="'bin/su' has capabilities"), TreeWriter(tmp_path / "t") as tree:
        tree.add(entry, io.BytesIO(b""))


@pytest.mark.hostile("CVE-2021-29136")
def test_the_root_cannot_be_replaced(tmp_path):
    with pytest.raises(ImageError, match="root"), TreeWriter(tmp_path / "t") as tree:
        tree.add(Entry(".", SYMLINK, link="/"))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and trusted xattrs need root")
@pytest.mark.parametrize("order", [1, -1])
def test_a_removed_folder_that_is_made_again_hides_the_old_one(tmp_path, order):
    entries = [Entry("d", WHITEOUT), Entry("d", FOLDER, 0o755)][::order]
    write(tmp_path / "t", *entries)
    assert [e.kind for e in read(tmp_path / "t")] == [FOLDER, OPAQUE]


def test_a_removal_leaves_what_the_layer_itself_has(tmp_path):
    write(tmp_path / "t", own(Entry("a", FILE, 0o600)), Entry("a", WHITEOUT))
    assert [e.kind for e in read(tmp_path / "t")] == [FILE]


@pytest.mark.hostile("device nodes")
def test_recorded_owners_and_devices_read_as_they_were_and_need_no_privilege(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refused)
    monkeypatch.setattr(os, "fchown", refused)
    real = os.mknod
    monkeypatch.setattr(os, "mknod", lambda n, m, d=0, **k: real(n, m, d, **k) if d == 0 else refused())

    everything = [e.replace(mode=0o700) if e.path == "dev" else e for e in EVERYTHING if not e.xattrs]
    write(tmp_path / "t", *everything, content=b"data", way=RECORDED)

    with opened(open_root(tmp_path / "t")) as fd:
        found = sorted(read_tree(fd, RECORDED), key=repr)
    bare = [e.replace(uid=0, gid=0) if e.kind in (SYMLINK, FIFO) else e for e in everything]
    assert found == sorted(bare, key=repr)
    assert os.getxattr(tmp_path / "t/bin/su", "user.pybuild.stat") == b"1:2"
    assert os.getxattr(tmp_path / "t/dev/loop", "user.pybuild.stat") == b"0:6:60000:1795"
    assert os.getxattr(tmp_path / "t/etc", "user.overlay.opaque") == b"y"
    assert "user.pybuild.stat" not in os.listxattr(tmp_path / "t/bin")
    with pytest.raises(PermissionError):
        write(tmp_path / "u", Entry("a", FILE, uid=77), way=REAL)


def test_bytes_must_be_what_the_entry_says(tmp_path):
    right = Entry("a", FILE, size=5, digest=digest.of_bytes(b"hello"))
    write(tmp_path / "t", right, content=b"hello", way=RECORDED)
    for number, entry in enumerate((right, right.replace(digest=None), right.replace(size=4))):
        with pytest.raises(BuildError, match="'a' changed during the build"):
            write(tmp_path / str(number), entry, content=b"hello!", way=RECORDED)


def test_files_are_copied_as_files(tmp_path):
    with open(tmp_path / "a", "wb") as file:
        file.truncate(64 << 20)
    write_tree(tmp_path / "t", [Entry("a", FILE, size=64 << 20)], opener(tmp_path))
    assert (tmp_path / "t/a").stat().st_blocks < 100


def test_zeros_of_an_archive_take_no_disk(tmp_path):
    unpack(tmp_path / "t", archive(("zeros", "0", bytes(8 << 20))))
    assert (tmp_path / "t/zeros").stat().st_size == 8 << 20
    assert (tmp_path / "t/zeros").stat().st_blocks < 1000


def test_depth_is_no_limit_and_descriptors_are_few(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    path = "/".join(["level"] * 2000)

    with TreeWriter(tmp_path / "t") as tree:
        tree.add(Entry(path, FILE, 0o600, size=1), io.BytesIO(b"x"))
        assert len(os.listdir("/proc/self/fd")) < before + 80
        tree.add(Entry("top", FOLDER, 0o700))
        tree.add(Entry("top/link", FILE, hardlink=path))

    assert (tmp_path / "t/top/link").read_bytes() == b"x"
    assert len(os.listdir("/proc/self/fd")) == before
    remove_tree(tmp_path / "t")


def test_many_folders_in_any_order_are_written(tmp_path):
    paths = [f"{a}/{b}/{c}" for a in range(7) for b in range(7) for c in range(7)]
    entries = [own(Entry(path, FILE, 0o600)) for path in paths[::-5] + paths[::3]]
    links = [own(Entry(f"links/{n}/x", FILE, 0o600, hardlink=entry.path)) for n, entry in enumerate(entries)]

    write(tmp_path / "t", *entries, *links, way=RECORDED)

    found = {e.path for e in read(tmp_path / "t") if e.kind == FILE}
    assert found == {e.path for e in entries} | {e.path for e in links}


def test_after_an_error_no_descriptor_is_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ImageError):
        unpack(tmp_path / "t", archive(("a/b/c", "0"), ("x", "1", "missing")))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and trusted xattrs need root")
@pytest.mark.hostile("CVE-2026-42574", "CVE-2026-28406")
def test_archives_with_every_trick_stay_inside(tmp_path):
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "folder").mkdir()
    tricks = archive(
        ("../victim", "0", b"evil"), ("/../../" + str(tmp_path / "victim"), "0", b"evil"), ("up", "2", ".."),
        ("up/victim", "0", b"evil"), ("abs", "2", str(tmp_path)), ("abs/victim", "0", b"evil"),
        ("abs/folder/new", "0", b"evil"), ("up/.wh.folder", "0"), ("abs/.wh..wh..opq", "0"),
        ("file", "2", str(tmp_path / "victim")), ("file", "0", b"evil"), ("hard", "1", "up/victim"),
        ("magic", "2", "/proc/self/root"), ("magic" + str(tmp_path / "victim"), "0", b"evil"),
    )  # fmt: skip

    unpack(tmp_path / "t", tricks)

    assert (tmp_path / "victim").read_text() == "kept"
    assert (tmp_path / "folder").is_dir()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "t", "victim"]
    assert list((tmp_path / "folder").iterdir()) == []


parts = st.sampled_from(["a", "b", "c", ".wh.a", ".wh.b", ".wh..wh..opq", "..", "."])
members = st.tuples(
    st.lists(parts, min_size=1, max_size=4).map("/".join),
    st.sampled_from("0125"),
    st.lists(parts, min_size=1, max_size=3).map("/".join),
).map(lambda m: m if m[1] in "12" else m[:2])


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and trusted xattrs need root")
@settings(deadline=None, max_examples=100)
@given(st.lists(members, max_size=10))
def test_what_is_on_disk_is_what_scan_says(tmp_path_factory, found):
    folder = tmp_path_factory.mktemp("any") / "t"
    try:
        entries = unpack(folder, archive(*found))
    except ImageError:
        return
    finally:
        left = {p.name for p in folder.parent.iterdir()} - {"t"}
    assert not left
    on_disk = {(e.path, e.kind) for e in read(folder)} | {(e.path, e.kind) for e in entries if e.path == "."}
    assert on_disk == {(e.path, e.kind) for e in entries}
    again = folder.parent / "again"
    write_tree(again, entries, lambda entry: io.BytesIO(b""))
    assert {(e.path, e.kind) for e in read(again)} == {(e.path, e.kind) for e in read(folder)}
    remove_tree(folder.parent)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and trusted xattrs need root")
def test_a_store_in_a_setgid_folder_gives_its_group_to_nothing(tmp_path):
    os.chown(tmp_path, 0, 77)
    tmp_path.chmod(0o2755)

    write(tmp_path / "t", Entry("d", FOLDER, 0o755), Entry("d/f", FILE, 0o644))

    assert [(e.gid, e.mode) for e in read(tmp_path / "t")] == [(0, 0o755), (0, 0o644)]
